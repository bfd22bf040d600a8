"""The line of the sidebar that unfolds the less usual sampling parameters."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from llmchat.ui.keys_in_order import KeysInOrder


class MoreSamplers(KeysInOrder, Widget, can_focus=True):
    """The words "More samplers", how many of them are on, and an arrow."""

    HELP_HEADING = "On “More samplers”"

    EXPLANATION: ClassVar[str] = (
        "Typical, top-nσ, XTC, DRY, more penalties, dynamic temperature and Mirostat. Enter shows them. "
        "The order of the stages and bans: /set sampler_order, /set banned_tokens."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "switch", "Show or hide the other samplers", False, id="more.toggle"),
        Binding("right", "unfold(True)", "Show them", False, id="more.show"),
        Binding("left", "unfold(False)", "Hide them", False, id="more.hide"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {"more--label", "more--count"}

    ALLOW_SELECT = False

    DEFAULT_CSS = """
    MoreSamplers {
        height: 1;
        width: 1fr;
        text-wrap: nowrap;
        text-overflow: clip;
        pointer: pointer;

        & > .more--label { color: $text-muted; }
        & > .more--count { color: $change; text-style: bold; }
        &:hover { background: $boost; }
        &:focus { background: $primary 20%; }
        &:focus > .more--label { color: $foreground; text-style: bold; }
        &:focus:ansi, &:hover:ansi { background: transparent; }
    }
    """

    unfolded: reactive[bool] = reactive(False)
    """Whether the other samplers are shown."""
    count: reactive[int] = reactive(0)
    """How many of them are not off."""
    others: reactive[str] = reactive("")
    """What else is set that has no slider: an order of one's own, banned tokens."""

    class Toggled(Message):
        """The person wants to see the other samplers, or no longer."""

        def __init__(self, line: MoreSamplers, unfolded: bool) -> None:
            super().__init__()
            self.line = line
            self.unfolded = unfolded

        @property
        def control(self) -> MoreSamplers:
            """The line."""
            return self.line

    def render(self) -> Content:
        """The whole line."""
        arrow = "▾" if self.unfolded else "▸"
        parts = [(f"{'›' if self.has_focus else ' '}More samplers {arrow}", "more--label")]
        if words := " · ".join(filter(None, (f"{self.count} on" if self.count else "", self.others))):
            parts.append((f"  {words}", "more--count"))
        return Content.assemble(*((text, self.get_visual_style(name)) for text, name in parts))

    def action_switch(self) -> None:
        """Show the other samplers, or hide them."""
        self.action_unfold(not self.unfolded)

    def action_unfold(self, unfolded: bool) -> None:
        """Show the other samplers or hide them."""
        if unfolded != self.unfolded:
            self.unfolded = unfolded
            self.post_message(self.Toggled(self, unfolded))

    def on_click(self, event: events.Click) -> None:
        """Show the other samplers, or hide them."""
        event.stop()
        self.action_switch()
