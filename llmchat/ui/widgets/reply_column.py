"""One of several replies that are shown beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.ui.widgets.transcript_view import TranscriptView


class ReplyColumn(TranscriptView, inherit_bindings=False):
    """A reply in a frame: its settings above, what became of it below."""

    HELP_HEADING = "In a reply"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", "Scroll up", False),
        Binding("down", "scroll_down", "Scroll down", False),
        Binding("pageup", "page_up", "Page up", False),
        Binding("pagedown", "page_down", "Page down", False),
        Binding("home", "scroll_home", "To the start", False),
        Binding("end", "scroll_end", "To the end", False),
    ]

    DEFAULT_CSS = """
    ReplyColumn {
        width: 1fr;
        height: 1fr;
        border: round $foreground 30%;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;

        &:focus { border: round $primary; border-title-color: $text-primary; border-title-style: bold; }
        &:ansi { border: round ansi_default; }
        &:ansi:focus { border: heavy ansi_blue; }
    }
    """

    @dataclass
    class Scrolled(Message):
        """The person scrolled the column."""

        column: ReplyColumn
        row: int

    def show(self, block: TurnBlock) -> None:
        """Show the reply as far as it has come."""
        if self.blocks and self.blocks[0].id == block.id:
            self.update_block(block.id, block)
        else:
            self.set_blocks([block])

    def go_to(self, row: int) -> None:
        """Scroll because another column was scrolled."""
        self._go_to(row)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Tell what the person did; what the growing text does is nobody else's business."""
        super().watch_scroll_y(old_value, new_value)
        if not self._own_scroll and round(old_value) != round(new_value):
            self.post_message(self.Scrolled(self, round(new_value)))
