"""Making every reply of a transcript again, with the sliders moving as they did."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass

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
    token_ids: tuple[int, ...]
    first_difference: int | None
    """Index of the first token that differs; None if all are equal."""


class Schedule:
    """The settings of a recorded reply, token by token."""

    def __init__(self, reply: Reply) -> None:
        # Exactly the recorded tokens are asked for; what ended the reply may have been a person.
        length = len(reply.token_ids)
        self._steps: list[tuple[int, GenerationConfig]] = []
        values = {**reply.config.to_mapping(), "max_new_tokens": length, "stop": ()}
        for start, moved in [(0, {}), *((change.token_index, dict(change.values)) for change in reply.changes)]:
            values.update(moved)
            values |= {"max_new_tokens": length, "stop": (), "seed": None}
            values["min_new_tokens"] = min(int(str(values["min_new_tokens"])), length)
            self._steps.append((start, GenerationConfig.from_mapping(values)))

    def __call__(self, token_index: int) -> GenerationConfig:
        """The settings for the token with this index."""
        return next(config for start, config in reversed(self._steps) if start <= token_index)


def replay(transcript: Transcript, spec: ModelSpec) -> Iterator[ReplayResult]:
    """Generate every reply again, in the order in which they were made.

    With the same machine, precision, threads and torch, no token differs.

    Raises:
        LlmchatError: The model could not be opened, or a reply could not be made.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    worker = InferenceWorker(events.put)
    worker.start()
    try:
        _answer(worker, events, LoadRequest(spec))
        for turn in transcript:
            if turn.reply is not None and turn.reply.token_ids:
                yield _replay_turn(turn, turn.reply, transcript, worker, events)
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
    for index, (one, other) in enumerate(zip(recorded, again, strict=False)):
        if one != other:
            return index
    return None if len(recorded) == len(again) else min(len(recorded), len(again))
