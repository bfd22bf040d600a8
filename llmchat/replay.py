"""Making every reply of a transcript again, with the sliders moving as they did."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, Turn
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


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """How one reply came out the second time."""

    turn: Turn
    token_ids: tuple[int, ...] = ()
    """The tokens of the second time; none if the reply was passed over."""
    first_difference: int | None = None
    """Index of the first token that differs; None if all are equal."""
    is_passed_over: bool = False
    """Whether another model made the reply than the one that is open."""


class Schedule:
    """The settings of a recorded reply, token by token."""

    def __init__(self, reply: Reply) -> None:
        """The schedule of a reply, which asks for exactly as many tokens as it has."""
        length = len(reply.token_ids)
        self._steps: list[tuple[int, GenerationConfig]] = []
        for start in sorted({0, 1, *(change.token_index for change in reply.changes)}):
            config = reply.config_at(start)
            # The limit at the first token stays as it was: by it, the prompt was cut to fit.
            limit = length if start else config.max_new_tokens
            # What ended the reply may have been a person, so nothing but its length ends it now.
            lengths = {"max_new_tokens": limit, "min_new_tokens": min(config.min_new_tokens, limit)}
            self._steps.append((start, config.changed(**lengths, stop=(), seed=None)))

    def __call__(self, token_index: int) -> GenerationConfig:
        """The settings for the token with this index."""
        return next(config for start, config in reversed(self._steps) if start <= token_index)


def replay(transcript: Transcript, spec: ModelSpec, *, any_model: bool = False) -> Iterator[ReplayResult]:
    """Generate every reply again, in the order in which they were made.

    With the same machine, precision, threads and torch, no token differs.

    Args:
        transcript: The conversation.
        spec: The model to make the replies with.
        any_model: Make those again too that a model of another name made.

    Raises:
        LlmchatError: The model could not be opened, or a reply could not be made.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    worker = InferenceWorker(events.put)
    worker.start()
    try:
        loaded = _answer(worker, events, LoadRequest(spec))
        assert isinstance(loaded, ModelLoaded)
        for turn in transcript:
            if turn.reply is None or not turn.reply.token_ids:
                continue
            if any_model or turn.reply.model == loaded.info.name:
                yield _replay_turn(turn, turn.reply, transcript, worker, events)
            else:
                yield ReplayResult(turn, is_passed_over=True)
    finally:
        worker.close()


def _replay_turn(
    turn: Turn, reply: Reply, transcript: Transcript, worker: InferenceWorker, events: queue.SimpleQueue[Event]
) -> ReplayResult:
    before = transcript.path(turn.parent) if turn.parent is not None else ()
    request = GenerationRequest(
        turns=before,
        config=Schedule(reply),
        seed=reply.seed,
        raw=reply.raw,
        prefill_text=reply.prefill_text,
        forced=reply.forced,
    )
    finished = _answer(worker, events, request)
    assert isinstance(finished, GenerationFinished)
    again = finished.reply.token_ids
    return ReplayResult(turn, again, _first_difference(reply.token_ids, again))


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
