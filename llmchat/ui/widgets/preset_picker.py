"""The sidebar's heading: how many settings differ, which preset that is, and the list of presets."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from llmchat.chat.presets import PRESETS
from llmchat.ui.keys_in_order import KeysInOrder


class PresetHeading(KeysInOrder, Widget, can_focus=True):
    """The word "Sampling", the count of changed settings, and the preset with an arrow."""

    EXPLANATION: ClassVar[str] = (
        "How many settings are not at their default (≠), and the preset that they make up. Enter lists the presets."
    )

    COMPONENT_CLASSES: ClassVar[set[str]] = {"heading--title", "heading--count", "heading--preset"}

    ALLOW_SELECT = False

    DEFAULT_CSS = """
    PresetHeading {
        height: 1;
        width: 1fr;
        text-wrap: nowrap;
        text-overflow: clip;
        pointer: pointer;

        & > .heading--title { color: $foreground; text-style: bold; }
        & > .heading--count { color: $change; text-style: bold; }
        & > .heading--preset { color: $text-muted; }
        &:hover { background: $boost; }
        &:focus { background: $primary 20%; }
        &:focus > .heading--preset { color: $foreground; text-style: bold; }
        &:focus:ansi, &:hover:ansi { background: transparent; }
    }
    """

    preset: reactive[str] = reactive("")
    """The preset's name, or another word if none matches."""
    count: reactive[int] = reactive(0)
    """How many settings are not at their default."""

    def render(self) -> Content:
        """The whole line."""
        parts = [("›" if self.has_focus else " ", "heading--title"), ("Sampling", "heading--title")]
        if self.count:
            parts.append((f"  ≠ {self.count}", "heading--count"))
        used = sum(len(text) for text, _ in parts)
        # Right-aligned, a cell short of the edge, where the tracks end too.
        parts.append((f"{self.preset} ▾".rjust(max(self.content_size.width - used, 0)), "heading--preset"))
        return Content.assemble(*((text, self.get_visual_style(name)) for text, name in parts))


class PresetList(OptionList):
    """The presets to choose from, over what lies below the heading."""

    ALLOW_SELECT = False

    def on_blur(self, event: events.Blur) -> None:
        """Close when the focus goes elsewhere."""
        self.display = False


class PresetPicker(Widget):
    """The heading and its list, which opens by Enter, Space, ↓ on it, or a click."""

    HELP_HEADING = "On the preset"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "open", "Choose a preset", False, id="preset.open"),
        Binding("escape", "close", "Close the list", False, id="preset.close"),
    ]

    DEFAULT_CSS = """
    PresetPicker {
        height: 1;
        width: 1fr;

        & > PresetList {
            display: none;
            overlay: screen;
            constrain: inside inside;
            width: 100%;
            height: auto;
            max-height: 12;
            border: round $primary;
            background: $surface;
            color: $foreground;
            padding: 0;
            &:focus { border: round $primary; background-tint: transparent; }
            scrollbar-size: 1 1;
        }
    }
    """

    class Chosen(Message):
        """The person chose a preset."""

        def __init__(self, preset: str) -> None:
            super().__init__()
            self.preset = preset

    def compose(self) -> ComposeResult:
        """The heading, and the list that stays hidden until it is asked for."""
        yield PresetHeading()
        yield PresetList(*(Option(_described(name), id=name) for name in PRESETS))

    @property
    def heading(self) -> PresetHeading:
        """The line that is always shown."""
        return self.query_one(PresetHeading)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Esc to the screen while the list is closed."""
        is_open = self.query_one(PresetList).display
        return {"close": is_open, "open": not is_open}.get(action, True)

    def action_open(self) -> None:
        """Show the list, at the preset that is in force."""
        presets = self.query_one(PresetList)
        known = list(PRESETS)
        presets.highlighted = known.index(self.heading.preset) if self.heading.preset in known else 0
        presets.display = True
        presets.focus()

    def action_close(self) -> None:
        """Hide the list."""
        self.query_one(PresetList).display = False
        self.heading.focus()

    @on(events.Click, "PresetHeading")
    def toggle_list(self, event: events.Click) -> None:
        """Open the list by a click on the heading."""
        event.stop()
        self.action_open()

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        """Report the choice and close the list."""
        event.stop()
        self.action_close()
        if event.option_id:
            self.post_message(self.Chosen(event.option_id))

    @on(OptionList.OptionHighlighted)
    def keep_inside(self, event: OptionList.OptionHighlighted) -> None:
        """Moving within the list concerns nobody else."""
        event.stop()


def _described(name: str) -> Content:
    """A preset's name and what it sets."""
    words = (f"{key} {value}" if key != "do_sample" else "likeliest token" for key, value in PRESETS[name].items())
    return Content(name.ljust(14) + ", ".join(words))
