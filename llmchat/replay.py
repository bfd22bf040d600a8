"""Making the replies of a transcript again, with the sliders moving as they did.

reply ─ parts ─ one request each: its settings token by token, the tokens the person
  │              chose, the prompt fitted as then ─▶ worker ─▶ the same ids, or not
  └ model ─ opened anew where replies of several models stand side by side
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest

from llmchat.chat.generation_config import SPEC_BY_NAME, GenerationConfig
from llmchat.chat.model import ModelInfo, ModelSpec, recorded_tokenizer
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, Turn
from llmchat.errors import ModelLoadError
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    LoadRequest,
    ModelLoaded,
    ModelLoadFailed,
    Request,
)

_NO_LIMIT = int(SPEC_BY_NAME["max_new_tokens"].maximum)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """How one reply came out the second time."""

    turn: Turn
    token_ids: tuple[int, ...] = ()
    """The tokens of the second time; none if the reply was passed over."""
    text: str = ""
    first_difference: int | None = None
    """Index of the first token that differs; None if all are equal."""
    passed_over: str = ""
    """Why the reply was not made again; "" if it was."""


class Schedule:
    """The settings of a recorded reply, or of one of its parts, token by token; after the last it says `done`."""

    def __init__(self, reply: Reply, start: int = 0, end: int | None = None) -> None:
        """A schedule that has not begun.

        Args:
            reply: What was recorded.
            start: The first token of the part.
            end: The token before which the part ends; by default behind the last.
        """
        self.done = threading.Event()
        """Set when there is nothing left to make."""
        self._reply = reply
        self._start = start
        self._end = len(reply.token_ids) if end is None else end
        self._configs: dict[int, GenerationConfig] = {}

    def __call__(self, token_index: int) -> GenerationConfig:
        """The settings for the token with this index."""
        if token_index >= self._end:
            self.done.set()
        reached = sum(change.token_index <= token_index for change in self._reply.changes)
        # The limit at the first token stays as it was: by it, the prompt was cut to fit.
        key = -1 if token_index == self._start else reached
        if key not in self._configs:
            config = self._reply.config_at(token_index)
            limit = config.max_new_tokens if key < 0 else _NO_LIMIT
            # What ended the reply may have been a person, so nothing but its length ends it now.
            self._configs[key] = config.changed(max_new_tokens=limit, stop=(), seed=None)
        return self._configs[key]


def replay(
    transcript: Transcript, spec: ModelSpec, *, any_model: bool = False, turn_id: str | None = None
) -> Iterator[ReplayResult]:
    """Generate replies again, those of one model after those of another.

    With the same machine, precision, threads and torch, no token differs.

    Args:
        transcript: The conversation.
        spec: The model that the conversation began with, and where models run.
        any_model: Make every reply with this model, whatever model made it.
        turn_id: The only reply to make; by default every one.

    Raises:
        LlmchatError: The model could not be opened, there is no such reply, or a reply could not be made.
    """
    turns = [transcript.turn(turn_id)] if turn_id is not None else list(transcript)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    worker = InferenceWorker(events.put)
    worker.start()
    try:
        for wanted, group in _by_model(turns, transcript, spec, any_model=any_model).items():
            try:
                loaded = _answer(worker, events, LoadRequest(wanted))
            except ModelLoadError as error:
                if wanted == spec:
                    raise
                yield from (ReplayResult(turn, passed_over=error.message) for turn in group)
                continue
            assert isinstance(loaded, ModelLoaded)
            for turn in group:
                yield _replay_turn(turn, transcript, loaded.info, worker, events, any_model=any_model)
    finally:
        worker.close()


def _by_model(
    turns: Sequence[Turn], transcript: Transcript, spec: ModelSpec, *, any_model: bool
) -> dict[ModelSpec, list[Turn]]:
    """The turns with drawn replies, by the model that is to make them again; arguments as for `replay`."""
    groups: dict[ModelSpec, list[Turn]] = {}
    for turn in turns:
        reply = turn.reply
        if reply is None or not reply.token_ids:
            continue
        wanted = spec
        if not any_model and reply.model_path and reply.model_path != transcript.model_path:
            tokenizer = recorded_tokenizer(reply.model_path, reply.tokenizer_path)
            wanted = replace(spec, model=reply.model_path, tokenizer=tokenizer)
        groups.setdefault(wanted, []).append(turn)
    return groups


def _replay_turn(
    turn: Turn,
    transcript: Transcript,
    info: ModelInfo,
    worker: InferenceWorker,
    events: queue.SimpleQueue[Event],
    *,
    any_model: bool,
) -> ReplayResult:
    """Make one reply again, part by part, until a token differs."""
    reply = turn.reply
    assert reply is not None
    if not any_model and reply.model != info.name:
        return ReplayResult(turn, passed_over=f"made by {reply.model or 'another model'}; give it with --model")
    again = Reply("", (), "cancelled", "", reply.config, reply.seed)
    for start, end in pairwise((0, *reply.parts, len(reply.token_ids))):
        if start < end:
            again = _replay_part(reply, start, end, transcript.asked(turn.id), worker, events)
            if again.token_ids != reply.token_ids[:end]:
                break
    return ReplayResult(turn, again.token_ids, again.text, _first_difference(reply.token_ids, again.token_ids))


def _replay_part(
    reply: Reply,
    start: int,
    end: int,
    turns: tuple[Turn, ...],
    worker: InferenceWorker,
    events: queue.SimpleQueue[Event],
) -> Reply:
    # Whether an end token comes where it came shows in one token more.
    ends_itself = end == len(reply.token_ids) and reply.finish_detail.startswith("end token")
    schedule = Schedule(reply, start, end + ends_itself)
    request = GenerationRequest(
        turns=turns,
        config=schedule,
        seed=reply.seed,
        raw=reply.raw,
        prefill_text=reply.prefill_text,
        continued_ids=reply.token_ids[:start],
        forced=tuple(pick for pick in reply.forced if start <= pick[0] < end),
        continued_from=reply if start else None,
        cancel=schedule.done,
    )
    finished = _answer(worker, events, request)
    assert isinstance(finished, GenerationFinished)
    return finished.reply


def _answer(worker: InferenceWorker, events: queue.SimpleQueue[Event], request: Request) -> Event:
    """Submit a request and wait for its terminal event; a failure is raised."""
    worker.submit(request)
    while True:
        match event := events.get():
            case ModelLoadFailed() | GenerationFailed():
                raise event.error
            case ModelLoaded() | GenerationFinished():
                return event


def _first_difference(recorded: tuple[int, ...], again: tuple[int, ...]) -> int | None:
    pairs = enumerate(zip_longest(recorded, again))
    return next((index for index, (one, other) in pairs if one != other), None)
