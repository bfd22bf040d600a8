"""Several replies to one prompt at once: one prefill, then one batched forward for each token of all.

With equal seeds the lanes throw the same dice, so where they part is their settings'
doing. Until then they share a row of the batch: what is common is computed once, and
lanes with equal settings cannot part. A lane that has ended leaves the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply
from llmchat.engine.engine import Engine, Fork, Logits, PrefillProgress, StopSignal
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

    def __iter__(self) -> Iterator[tuple[int, ReplyPiece | None]]:
        """Draw a token for every lane in turn, until all have ended; None in place of a piece ends a lane.

        Raises:
            GenerationError: The model's numbers are not finite.
        """
        for lane, writer in enumerate(self._writers):
            if beginning := writer.begin():
                yield lane, beginning
        if self._logits is None:
            return
        fork, logits = self._engine.fork(1), [self._logits]
        rows = dict.fromkeys(range(len(self._writers)), 0)
        while rows:
            drawn: dict[int, tuple[int, int]] = {}
            for lane, row in rows.items():
                writer = self._writers[lane]
                piece = None if writer.is_over() else writer.write(logits[row])
                if piece is not None and piece.token_id is not None:
                    yield lane, piece
                    if not writer.is_over():
                        drawn[lane] = (row, piece.token_id)
                        continue
                if held := writer.end():
                    yield lane, held
                yield lane, None
            rows, logits = _advance(fork, drawn, len(logits))

    def reply(self, lane: int) -> Reply:
        """One lane's reply so far."""
        return self._writers[lane].reply()

    def replies(self) -> list[Reply]:
        """Every lane's reply so far."""
        return [writer.reply() for writer in self._writers]


def _advance(fork: Fork, drawn: Mapping[int, tuple[int, int]], row_count: int) -> tuple[dict[int, int], list[Logits]]:
    """Run the model over what the lanes have drawn.

    Args:
        fork: Has a row for every text that lanes have in common.
        drawn: For each lane that goes on, its row and the token that follows there.
        row_count: How many rows the fork has.

    Returns:
        Each lane's row from here on, and each row's logits.
    """
    if not drawn:
        return {}, []
    steps = list(dict.fromkeys(drawn.values()))
    if (kept := [row for row, _ in steps]) != list(range(row_count)):
        fork.keep(kept)
    rows = {lane: steps.index(step) for lane, step in drawn.items()}
    return rows, fork.decode([token_id for _, token_id in steps])


def _always(config: GenerationConfig) -> Callable[[int], GenerationConfig]:
    """The same settings for every token."""
    return lambda token_index: config
