"""Several replies to one prompt at once: one prefill, then one batched forward for each token of all.

With equal seeds the lanes throw the same dice, so where they part is their settings'
doing. Until then they share a row of the batch: what is common is computed once, and
lanes with equal settings cannot part. A lane that has ended leaves the batch. Lanes with
another scale of the adapter are a batch of their own, for they read another prompt.
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
        self._groups: list[_Group] = []
        self._writers = [ReplyWriter(engine, prompt, _always(lane.config), lane.seed, should_stop) for lane in lanes]

    def prefill(self, on_progress: PrefillProgress | None = None) -> int:
        """Read the prompt once for all lanes with one scale of the adapter.

        Returns:
            How many of its tokens were already in the KV cache, the first time.
        """
        scales = list(dict.fromkeys(writer.lora_scale for writer in self._writers))
        for scale in scales:
            lanes = [lane for lane, writer in enumerate(self._writers) if writer.lora_scale == scale]
            began = time.perf_counter()
            self._engine.lora_scale = scale
            result = self._engine.prefill(self._prompt.token_ids, self._should_stop, on_progress)
            for lane in lanes:
                self._writers[lane].cached_tokens = result.cached_tokens
                self._writers[lane].prefill_seconds = time.perf_counter() - began
            if result.logits is not None:
                self._groups.append(_Group(self._engine.fork(1), dict.fromkeys(lanes, 0), [result.logits]))
        return self._writers[0].cached_tokens

    def __iter__(self) -> Iterator[tuple[int, ReplyPiece | None]]:
        """Draw a token for every lane in turn, until all have ended; None in place of a piece ends a lane.

        Raises:
            GenerationError: The model's numbers are not finite.
        """
        for lane, writer in enumerate(self._writers):
            if beginning := writer.begin():
                yield lane, beginning
        while any(group.rows for group in self._groups):
            for group in self._groups:
                yield from self._step(group)

    def _step(self, group: _Group) -> Iterator[tuple[int, ReplyPiece | None]]:
        """Draw a token for every lane of a group, and run the model over them."""
        drawn: dict[int, tuple[int, int]] = {}
        for lane, row in group.rows.items():
            writer = self._writers[lane]
            piece = None if writer.is_over() else writer.write(group.logits[row])
            if piece is not None and piece.token_id is not None:
                yield lane, piece
                if not writer.is_over():
                    drawn[lane] = (row, piece.token_id)
                    continue
            if held := writer.end():
                yield lane, held
            yield lane, None
        group.advance(drawn)

    def reply(self, lane: int) -> Reply:
        """One lane's reply so far."""
        return self._writers[lane].reply()

    def replies(self) -> list[Reply]:
        """Every lane's reply so far."""
        return [writer.reply() for writer in self._writers]


@dataclass(slots=True)
class _Group:
    """Lanes that share a fork."""

    fork: Fork
    """Has a row for every text that lanes have in common."""
    rows: dict[int, int]
    """Each lane's row; a lane that has ended has none."""
    logits: list[Logits]
    """Each row's."""

    def advance(self, drawn: Mapping[int, tuple[int, int]]) -> None:
        """Run the model over what the lanes have drawn: for each that goes on, its row and the token that follows."""
        if not drawn:
            self.rows, self.logits = {}, []
            return
        steps = list(dict.fromkeys(drawn.values()))
        if (kept := [row for row, _ in steps]) != list(range(len(self.logits))):
            self.fork.keep(kept)
        self.rows = {lane: steps.index(step) for lane, step in drawn.items()}
        self.logits = self.fork.decode([token_id for _, token_id in steps])


def _always(config: GenerationConfig) -> Callable[[int], GenerationConfig]:
    """The same settings for every token."""
    return lambda token_index: config
