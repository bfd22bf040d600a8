"""Lines with looks to strips with styles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from llmchat.ui.rendering.line import Line, Look, Span
from llmchat.ui.rendering.looks import LOOK_STYLES

MARGIN = 2
"""Cells left of the text, where the turn cursor's bar stands."""

Overlay = tuple[int, int, Callable[[Style], Style]]
"""A change of style for some characters of a row as it is drawn, margin included."""


Component = tuple[Style, Color | None]
"""What a look adds: a style without background, and a background that may be translucent."""


class Palette:
    """The styles of looks in the present theme."""

    def __init__(self, base: Style, component: Callable[[str], Component]) -> None:
        self._base = base
        self._component = component
        self._styles: dict[Look, Style] = {}
        self._over: dict[tuple[Style, str], Style] = {}

    def style(self, look: Look) -> Style:
        """The style of a look: the base, then each name in turn."""
        style = self._styles.get(look)
        if style is None:
            style = self._base
            for name in look:
                if name in LOOK_STYLES:
                    style = self.over(style, name)
            self._styles[look] = style
        return style

    def over(self, style: Style, name: str) -> Style:
        """A style with one more look on top."""
        over = self._over.get((style, name))
        if over is None:
            over = self._over[style, name] = self._mixed(style, name)
        return over

    def _mixed(self, style: Style, name: str) -> Style:
        addition, background = self._component(name)
        if background is not None:
            # The terminal's own colours cannot be mixed.
            if background.a < 1 and background.ansi is None and style.bgcolor and not style.bgcolor.is_default:
                background = Color.from_rich_color(style.bgcolor) + background
            if background.a == 1:
                style += Style(bgcolor=background.rich_color)
        return style + addition


def paint_line(
    line: Line,
    width: int,
    palette: Palette,
    *,
    around: Look = (),
    on_top: Look = (),
    bar: bool = False,
    margin: int = MARGIN,
    text_width: int = 0,
    overlays: Sequence[Overlay] = (),
) -> Strip:
    """Draw a line.

    Args:
        line: The line.
        width: Cells of the whole row, margin included.
        palette: The styles.
        around: Looks below those of the line.
        on_top: Looks above those of the line.
        bar: Whether the turn cursor's bar stands in the margin.
        margin: Cells left of the text.
        text_width: Cells of the text, to which the line's fill runs.
        overlays: Styles for ranges of characters, over everything else.
    """
    left = [Span("▌", ("selected-bar",)), Span(" " * (margin - 1))] if bar else [Span(" " * margin)]
    segments = [Segment(text, palette.style((*around, *look, *on_top))) for text, look in (*left, *line.spans) if text]
    if overlays:
        segments = _overlaid(segments, overlays)
    strip = Strip(segments)
    if line.fill:
        strip = strip.extend_cell_length(min(width, margin + text_width), palette.style((*around, *line.fill)))
    return strip.adjust_cell_length(width, palette.style(around))


def _overlaid(segments: list[Segment], overlays: Sequence[Overlay]) -> list[Segment]:
    edges = sorted({edge for start, end, _ in overlays for edge in (start, end)})
    result: list[Segment] = []
    position = 0
    for text, style, _ in segments:
        stop = position + len(text)
        cuts = [position, *(edge for edge in edges if position < edge < stop), stop]
        for first, last in pairwise(cuts):
            piece_style = style or Style.null()
            for start, end, overlay in overlays:
                if start <= first and last <= end:
                    piece_style = overlay(piece_style)
            result.append(Segment(text[first - position : last - position], piece_style))
        position = stop
    return result
