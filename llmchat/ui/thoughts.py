"""Which thoughts are folded: open while they are written, one line when the answer has begun, or as a person says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from llmchat.ui.rendering.turn_block import TurnBlock


class Thoughts:
    """Remembers what a person folded or unfolded, by turn."""

    def __init__(self) -> None:
        self._chosen: dict[str, bool] = {}

    def shown(self, blocks: Iterable[TurnBlock], looked_into: str = "") -> Iterator[TurnBlock]:
        """Blocks of turns, their thoughts folded or not.

        Args:
            blocks: The turns.
            looked_into: One whose tokens are gone through, those of its thought too.
        """
        for block in blocks:
            if not block.thought.text:
                yield block
                continue
            by_itself = not (block.live and block.thought.is_open)
            yield replace(block, folded=block.id != looked_into and self._chosen.get(block.id, by_itself))

    def toggle(self, block: TurnBlock) -> None:
        """Fold a thought that is open, and the other way round."""
        self._chosen[block.id] = not block.folded
