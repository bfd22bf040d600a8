"""The last look at a line before the terminal gets it: nothing in a text acts on the terminal.

Names, paths, messages and replies come from files and people. Wherever in the window
they are drawn, they pass here, so that no widget has to think of it.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from llmchat.chat.plain_text import visible


class OnlyText(LineFilter):
    """Takes out of each line what is no text: control, direction and hidden characters, and addresses of links.

    A line keeps its width: what takes no cell goes without a trace, what takes some leaves a stand-in.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments where all is text, which nearly always is so; else harmless ones."""
        for text, style, _ in segments:
            if not text.isprintable() or (style is not None and style.link):
                return [Segment(_harmless(text), _without_link(style)) for text, style, _ in segments]
        return segments


def _harmless(text: str) -> str:
    return "".join(
        kept if kept == given and given not in "\t\n" else f"{kept} "[: cell_len(given)]
        for given, kept in zip(text, visible(text), strict=True)
    )


def _without_link(style: Style | None) -> Style | None:
    return style.update_link(None) if style is not None and style.link else style
