"""Which character of a text stands where in the rows that were laid out from it.

The layout takes markup away and adds bullets, bars and labels of its own. What is
left are the text's own characters in their order, so that each is found again by
looking on from the one before. Rows that did not change are not looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmchat.chat.plain_text import visible
from llmchat.ui.rendering.line import UNCOPIED, Line

NOWHERE = -1
"""Stands for a drawn character that is none of the text's."""

_ADDED = UNCOPIED | {"indent", "bullet", "rule", "code-label"}
"""Looks of what the layout adds."""

_MARKUP = 80
"""How far on a run of text is looked for: over markup, not into the next paragraph."""

_NEAR = 16
"""The same for a single character."""

_CONTEXT = 32
"""Characters; how a character is shown depends on fewer neighbours than these."""


class SourceMap:
    """The offsets of one text's characters, row by row."""

    def __init__(self) -> None:
        self._text = ""
        self._source = ""
        """The text as it is shown."""
        self._lines: list[Line] = []
        self._offsets: list[list[int]] = []
        self._start = 0
        self._positions = [0]
        """Where to look on from, for each row and for the one after the last."""

    def update(self, text: str, lines: Sequence[Line], start: int = 0) -> int:
        """Map the rows of a text, those that are new or that changed.

        Args:
            text: The text.
            lines: Its rows.
            start: From where on the text is shown.

        Returns:
            The index of the first row that may have changed.
        """
        source = self._shown(text)
        same = 0
        if start != self._start:
            self._start, self._positions, self._source = start, [start], ""
            self._lines, self._offsets = [], []
        if source.startswith(self._source):
            for line, known in zip(lines, self._lines, strict=False):
                # Rows of the frame have nothing of the text in them.
                if line != known and (line.body or known.body):
                    break
                same += 1
        del self._lines[same:], self._offsets[same:], self._positions[same + 1 :]
        self._text, self._source = text, source
        for line in lines[same:]:
            offsets, position = self._map(line, self._positions[-1]) if line.body else ([], self._positions[-1])
            self._lines.append(line)
            self._offsets.append(offsets)
            self._positions.append(position)
        return same

    def _shown(self, text: str) -> str:
        """The text as it is shown, of the same length; what is known of it is not read again."""
        kept = len(self._text) - _CONTEXT if text.startswith(self._text) else 0
        if kept < _CONTEXT:
            return visible(text).replace("\t", " ")
        return self._source[:kept] + visible(text[kept - _CONTEXT :])[_CONTEXT:].replace("\t", " ")

    def row(self, row: int) -> list[int]:
        """For each drawn character of a row its offset in the text, or `NOWHERE`; empty for a row of the frame."""
        return self._offsets[row] if row < len(self._offsets) else []

    def rows_of(self, start: int, end: int) -> range:
        """The rows that show something of a part of the text."""
        shown = [row for row, offsets in enumerate(self._offsets) if any(start <= offset < end for offset in offsets)]
        return range(shown[0], shown[-1] + 1) if shown else range(0)

    def _map(self, line: Line, position: int) -> tuple[list[int], int]:
        offsets: list[int] = []
        for text, look in line.spans:
            if "address" in look:
                address = text.strip(" ()")
                at = self._source.find(address, position)
                position = position if at < 0 else at + len(address)
                offsets += [NOWHERE] * len(text)
            elif not _ADDED.isdisjoint(look):
                offsets += [NOWHERE] * len(text)
            else:
                found, position = self._find(text, position)
                offsets += found
        return offsets, position

    def _find(self, text: str, position: int) -> tuple[list[int], int]:
        """Where the characters of a piece of text are, and where to look on from."""
        reach = len(text) + (_NEAR if text.isspace() and len(text) == 1 else 0 if text.isspace() else _MARKUP)
        at = self._source.find(text, position, position + reach)
        if at >= 0:
            return list(range(at, at + len(text))), at + len(text)
        offsets = []
        for character in text:
            reach = 1 if character.isspace() else _NEAR
            at = self._source.find(character, position, position + reach)
            offsets.append(at if at >= 0 else NOWHERE)
            position = at + 1 if at >= 0 else position
        return offsets, position
