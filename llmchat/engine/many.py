"""Replies to many prompts: lanes that advance together, each filled again when its reply ends.

    jobs ─ prompt ─ prefill ─▶ lane ─ logits ─ draw ─ token ─┐
                                 ▲────── one step of all ◀───┘      ended: the next job takes its place

Each reply is the one that is made alone, token for token.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.job import Job
from llmchat.chat.turn import Reply
from llmchat.engine.engine import Engine, Lanes, Logits, StopSignal
from llmchat.engine.free_memory import free_memory
from llmchat.engine.generation import ReplyStream
from llmchat.engine.prompt import Prompt, build_prompt
from llmchat.engine.reply_writer import ReplyWriter
from llmchat.errors import LlmchatError

MOST_LANES = 16
"""More at once take more memory and no less time."""

_MEMORY_SHARE = 4
"""The KV caches of all lanes together take this part of the memory that is free at the beginning, at most."""

Outcome = Reply | LlmchatError
"""What became of a job: an error is its own, and the others go on."""


def prompt_of(engine: Engine, job: Job, should_stop: StopSignal = lambda: False) -> Prompt:
    """What a job gives the model to read.

    Raises:
        UsageError: There is nothing to read.
        GenerationError: It does not fit, or the template fails.
    """
    wanted = job.config.max_new_tokens
    return build_prompt(
        engine,
        job.turns,
        raw=job.raw,
        prefill_text=job.prefill_text,
        reply_room=max(1, min(wanted, engine.info.context_length // 4)),
        template_args=job.config.template_args,
        should_stop=should_stop,
    )


class ManyReplies:
    """The replies to many jobs. Iterate once: each job's place and outcome come as it ends, in no order."""

    def __init__(
        self,
        engine: Engine,
        jobs: Sequence[Job],
        should_stop: StopSignal = lambda: False,
        on_tokens: Callable[[int], object] = lambda tokens: None,
    ) -> None:
        """Replies that have not begun.

        Args:
            engine: The open model.
            jobs: What is to be answered.
            should_stop: Asked before every step; then what runs ends as it is, and what waits is left out.
            on_tokens: Told after every step how many tokens were drawn in all.
        """
        self._engine, self._should_stop, self._on_tokens = engine, should_stop, on_tokens
        self._waiting = deque(enumerate(jobs))
        self._first: Prompt | None = None  # of those that wait, while there is no room for it
        self._running: list[_Running] = []
        free = free_memory()
        self._room = None if free is None else free // _MEMORY_SHARE
        self._tokens = 0

    def __iter__(self) -> Iterator[tuple[int, Outcome]]:
        """Answer the jobs."""
        while self._waiting and not self._should_stop():
            self._engine.lora_scale = scale = self._waiting[0][1].config.lora_scale
            lanes = self._engine.lanes()
            if lanes is None:
                yield self._alone(*self._waiting.popleft())
                continue
            yield from self._fill(lanes, scale)
            while self._running:
                yield from self._step(lanes)
                yield from self._fill(lanes, scale)

    def _alone(self, place: int, job: Job) -> tuple[int, Outcome]:
        """One job by itself."""
        try:
            prompt = prompt_of(self._engine, job, self._should_stop)
            stream = ReplyStream(self._engine, prompt, _always(job.config), job.seed, self._should_stop)
            stream.prefill()
            for piece in stream:
                self._count(int(piece.token_id is not None))
        except LlmchatError as error:
            return place, error
        return place, stream.reply()

    def _fill(self, lanes: Lanes, scale: float) -> Iterator[tuple[int, Outcome]]:
        """Let waiting jobs take the lanes that are free; those under another scale wait until all have ended."""
        while self._waiting and len(self._running) < MOST_LANES and not self._should_stop():
            place, job = self._waiting[0]
            if job.config.lora_scale != scale:
                return
            try:
                prompt = self._first = self._first or prompt_of(self._engine, job, self._should_stop)
                positions = min(len(prompt.token_ids) + job.config.max_new_tokens, self._engine.info.context_length)
                if not self._has_room(positions):
                    return
                running = self._begin(place, job, prompt, positions)
            except LlmchatError as error:
                running = None
                yield place, error
            self._waiting.popleft()
            self._first = None
            if running is not None:
                lanes.join()
                self._running.append(running)

    def _begin(self, place: int, job: Job, prompt: Prompt, positions: int) -> _Running | None:
        """Read a job's prompt; None if that was stopped."""
        writer = ReplyWriter(self._engine, prompt, _always(job.config), job.seed, self._should_stop)
        began = time.perf_counter()
        read = self._engine.prefill(prompt.token_ids, self._should_stop)
        writer.cached_tokens, writer.prefill_seconds = read.cached_tokens, time.perf_counter() - began
        if read.logits is None:
            return None
        writer.begin()
        return _Running(place, writer, read.logits, positions)

    def _has_room(self, positions: int) -> bool:
        """Whether one more text of so many positions may be in memory; one alone always may."""
        if self._room is None or not self._running:
            return True
        weights = self._engine.streamed_bytes(0)
        wanted = (positions, *(running.positions for running in self._running))
        return sum(self._engine.streamed_bytes(count) - weights for count in wanted) <= self._room

    def _count(self, tokens: int) -> None:
        self._tokens += tokens
        self._on_tokens(self._tokens)

    def _step(self, lanes: Lanes) -> Iterator[tuple[int, Outcome]]:
        """Draw a token in every lane, and run the model over those that go on."""
        drawn = [running.draw() for running in self._running]
        kept = [row for row, token in enumerate(drawn) if isinstance(token, int)]
        self._count(len(kept))
        yield from (
            (running.place, outcome)
            for running, outcome in zip(self._running, drawn, strict=True)
            if not isinstance(outcome, int)
        )
        if len(kept) < len(drawn):
            lanes.keep(kept)
            self._running = [self._running[row] for row in kept]
        if kept:
            logits = lanes.decode([token for token in drawn if isinstance(token, int)])
            for running, row in zip(self._running, logits, strict=True):
                running.logits = row


@dataclass(slots=True)
class _Running:
    """A reply in a lane."""

    place: int
    writer: ReplyWriter
    logits: Logits
    positions: int
    """How many its text can have at the most."""

    def draw(self) -> int | Outcome:
        """The next token, or what became of the reply if it has ended."""
        writer = self.writer
        try:
            piece = None if writer.is_over() else writer.write(self.logits)
            if piece is not None and piece.token_id is not None and not writer.is_over():
                return piece.token_id
            writer.end()
        except LlmchatError as error:
            return error
        return writer.reply()


def _always(config: GenerationConfig) -> Callable[[int], GenerationConfig]:
    """The same settings for every token."""
    return lambda token_index: config
