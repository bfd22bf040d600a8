"""The whole transcript as rows: which row belongs to which turn, and how high everything is.

Turns are laid out when they come near the window. Until then their height is an
estimate, so that a new width or a long transcript costs nothing at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from llmchat.ui.rendering.line import Line
from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.ui.rendering.turn_layout import TurnLayout


class Entry:
    """A turn and its rows, if they have been laid out."""

    def __init__(self, block: TurnBlock, width: int) -> None:
        self.block = block
        self.layout: TurnLayout | None = None
        self.version = 0
        """Changes whenever the rows may have changed."""
        self.height = 0
        """Rows; an estimate while there is no layout."""
        self.forget(width)

    @property
    def lines(self) -> list[Line]:
        """The rows; empty while there is no layout."""
        return self.layout.lines if self.layout else []

    def forget(self, width: int) -> None:
        """Drop the layout and estimate the height in another width."""
        self.layout = None
        self.version += 1
        text = self.block.text if self.block.folded else self.block.written
        self.height = 2 + len(self.block.notices) + text.count("\n") + len(text) // max(width, 4)

    def settle(self, width: int) -> None:
        """Lay the turn out, if it is not."""
        if self.layout is None:
            self.layout = TurnLayout(self.block, width)
            self.height = len(self.layout.lines)
            self.version += 1

    def replace(self, block: TurnBlock, width: int) -> None:
        """Take another state of the block, without laying out what is not laid out yet."""
        if self.layout is None:
            self.block = block
            self.forget(width)
        else:
            self.update(block, width)

    def update(self, block: TurnBlock, width: int) -> int:
        """Show another state of the block.

        Returns:
            The first row below the heading that may have changed.
        """
        self.block = block
        if self.layout is None:
            self.settle(width)
            return 0
        first_changed = self.layout.update(block)
        self.height = len(self.layout.lines)
        self.version += 1
        return first_changed


class Document:
    """Turns one below the other, addressed by row."""

    def __init__(self, width: int = 80) -> None:
        self.width = width
        self.entries: list[Entry] = []
        self._index: dict[str, int] = {}
        self._tops: list[int] = [0]
        self._true_tops = 0
        self._unsettled_below = 0

    @property
    def height(self) -> int:
        """Rows of all turns together."""
        return self.top(len(self.entries))

    def set_blocks(self, blocks: Iterable[TurnBlock]) -> None:
        """Show other turns. Turns that stay keep their layout."""
        known = {entry.block.id: entry for entry in self.entries}
        self.entries = []
        for block in blocks:
            entry = known.get(block.id) or Entry(block, self.width)
            if entry.block != block:
                entry.replace(block, self.width)
            self.entries.append(entry)
        self._renumber()

    def append(self, block: TurnBlock) -> int:
        """Add a turn at the end and lay it out; returns its index."""
        entry = Entry(block, self.width)
        entry.settle(self.width)
        self.entries.append(entry)
        self._index[block.id] = len(self.entries) - 1
        return len(self.entries) - 1

    def remove(self, block_id: str) -> None:
        """Take a turn out."""
        del self.entries[self._index[block_id]]
        self._renumber()

    def index_of(self, block_id: str) -> int | None:
        """Where a turn stands, or None if there is none with the id."""
        return self._index.get(block_id)

    def update(self, index: int, block: TurnBlock) -> int:
        """Show another state of a turn.

        Returns:
            The first of its rows below the heading that may have changed.
        """
        entry = self.entries[index]
        height = entry.height
        first_changed = entry.update(block, self.width)
        if entry.height != height:
            self._true_tops = min(self._true_tops, index)
        return first_changed

    def resize(self, width: int) -> None:
        """Take another width; every layout is dropped."""
        self.width = width
        for entry in self.entries:
            entry.forget(width)
        self._renumber()

    def top(self, index: int) -> int:
        """The first row of a turn; for the number of turns, the row below the last."""
        if index > self._true_tops:
            heights = (entry.height for entry in self.entries[self._true_tops :])
            self._tops[self._true_tops :] = accumulate(heights, initial=self._tops[self._true_tops])
            self._true_tops = len(self.entries)
        return self._tops[index]

    def locate(self, y: int) -> tuple[int, int]:
        """The index of the turn at a row, and the row within the turn.

        Rows above and below everything belong to the first and the last turn.
        """
        height = self.height
        y = max(0, min(y, height - 1))
        index = max(0, min(bisect_right(self._tops, y, 0, len(self.entries)) - 1, len(self.entries) - 1))
        return index, y - self._tops[index]

    def rows(self, y: int, count: int) -> Iterator[tuple[Entry, int]]:
        """The turn and the row within it for each row from `y` on, as far as there are rows."""
        if not 0 <= y < self.height:
            return
        index, row = self.locate(y)
        for entry in self.entries[index:]:
            for inner in range(row, entry.height):
                if count <= 0:
                    return
                yield entry, inner
                count -= 1
            row = 0

    def settle(self, index: int, scroll_y: int) -> int:
        """Lay a turn out.

        Args:
            index: Which turn.
            scroll_y: The row at the top of the window.

        Returns:
            The row that belongs at the top now, so that what is seen stays where it is.
        """
        entry, top = self.entries[index], self.top(index)
        if entry.layout is not None:
            return scroll_y
        estimated = entry.height
        entry.settle(self.width)
        grown = entry.height - estimated
        if grown:
            self._true_tops = min(self._true_tops, index)
        return max(top, scroll_y + grown) if top < scroll_y else scroll_y

    def settle_window(self, scroll_y: int, height: int) -> int:
        """Lay out every turn that a window shows; returns its corrected top row, as `settle`."""
        while self.entries:
            first, _ = self.locate(scroll_y)
            for index in range(first, len(self.entries)):
                if self.top(index) >= scroll_y + height:
                    return scroll_y
                if self.entries[index].layout is None:
                    scroll_y = self.settle(index, scroll_y)
                    break
            else:
                return scroll_y
        return scroll_y

    def settle_end(self, height: int) -> None:
        """Lay out the last turns, as many as fill a window of the height."""
        for index in range(len(self.entries) - 1, -1, -1):
            if height <= 0:
                return
            self.settle(index, 0)
            height -= self.entries[index].height

    def next_unsettled(self) -> int | None:
        """The last turn without a layout, or None when all have one."""
        while self._unsettled_below:
            if self.entries[self._unsettled_below - 1].layout is None:
                return self._unsettled_below - 1
            self._unsettled_below -= 1
        return None

    def _renumber(self) -> None:
        self._index = {entry.block.id: number for number, entry in enumerate(self.entries)}
        self._tops, self._true_tops = [0], 0
        self._unsettled_below = len(self.entries)
