"""What every list of candidates for a place has in common: how a row is coloured, and the sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from llmchat.ui.rendering.candidates import DRAWN, TAKEN, Part, percent
from llmchat.worker.messages import NextToken

PREFIX = "candidate--"


class CandidateLines(Widget):
    """A widget that draws lines of parts, each in a look of its own."""

    ALLOW_SELECT = False

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "candidate--heading",
        "candidate--text",
        "candidate--muted",
        "candidate--taken",
        "candidate--removed",
        "candidate--final",
        "candidate--bar",
        "candidate--ghost",
        "candidate--stage",
        "candidate--key",
        "candidate--chosen",
    }

    DEFAULT_CSS = """
    CandidateLines {
        color: $foreground;

        & > .candidate--heading { text-style: bold; }
        & > .candidate--muted { color: $text-muted; }
        & > .candidate--taken { color: $change; text-style: bold; }
        & > .candidate--removed { color: $text-muted; text-style: strike; }
        & > .candidate--final { color: $text-success; text-style: bold; }
        & > .candidate--bar { color: $primary; }
        & > .candidate--ghost { color: $foreground 35%; }
        & > .candidate--stage { color: $text-muted; text-style: italic; }
        & > .candidate--key { color: $primary; text-style: bold; }
        & > .candidate--chosen { background: $primary 20%; text-style: bold; }
        &:ansi > .candidate--chosen { background: transparent; }
        &:ansi > .candidate--ghost { color: ansi_default; text-style: dim; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        """A list without rows."""
        super().__init__(id=id)
        self._drawn: list[Strip] = []
        self._drawn_size: Size | None = None
        """The size for which the rows were drawn; None if they are to be drawn anew."""
        self._looks: dict[str, Style] = {}

    def rows(self, width: int, height: int) -> Sequence[Sequence[Part]]:
        """The rows from the top; looks may hold several names, such as "chosen final"."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Show what the rows are now."""
        self._drawn_size = None
        self.refresh()

    def notify_style_update(self) -> None:
        """Forget the colours when the theme or the CSS changes."""
        super().notify_style_update()
        self._looks.clear()
        self._drawn_size = None

    # Drawn many times in a second while a reply runs, and so without Textual's markup.
    def render_line(self, y: int) -> Strip:
        """One row."""
        size = self.content_size
        if size != self._drawn_size:
            self._drawn_size = size
            self._drawn = [self._strip(row, size.width) for row in self.rows(size.width, size.height)[: size.height]]
        return self._drawn[y] if y < len(self._drawn) else Strip.blank(size.width, self._look(""))

    def _strip(self, row: Sequence[Part], width: int) -> Strip:
        strip = Strip([Segment(text, self._look(names)) for text, names in row])
        return strip.adjust_cell_length(width, self._look(""))

    def _look(self, names: str) -> Style:
        style = self._looks.get(names)
        if style is None:
            classes = (PREFIX + name for name in names.split())
            style = self._looks[names] = self.get_visual_style(*classes).rich_style
        return style


def held(candidates: NextToken) -> str:
    """How many tokens are left, and what part of the model's probability they hold."""
    count = "1 token holds" if candidates.survivors == 1 else f"{candidates.survivors} tokens hold"
    return f"{count} {percent(candidates.mass)} %"


def sign_of(token_id: int, candidates: NextToken) -> str:
    """The sign before a candidate: whether the dice take it, and whether it is what stands there."""
    if token_id == candidates.drawn:
        return DRAWN
    return TAKEN if token_id == candidates.taken else " "
