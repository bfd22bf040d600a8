"""Search in laid-out lines. A match may run over soft line breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from llmchat.ui.rendering.line import UNCOPIED, Line


class Piece(NamedTuple):
    """The part of a match on one row."""

    row: int
    start: int
    end: int
    """Characters of the row as it is drawn."""


Match = tuple[Piece, ...]


def make_pattern(query: str) -> re.Pattern[str]:
    """A pattern for literal text: case counts only if the query has a capital letter."""
    return re.compile(re.escape(query), 0 if query != query.lower() else re.IGNORECASE)


def find_matches(lines: Sequence[Line], pattern: re.Pattern[str]) -> list[Match]:
    """Every match in the text of some lines, in order."""
    return [match for paragraph in _paragraphs(lines) for match in paragraph.search(pattern)]


class _Paragraph:
    """Rows that belong together, and where each character of their text is drawn."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, int, int, int]] = []
        self._text = ""

    def add(self, row: int, line: Line) -> None:
        self._text += line.joint if self._pieces else ""
        position = 0
        for text, look in line.spans:
            if "indent" not in look and UNCOPIED.isdisjoint(look):
                self._pieces.append((len(self._text), len(self._text) + len(text), row, position))
                self._text += text
            position += len(text)

    def search(self, pattern: re.Pattern[str]) -> Iterator[Match]:
        for found in pattern.finditer(self._text):
            pieces = tuple(self._drawn(found.start(), found.end()))
            if pieces:
                yield pieces

    def _drawn(self, start: int, end: int) -> Iterator[Piece]:
        for offset, stop, row, position in self._pieces:
            first, last = max(start, offset), min(end, stop)
            if first < last:
                yield Piece(row, position + first - offset, position + last - offset)


def _paragraphs(lines: Sequence[Line]) -> Iterator[_Paragraph]:
    paragraph: _Paragraph | None = None
    for row, line in enumerate(lines):
        if not line.body:
            continue
        if paragraph is not None and line.joint == "\n":
            yield paragraph
            paragraph = None
        paragraph = paragraph or _Paragraph()
        paragraph.add(row, line)
    if paragraph is not None:
        yield paragraph
