"""The text that a mouse selection covers, as it was said."""

from __future__ import annotations

from textual.selection import Selection

from llmchat.ui.rendering.document import Document
from llmchat.ui.rendering.paint import MARGIN
from llmchat.ui.rendering.turn_layout import TurnLayout


def selected_text(document: Document, selection: Selection) -> str:
    """The text under a selection, without margins, chips and the line breaks of wrapping.

    Args:
        document: The transcript.
        selection: Characters and rows as they are drawn, margin included.
    """
    last = document.height - 1
    start_x, start_y = (selection.start.x, selection.start.y) if selection.start else (0, 0)
    end_x, end_y = (selection.end.x, selection.end.y) if selection.end else (None, last)
    pieces: list[str] = []
    for index, entry in enumerate(document.entries):
        top = document.top(index)
        if top > end_y or top + entry.height <= start_y:
            continue
        lines = entry.lines or TurnLayout(entry.block, document.width).lines
        for row, line in enumerate(lines, top):
            if start_y <= row <= end_y:
                start = max(0, start_x - MARGIN) if row == start_y else 0
                end = max(0, end_x - MARGIN) if row == end_y and end_x is not None else None
                pieces.append((line.joint if pieces else "") + line.copied(start, end))
    return "".join(pieces)
