"""The settings file as a form, made from the fields of `Settings`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

from llmchat.chat.model import DType, EngineName
from llmchat.chat.plain_text import visible
from llmchat.chat.presets import PRESETS
from llmchat.errors import LlmchatError, UsageError
from llmchat.paths import settings_path
from llmchat.settings import Settings, save_settings
from llmchat.themes import usual_theme
from llmchat.ui.rendering.hints import clickable
from llmchat.ui.screens.setup import SetupScreen, known_themes
from llmchat.ui.widgets.verdict_line import VerdictLine

_ORDER = ("theme", "sidebar", "preset", "system", "raw", "autosave", "model", "tokenizer", "chat_template")
"""What is changed most stands first; the rest follows as it is defined."""


class SettingRow(Vertical):
    """One setting: its name, a control that fits its kind, and its help."""

    def __init__(self, item: Field[Any], value: object, options: Sequence[str]) -> None:
        """A row.

        Args:
            item: The field of `Settings`.
            value: Its value now.
            options: What there is to choose from; empty if anything can be typed.
        """
        super().__init__()
        self.key = item.name
        self._item = item
        self._value = self.first_value = value
        self._options = options

    def compose(self) -> ComposeResult:
        """Name and control on one line, the help below."""
        with Horizontal():
            yield Label(self.key, markup=False)
            if self._options:
                choices = [(option or "the defaults", option) for option in self._options]
                yield Select(choices, value=_word(self._value), allow_blank=False, compact=True)
            else:
                yield Input("" if self._value is None else str(self._value), compact=True)
        yield Static(self._item.metadata["help"], classes="setting-help", markup=False)

    @property
    def value(self) -> object:
        """What the control says, as the field takes it.

        Raises:
            UsageError: A number was expected.
        """
        if self._options:
            word = str(self.query_one(Select).value)
            return word == "on" if isinstance(self._value, bool) else word
        text = self.query_one(Input).value.strip()
        if "int" in str(self._item.type):
            return self._number(text)
        return text or self._item.default

    def _number(self, text: str) -> int | None:
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise UsageError(f"{self.key} takes a whole number, not {text!r}.") from None


class SettingsScreen(ModalScreen[Settings | None]):
    """Dismisses with the settings that were saved, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "save", "Save", False),
        Binding("escape", "leave", "Leave without saving", False),
        Binding("pageup", "scroll_form(-1)", "Up", False),
        Binding("pagedown", "scroll_form(1)", "Down", False),
    ]

    DEFAULT_CSS = """
    SettingsScreen {
        align: center middle;

        & > Vertical {
            width: 92%;
            max-width: 92;
            height: 92%;
            padding: 0 1;
            background: $surface;
            color: $foreground;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
        }
        & VerticalScroll { height: 1fr; scrollbar-size: 1 1; background: transparent; }
        & SettingRow { height: auto; margin-bottom: 1; }
        & SettingRow Horizontal { height: 1; }
        & SettingRow Label { width: 16; text-style: bold; }
        & SettingRow Input { width: 1fr; background: $panel; padding: 0 1; }
        & SettingRow Select { width: 32; max-width: 1fr; }
        & .setting-help { color: $text-muted; padding-left: 16; }
        & #settings-buttons { height: 1; }
        & #settings-buttons Button { margin-right: 2; min-width: 10; }
        & #settings-setup, & #settings-cancel { background: $panel; }
        &:ansi SettingRow Input { text-style: underline; }
    }
    """

    def __init__(self, settings: Settings, path: Path | None = None) -> None:
        """A form.

        Args:
            settings: What the settings file says now, without the command line's flags.
            path: The settings file; by default the usual one.
        """
        super().__init__()
        self._settings = settings
        self._path = path
        self._theme_before = ""

    def compose(self) -> ComposeResult:
        """A row for each setting, what is wrong, and the buttons."""
        with Vertical() as frame:
            frame.border_title = f"Settings: {visible(str(self._path or settings_path()))}"
            frame.border_subtitle = clickable("F2 saves · Esc leaves")
            with VerticalScroll(can_focus=False):
                for item in _ordered_fields():
                    value = getattr(self._settings, item.name)
                    yield SettingRow(item, value, self._options(item.name, value))
            yield VerdictLine()
            with Horizontal(id="settings-buttons"):
                yield Button("Save", id="settings-save", variant="primary", compact=True)
                yield Button("Cancel", id="settings-cancel", compact=True)
                yield Button("Guided set-up", id="settings-setup", compact=True)

    def on_mount(self) -> None:
        """Remember the theme, which is put on as it is chosen."""
        self._theme_before = self.app.theme

    def _options(self, name: str, value: object) -> list[str]:
        """What there is to choose from for a setting; nothing if it can be any text."""
        if isinstance(value, bool):
            return ["on", "off"]
        known = {
            "theme": ("", *known_themes(self.app)),
            "preset": ("", *PRESETS),
            "device": ("auto", "cpu", "cuda", "mps"),
            "dtype": get_args(DType),
            "engine": get_args(EngineName),
        }.get(name, ())
        return list(dict.fromkeys((*known, str(value)))) if known else []

    @on(Select.Changed)
    def preview_theme(self, event: Select.Changed) -> None:
        """Put a chosen theme on at once."""
        row = next(row for row in event.select.ancestors if isinstance(row, SettingRow))
        # A list also reports what it begins with; that must change nothing.
        if row.key == "theme" and event.value not in (row.first_value, self.app.theme):
            self.app.theme = str(event.value) or usual_theme(self.app.console.color_system)
            row.first_value = None

    @on(Button.Pressed, "#settings-save")
    @on(Input.Submitted)
    def action_save(self) -> None:
        """Check and write the file."""
        try:
            values: dict[str, Any] = {row.key: row.value for row in self.query(SettingRow)}
            changed = replace(self._settings, **values)
            save_settings(changed, self._path)
        except LlmchatError as error:
            self.query_one(VerdictLine).refuse(error.message)
        else:
            self.dismiss(changed)

    @on(Button.Pressed, "#settings-cancel")
    def action_leave(self) -> None:
        """Leave with everything as it was."""
        self.app.theme = self._theme_before
        self.dismiss(None)

    @on(Button.Pressed, "#settings-setup")
    def start_setup(self) -> None:
        """Answer the questions one by one instead."""

        def take(settings: Settings | None) -> None:
            if settings is not None:
                self.dismiss(settings)

        self.app.push_screen(SetupScreen(self._settings, self._path), take)

    def action_scroll_form(self, direction: int) -> None:
        """Scroll by a page."""
        form = self.query_one(VerticalScroll)
        form.scroll_relative(y=direction * max(form.size.height - 2, 1), animate=False)


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _ordered_fields() -> list[Field[Any]]:
    """The settings that a form can hold: all but the tables."""
    plain = [item for item in fields(Settings) if item.name not in ("generation", "keys")]
    return sorted(plain, key=lambda item: _ORDER.index(item.name) if item.name in _ORDER else len(_ORDER))
