"""A thought laid out: a line that tells of it, and below, unless it is folded, what was thought."""

from __future__ import annotations

from dataclasses import replace

from llmchat.chat.words import thought_words
from llmchat.ui.rendering.flow import PlainFlow
from llmchat.ui.rendering.line import Line, Span, crop
from llmchat.ui.rendering.turn_block import TurnBlock

FOLD = "thought-fold"
"""The look of the line that folds and unfolds."""

_BAR = Span("▎ ", ("thought", "gutter"))


class ThoughtFlow:
    """The lines of one thought in one width. `update` lays out only what changed of it."""

    def __init__(self, width: int) -> None:
        self.lines: list[Line] = []
        """None where there is no thought."""
        self._width = width
        self._flow = PlainFlow(max(width - len(_BAR.text), 2))
        self._dimmed: list[Line] = []

    def update(self, block: TurnBlock) -> int:
        """Lay out another state of the block.

        Returns:
            The index of the first line that may have changed.
        """
        before, self.lines = self.lines, []
        if not block.thought.text:
            return 0
        head, changed = self._head(block), 0
        if not block.folded:
            begin = len(block.thought.opening)
            marks = [
                (max(at - begin, 0), label) for at, label in sorted(block.marks) if at < len(block.thought.written)
            ]
            changed = self._flow.update(block.thought.text, marks)
            del self._dimmed[changed:]
            self._dimmed += map(_dim, self._flow.lines[len(self._dimmed) :])
        gap = [Line(body=False)] if block.text or not block.folded else []
        self.lines = [head, *([] if block.folded else self._dimmed), *gap]
        return changed + 1 if before[:1] == [head] else 0

    def _head(self, block: TurnBlock) -> Line:
        sign = "▸" if block.folded else "▾"
        words = "thinking …" if block.live and block.thought.is_open else f"thought for {_told(block)}"
        text = crop(f"{sign} {words}", self._width)
        return Line((Span(text, ("thought", FOLD, "gutter")),), body=False)


def _told(block: TurnBlock) -> str:
    return thought_words(block.thought).replace(", ", " · ", 1)


def _dim(line: Line) -> Line:
    spans = (Span(text, look if "chip" in look else ("thought", *look)) for text, look in line.spans)
    return replace(line, spans=(_BAR, *spans))
