"""Several replies to one prompt at once: one prefill, then one batched forward for each token of all.

Lanes that have ended leave the batch. With equal seeds the lanes throw the same
dice, so where they part is their settings' doing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply
from llmchat.engine.engine import Engine, Logits, PrefillProgress, StopSignal
from llmchat.engine.prompt import Prompt
from llmchat.engine.reply_writer import ReplyPiece, ReplyWriter


@dataclass(frozen=True, slots=True)
class Lane:
    """One reply of a batch: its settings and its dice."""

    config: GenerationConfig
    seed: int


class BatchStream:
    """Replies side by side. Call `prefill`, then iterate; `replies` gives them all at any time."""

    def __init__(
        self, engine: Engine, prompt: Prompt, lanes: Sequence[Lane], should_stop: StopSignal = lambda: False
    ) -> None:
        """Replies that have not begun.

        Args:
            engine: The open model.
            prompt: What all of them answer.
            lanes: Settings and seed of each.
            should_stop: Asked before every step.
        """
        self._engine = engine
        self._prompt = prompt
        self._should_stop = should_stop
        self._logits: Logits | None = None
        self._writers = [ReplyWriter(engine, prompt, _always(lane.config), lane.seed, should_stop) for lane in lanes]

    def prefill(self, on_progress: PrefillProgress | None = None) -> int:
        """Read the prompt once for all; returns how many tokens were already in the KV cache."""
        began = time.perf_counter()
        result = self._engine.prefill(self._prompt.token_ids, self._should_stop, on_progress)
        self._logits = result.logits
        for writer in self._writers:
            writer.cached_tokens = result.cached_tokens
            writer.prefill_seconds = time.perf_counter() - began
        return result.cached_tokens

    def __iter__(self) -> Iterator[tuple[int, ReplyPiece]]:
        """Draw a token for every lane in turn, until all have ended.

        Raises:
            GenerationError: The model's numbers are not finite.
        """
        for lane, writer in enumerate(self._writers):
            if beginning := writer.begin():
                yield lane, beginning
        if self._logits is None:
            return
        running = list(range(len(self._writers)))
        fork = self._engine.fork(len(running))
        rows = [self._logits] * len(running)
        while running:
            drawn: list[tuple[int, int]] = []
            for row, lane in enumerate(running):
                writer = self._writers[lane]
                piece = None if writer.is_over() else writer.write(rows[row])
                if piece is not None and piece.token_id is not None:
                    yield lane, piece
                    if not writer.is_over():
                        drawn.append((row, piece.token_id))
                        continue
                if held := writer.end():
                    yield lane, held
            if len(drawn) < len(running):
                fork.keep([row for row, _ in drawn])
                running = [running[row] for row, _ in drawn]
            if running:
                rows = fork.decode([token_id for _, token_id in drawn])

    def replies(self) -> list[Reply]:
        """Every lane's reply so far."""
        return [writer.reply() for writer in self._writers]


def _always(config: GenerationConfig) -> Callable[[int], GenerationConfig]:
    """The same settings for every token."""
    return lambda token_index: config
