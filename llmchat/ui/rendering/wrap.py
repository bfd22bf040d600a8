"""Wrapping of styled text to a width in terminal cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, split_graphemes

from llmchat.ui.rendering.line import Line, Look, Span

# Characters that are one cell wide and never combine, for which length is width.
_NARROW = re.compile("[ -~\u00a0-\u00ac\u00ae-\u02ff\u0370-\u0482\u2010-\u2027\u2030-\u205e\u2500-\u25fc]*")
_NO_LINE_START = frozenset("、。，．・：；！？）］｝」』】〉》〕’”…ー々")


def wrap_spans(spans: Sequence[Span], width: int, fill: Look = ()) -> list[Line]:
    """Wrap one paragraph by words; line feeds in it break lines too.

    Blanks are kept, but for those at a soft break, which go to the next line's
    `joint`. A word longer than the width is broken.

    Args:
        spans: The paragraph.
        width: Cells per line; at least 2 are taken, so that wide characters fit.
        fill: The look that runs on to the right edge.

    Returns:
        At least one line.
    """
    width = max(width, 2)
    text = "".join(span.text for span in spans)
    if "\n" not in text and len(text) <= width and _NARROW.fullmatch(text):
        return [Line(tuple(span for span in spans if span.text), fill=fill)]
    lines: list[Line] = []
    cutter = _Cutter(spans)
    offset = 0
    for logical in text.split("\n"):
        joint = "\n"
        for start, end in line_ranges(logical, width):
            content = logical[start:end]
            if end < len(logical) or (content.endswith(" ") and cell_len(content) > width):
                content = content.rstrip(" ")
            pieces = cutter.take(offset + start, offset + start + len(content))
            lines.append(Line(pieces, joint=joint, fill=fill))
            joint = logical[start + len(content) : end]
        offset += len(logical) + 1
    return lines


def line_ranges(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Where each row of a text without line feeds begins and ends, trailing blanks included."""
    if _NARROW.fullmatch(text):
        return _narrow_ranges(text, width)
    return _wide_ranges(text, width)


def _narrow_ranges(text: str, width: int) -> Iterator[tuple[int, int]]:
    start, length = 0, len(text)
    while length - start > width:
        cut = start + width
        if text[cut] == " ":
            while cut < length and text[cut] == " ":
                cut += 1
        else:
            blank = text.rfind(" ", start, cut)
            # A row of nothing but indentation would tear it off its word.
            if blank > start and not text[start:blank].isspace():
                cut = blank + 1
        if cut == length:
            break
        yield start, cut
        start = cut
    yield start, length


def _wide_ranges(text: str, width: int) -> Iterator[tuple[int, int]]:
    start = used = 0
    opportunity, used_at_opportunity = 0, 0
    blank_so_far, before_wide = True, False
    for begin, _end, cells in split_graphemes(text)[0]:
        character = text[begin]
        if character == " ":
            used += cells
            before_wide = False
            continue
        after_blank = begin > start and text[begin - 1] == " " and not blank_so_far
        beside_wide = begin > start and (cells > 1 or before_wide) and character not in _NO_LINE_START
        if after_blank or (beside_wide and not blank_so_far):
            opportunity, used_at_opportunity = begin, used
        if used + cells > width and begin > start:
            if opportunity <= start:
                opportunity, used_at_opportunity = begin, used
            yield start, opportunity
            start, used = opportunity, used - used_at_opportunity
        blank_so_far, before_wide = False, cells > 1
        used += cells
    yield start, len(text)


def character_at(text: str, cell: int) -> int:
    """The character of a row that is drawn in a cell; -1 left of the row, its length right of it."""
    if cell < 0:
        return -1
    if _NARROW.fullmatch(text):
        return min(cell, len(text))
    for begin, _end, cells in split_graphemes(text)[0]:
        if cell < cells:
            return begin
        cell -= cells
    return len(text)


class _Cutter:
    """Cuts pieces out of a row of spans, from left to right."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._index = 0
        self._offset = 0

    def take(self, start: int, end: int) -> tuple[Span, ...]:
        """The spans of the characters `start` to `end`; `start` never goes back."""
        pieces: list[Span] = []
        while self._index < len(self._spans):
            text, look = self._spans[self._index]
            stop = self._offset + len(text)
            if stop > start and self._offset < end:
                pieces.append(Span(text[max(0, start - self._offset) : end - self._offset], look))
            if stop > end:
                break
            self._index += 1
            self._offset = stop
        return tuple(piece for piece in pieces if piece.text)
