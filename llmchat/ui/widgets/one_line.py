"""A bar of one line that leaves out its least important pieces when it is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from llmchat.ui.rendering.hints import action_style

GAP = 3
"""Cells between two pieces at the left, and between the sides."""

RIGHT_GAP = 2
"""Cells between two pieces at the right."""


class Piece(NamedTuple):
    """A few words of a bar."""

    text: str
    style: str
    """Its component class."""
    importance: int
    """The piece with the lowest number is left out first."""
    joined: bool = False
    """Whether it belongs to the piece before: one space between, and both go together."""
    action: str = ""
    """What a click on it does; "" for nothing."""


class OneLine(Widget):
    """Pieces at the left and at the right of one line. Nothing wraps, nothing is cut in half."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "bar--strong",
        "bar--text",
        "bar--muted",
        "bar--good",
        "bar--busy",
        "bar--bad",
    }

    ALLOW_SELECT = False
    auto_links = False

    DEFAULT_CSS = """
    OneLine {
        height: 1;
        width: 1fr;
        padding: 0 1;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        color: $foreground;

        & > .bar--strong { color: $primary; text-style: bold; }
        & > .bar--text { color: $foreground; }
        & > .bar--muted { color: $text-muted; }
        & > .bar--good { color: $text-success; }
        & > .bar--busy { color: $text-warning; }
        & > .bar--bad { color: $text-error; text-style: bold; }
    }
    """

    def left(self) -> Sequence[Piece]:
        """The pieces from the left edge on."""
        return ()

    def right(self) -> Sequence[Piece]:
        """The pieces that end at the right edge."""
        return ()

    def render(self) -> Content:
        """As many pieces as fit."""
        width = self.content_size.width
        left, right = fit(_groups(self.left()), _groups(self.right()), width)
        start, end = self._joined(left, GAP), self._joined(right, RIGHT_GAP)
        space = max(width - start.cell_length - end.cell_length, 0)
        return start + Content(" " * space) + end if end else start

    def _joined(self, groups: Groups, gap: int) -> Content:
        """Pieces in a row with their styles."""
        parts: list[Content] = []
        for group in groups:
            # The space between belongs to both.
            words = ((f"{' ' * piece.joined}{piece.text}", self._style(piece)) for piece in group)
            parts.append(Content.assemble(*words))
        return Content(" " * gap).join(parts)

    def _style(self, piece: Piece) -> Style:
        style = self.get_visual_style(piece.style)
        return style + action_style(piece.action) if piece.action else style


Groups = list[list[Piece]]


def fit(left: Groups, right: Groups, width: int) -> tuple[Groups, Groups]:
    """Leave out the least important groups until both sides fit, but never the last one."""
    left, right = list(left), list(right)
    while (
        _width(left, GAP) + _width(right, RIGHT_GAP) + (GAP if left and right else 0) > width
        and len(left) + len(right) > 1
    ):
        least = min([*right, *left], key=lambda group: group[0].importance)
        (right if least in right else left).remove(least)
    return left, right


def shortened(text: str, width: int) -> str:
    """A text in at most so many cells, its middle left out if it is longer."""
    if cell_len(text) <= width:
        return text
    half = (width - 1) // 2
    return set_cell_size(text, width - 1 - half).rstrip() + "…" + text[len(text) - half :]


def _groups(pieces: Sequence[Piece]) -> Groups:
    """Pieces with those joined to them."""
    groups: Groups = []
    for piece in pieces:
        if piece.joined and groups:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _width(groups: Groups, gap: int) -> int:
    """Cells that a side takes."""
    inner = sum(cell_len(piece.text) for group in groups for piece in group)
    spaces = sum(len(group) - 1 for group in groups)
    return inner + spaces + gap * max(len(groups) - 1, 0)
