"""One turn laid out: divider, heading, text and notes."""

from __future__ import annotations

from dataclasses import replace

from rich.cells import cell_len

from llmchat.chat.plain_text import visible as sanitize
from llmchat.ui.rendering.flow import Flow, MarkdownFlow, PlainFlow
from llmchat.ui.rendering.heat import legend
from llmchat.ui.rendering.line import Line, Look, Span, crop, prefixed
from llmchat.ui.rendering.thought_flow import ThoughtFlow
from llmchat.ui.rendering.turn_block import Notice, TurnBlock
from llmchat.ui.rendering.wrap import wrap_spans

CURSOR = "▌"

_ROLE_LOOKS: dict[str, Look] = {
    "user": ("role-user",),
    "assistant": ("role-assistant",),
    "system": ("role-system",),
    "notice": ("muted",),
}


class TurnLayout:
    """The lines of one block in one width. `update` lays out only what changed of its text."""

    def __init__(self, block: TurnBlock, width: int) -> None:
        self.lines: list[Line] = []
        self.top_margin = 0
        """Rows above the heading: the empty row and the divider."""
        self._width = max(width, 4)
        self._markdown = block.markdown
        self._flow = self._make_flow()
        self._thought = ThoughtFlow(self._width)
        self.update(block)

    def update(self, block: TurnBlock) -> int:
        """Lay out another state of the block.

        Returns:
            The index of the first row below the heading whose text or looks changed.
        """
        if block.markdown != self._markdown:
            self._markdown = block.markdown
            self._flow = self._make_flow()
        head = self._head(block)
        known = len(self._thought.lines)
        first_changed, lead = self._thought.update(block), len(block.thought.written)
        marks = [(at - lead, label) for at, label in sorted(block.marks) if at >= lead]
        text_changed = len(self._thought.lines) + self._flow.update(block.text, marks)
        if known == len(self._thought.lines) <= first_changed:
            first_changed = text_changed
        thought = [*self._thought.lines]
        key = [legend(block.heat)] if block.heat != "off" else []
        before, self.lines = self.lines, [*head, *thought, *self._text(block), *key, *self._notes(block)]
        # The row above may have carried the cursor; of a growing paragraph, most rows stay.
        first = max(0, len(head) + first_changed - 1)
        while first < min(len(before), len(self.lines)) and before[first] == self.lines[first]:
            first += 1
        return first

    def _make_flow(self) -> Flow:
        return MarkdownFlow(self._width) if self._markdown else PlainFlow(self._width)

    def _head(self, block: TurnBlock) -> list[Line]:
        lines = [Line(body=False)]
        for notice in block.notices:
            if notice.kind == "divider":
                lines += self._divider(notice.text)
                lines += [Line(body=False)] * bool(block.name)
        self.top_margin = len(lines)
        if block.name:
            lines.append(self._heading(block))
        return lines

    def _divider(self, text: str) -> list[Line]:
        text = sanitize(text).replace("\n", " ")
        rest = self._width - cell_len(text) - 2
        if rest < 4:
            return [replace(line, body=False) for line in wrap_spans([Span(text, ("notice",))], self._width)]
        rule = "─" * (rest // 2)
        spans = (Span(f"{rule} ", ("rule",)), Span(text, ("notice",)), Span(f" {rule}", ("rule",)))
        return [Line(spans, body=False)]

    def _heading(self, block: TurnBlock) -> Line:
        name = crop(sanitize(block.name).replace("\n", " "), self._width)
        spans = [Span(name, _ROLE_LOOKS[block.role])]
        left = self._width - cell_len(name)
        if block.alternatives:
            index, count = block.alternatives
            spans.append(Span(crop(f"  ‹{index}/{count}›", left), ("muted",)))
            left -= cell_len(spans[-1].text)
        if block.details and left > 6:
            details = crop(sanitize(block.details).replace("\n", " "), left - 3)
            spans.append(Span(f"   {details}", ("muted",)))
        return Line(tuple(spans), body=False)

    def _text(self, block: TurnBlock) -> list[Line]:
        lines = self._flow.lines
        if not block.text and (block.thought.text or not block.marks):
            return self._without_text(block)
        if not block.live:
            return lines
        last = lines[-1]
        return [*lines[:-1], replace(last, spans=(*last.spans, Span(CURSOR, ("cursor", *last.fill))))]

    def _without_text(self, block: TurnBlock) -> list[Line]:
        if block.thought.text and not block.live:
            return [] if block.thought.is_open else [Line((Span("(no answer)", ("muted", "gutter")),), body=False)]
        if block.live and block.thought.text:
            return [Line((Span(CURSOR, ("cursor",)),), body=False)]
        if block.live:
            waiting = crop(sanitize(block.waiting), self._width - 2)
            return [Line((Span(CURSOR, ("cursor",)), Span(f" {waiting}", ("muted", "gutter"))), body=False)]
        if block.role == "notice" or not block.name:
            return []
        return [Line((Span("(no text)", ("muted", "gutter")),), body=False)]

    def _notes(self, block: TurnBlock) -> list[Line]:
        notes = [notice for notice in block.notices if notice.kind != "divider"]
        return [line for number, notice in enumerate(notes) for line in self._note(notice, block, number)]

    def _note(self, notice: Notice, block: TurnBlock, number: int) -> list[Line]:
        sign = "✗ " if notice.kind == "error" else "· "
        # A notice of several lines gets one sign.
        sign = "  " if block.role == "notice" and number else sign
        look = (notice.kind,)
        rows = wrap_spans([Span(sanitize(notice.text), look)], self._width - 2)
        first, rest = Span(sign, (*look, "gutter")), Span("  ", ("indent",))
        return [replace(line, body=False) for line in prefixed(rows, (first,), (rest,))]
