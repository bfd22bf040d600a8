"""Help: every key, slash command and setting, made from where they are defined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from llmchat.chat.generation_config import SAMPLING_SPECS
from llmchat.chat.presets import PRESETS
from llmchat.ui.commands import COMMANDS
from llmchat.ui.keys import key_label
from llmchat.ui.rendering.hints import clickable


@dataclass(frozen=True, slots=True)
class HelpSection:
    """A heading, and rows of what to press or type and what it does."""

    heading: str
    rows: tuple[tuple[str, str], ...]


class HelpTable(Widget):
    """One section."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"help--heading", "help--key", "help--text"}

    DEFAULT_CSS = """
    HelpTable {
        height: auto;
        width: 1fr;
        margin-bottom: 1;

        & > .help--heading { color: $text-primary; text-style: bold; }
        & > .help--key { color: $foreground; text-style: bold; }
        & > .help--text { color: $foreground; }
    }
    """

    def __init__(self, section: HelpSection) -> None:
        """A table of the section's rows."""
        super().__init__()
        self.section = section

    def render(self) -> Table:
        """The heading over two columns; the right one wraps."""
        style = self.get_component_rich_style
        table = Table.grid(padding=(0, 2, 0, 0))
        wide = self.content_size.width >= 64
        table.title = Text(self.section.heading, style("help--heading"))
        table.title_justify = "left"
        table.add_column(width=24 if wide else 16, overflow="fold")
        table.add_column(overflow="fold")
        for key, words in self.section.rows:
            table.add_row(Text(key, style("help--key")), Text(words, style("help--text")))
        return table


class HelpScreen(ModalScreen[None]):
    """The help over whatever screen it was asked on. Esc, F1 and q close it."""

    AUTO_FOCUS = "VerticalScroll"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,q", "dismiss(None)", "Close", id="help.close"),
    ]

    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;

        & > VerticalScroll {
            width: 92%;
            max-width: 96;
            height: 92%;
            padding: 1 2;
            background: $surface;
            color: $foreground;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
            scrollbar-size-vertical: 1;
        }
        & #help-intro { height: auto; margin-bottom: 1; }
    }
    """

    def compose(self) -> ComposeResult:
        """A frame that scrolls, with a table for each section."""
        with VerticalScroll() as frame:
            frame.border_title = "Help"
            frame.border_subtitle = clickable("Esc closes · ↑ ↓ PgUp PgDn scroll")
            yield Static(
                "Write, press Enter, and move the sliders while the reply runs: the next token already follows them.",
                id="help-intro",
                markup=False,
            )
            for section in help_sections(self._screen_below()):
                yield HelpTable(section)

    def _screen_below(self) -> Screen[object] | None:
        """The screen that help was asked on."""
        others = [screen for screen in self.app.screen_stack if screen is not self]
        return others[-1] if others else None


def help_sections(screen: Screen[object] | None) -> Iterator[HelpSection]:
    """Everything there is to press on a screen, then to type, then to set."""
    if screen is not None:
        yield from _key_sections(screen)
    yield HelpSection("Slash commands", tuple(_command_rows()))
    yield HelpSection("Settings", tuple(_setting_rows()))
    yield HelpSection("Presets", tuple((name, _preset_words(name)) for name in PRESETS))


def _key_sections(screen: Screen[object]) -> Iterator[HelpSection]:
    """The keys that work everywhere, then those of the widget in focus, then of the others."""
    keymap = screen.app._keymap
    focused = list(screen.focused.ancestors_with_self) if screen.focused else []
    nodes: list[DOMNode] = [screen.app, screen, *focused, *screen.walk_children(Widget)]
    seen: set[type] = set()
    sections: dict[str, list[tuple[str, str]]] = {}
    for node in nodes:
        rows = sections.setdefault("Everywhere" if node in (screen, screen.app) else _heading(node), [])
        for kind in type(node).__mro__:
            if kind not in seen and kind.__module__.split(".")[0] == __name__.split(".")[0]:
                seen.add(kind)
                rows.extend(_key_rows(kind.__dict__.get("BINDINGS", ()), keymap))
    yield from (HelpSection(heading, tuple(dict.fromkeys(rows))) for heading, rows in sections.items() if rows)


def _heading(node: DOMNode) -> str:
    """Where a widget's keys work: what its class says, or its name in words."""
    named: str = getattr(node, "HELP_HEADING", "")
    return named or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).capitalize()


def _key_rows(bindings: Iterable[BindingType], keymap: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """A row for each described binding, with the keys that the person gave it."""
    for binding in bindings:
        if isinstance(binding, Binding) and binding.description and not binding.system:
            keys = keymap.get(binding.id or "", binding.key).split(",")
            yield "  ".join(key_label(key.strip()) for key in keys), binding.description


def _command_rows() -> Iterator[tuple[str, str]]:
    for spec in COMMANDS:
        also = f" Also {', '.join('/' + alias for alias in spec.aliases)}." if spec.aliases else ""
        yield spec.usage, spec.help + also
    yield "//text", "Send text that begins with a slash."


def _setting_rows() -> Iterator[tuple[str, str]]:
    for spec in SAMPLING_SPECS:
        yield spec.name, f"{spec.help} {spec.range_text}; default {spec.format(spec.default)}."


def _preset_words(name: str) -> str:
    values = (f"{key} {'off' if value is False else value}" for key, value in PRESETS[name].items())
    return ", ".join(values) + "; the rest at its default."
