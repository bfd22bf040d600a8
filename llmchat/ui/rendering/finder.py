"""Search over the whole transcript, with a current match."""

from __future__ import annotations

import re

from llmchat.ui.rendering.document import Document, Entry
from llmchat.ui.rendering.find import Match, find_matches, make_pattern


class Finder:
    """The matches of one query and which of them is the current one."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._pattern: re.Pattern[str] | None = None
        self._matches: dict[str, list[Match]] = {}
        self._versions: dict[str, int] = {}
        self._current: tuple[str, int] | None = None

    @property
    def is_active(self) -> bool:
        """Whether there is a query."""
        return self._pattern is not None

    @property
    def count(self) -> int:
        """How many matches there are."""
        return sum(map(len, self._matches.values()))

    @property
    def position(self) -> int:
        """The current match, counted from 1; 0 if there is none."""
        if self._current is None:
            return 0
        before = 0
        for entry in self._document.entries:
            if entry.block.id == self._current[0]:
                return before + self._current[1] + 1
            before += len(self._matches.get(entry.block.id, ()))
        return 0

    def search(self, query: str, from_row: int) -> int:
        """Look for a query in every turn; the first match from a row on becomes the current one.

        Args:
            query: Literal text; empty ends the search.
            from_row: A row of the document.

        Returns:
            The number of matches.
        """
        self._pattern = make_pattern(query) if query else None
        self._matches, self._versions, self._current = {}, {}, None
        self.refresh()
        everything = self._everything()
        self._current = next((key for key in everything if self._row(key) >= from_row), None)
        if self._current is None and everything:
            self._current = everything[0]
        return len(everything)

    def refresh(self) -> None:
        """Look again in turns that changed."""
        if self._pattern is None:
            return
        entries = {entry.block.id: entry for entry in self._document.entries}
        for gone in self._versions.keys() - entries.keys():
            del self._versions[gone]
            self._matches.pop(gone, None)
        for name, entry in entries.items():
            # Without a layout the last known matches stand in.
            if entry.layout is not None and self._versions.get(name) != entry.version:
                self._versions[name] = entry.version
                self._matches[name] = find_matches(entry.lines, self._pattern)
        if self._current and self._current[1] >= len(self._matches.get(self._current[0], ())):
            self._current = next(iter(self._everything()), None)

    def step(self, by: int) -> None:
        """Make a match further on (1) or back (-1) the current one, round the ends."""
        everything = self._everything()
        if everything:
            at = everything.index(self._current) if self._current in everything else -1
            self._current = everything[(at + by) % len(everything)]

    def current_row(self) -> int | None:
        """The document's row of the current match."""
        return None if self._current is None else self._row(self._current)

    def on_row(self, entry: Entry, row: int) -> list[tuple[int, int, bool]]:
        """The matches on a row of a turn: from character, to character, and whether it is the current one."""
        if self._pattern is None:
            return []
        name = entry.block.id
        return [
            (piece.start, piece.end, self._current == (name, number))
            for number, match in enumerate(self._matches.get(name, ()))
            for piece in match
            if piece.row == row
        ]

    def _everything(self) -> list[tuple[str, int]]:
        return [
            (entry.block.id, number)
            for entry in self._document.entries
            for number in range(len(self._matches.get(entry.block.id, ())))
        ]

    def _row(self, key: tuple[str, int]) -> int:
        name, number = key
        index = self._document.index_of(name)
        return 0 if index is None else self._document.top(index) + self._matches[name][number][0].row
