"""Lines of text with named looks, the output of every layout function.

A look is a tuple of names, such as `("code-block", "code-keyword")`. The widget
turns each name into a style of its theme, so a layout never depends on colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from rich.cells import cell_len

Look = tuple[str, ...]

UNCOPIED = frozenset({"gutter", "chip", "cursor"})
"""Looks of text that belongs to the drawing and not to what was said."""


class Span(NamedTuple):
    """A piece of a line in one look."""

    text: str
    look: Look = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the transcript."""

    spans: tuple[Span, ...] = ()
    joint: str = "\n"
    """What stands between this row and the row above in the text itself: a line
    break, or the blanks that a soft wrap swallowed."""
    fill: Look = ()
    """The look that runs on to the right edge."""
    body: bool = True
    """Whether the row is part of what was said, and not of the frame around it."""

    @property
    def text(self) -> str:
        """The row as it is drawn."""
        return "".join(span.text for span in self.spans)

    @property
    def cells(self) -> int:
        """The width of the row in terminal cells."""
        return sum(cell_len(span.text) for span in self.spans)

    def copied(self, start: int = 0, end: int | None = None) -> str:
        """What a selection of the characters `start` to `end` of the row copies."""
        pieces: list[str] = []
        position = 0
        for text, look in self.spans:
            indent = "indent" in look and self.joint != "\n"
            if not indent and UNCOPIED.isdisjoint(look):
                stop = len(text) if end is None else max(0, end - position)
                pieces.append(text[max(0, start - position) : stop])
            position += len(text)
        return "".join(pieces)

    def after(self, *prefix: Span) -> Line:
        """The same row moved right by a prefix."""
        return replace(self, spans=(*prefix, *self.spans))


def prefixed(lines: Iterable[Line], first: Iterable[Span], rest: Iterable[Span]) -> Iterator[Line]:
    """Put one prefix before the first of some lines and another before the others."""
    first, rest = tuple(first), tuple(rest)
    for number, line in enumerate(lines):
        yield line.after(*(rest if number else first))


def crop(text: str, width: int) -> str:
    """Shorten a text to a width in cells, with an ellipsis if something was cut."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        # Long texts are cut roughly first, since each measurement reads the whole text.
        text = text[: max(0, min(len(text) - 1, width))]
    return f"{text.rstrip()}…" if width > 0 else ""
