"""One line of the sidebar: a label, a value that can be typed over, and something beside it.

›Temperature    1.20 ≠ ━━━━━━━━●────────
 └ label        │    │ └ what a subclass draws beside
                │    └ differs from the default
                └ the value; while typing, the editor
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.timer import Timer
from textual.widget import Widget

from llmchat.errors import UsageError
from llmchat.ui.keys_in_order import KeysInOrder

NAME_WIDTH = 18
"""Cells for label and value together."""

PAUSE_SECONDS = 1.5
"""Whoever types no more for so long has typed the whole value, where a row takes it without Enter."""

_LEAVING = ("tab", "shift+tab", "up", "down")
_EDITING = (
    "enter",
    "escape",
    "backspace",
    "delete",
    "ctrl+u",
    "left",
    "right",
    "shift+left",
    "shift+right",
    "home",
    "end",
)

Part = tuple[str, str]
"""A piece of the line: its text and its component classes, with spaces between; none is the row's own look."""


class ValueRow(KeysInOrder, Widget, can_focus=True):
    """A label and a value. Typing opens an editor in the value's place.

    Enter, Tab and the arrows up and down take what was typed, Esc and the mouse
    elsewhere drop it; until then it has no effect. A value that is not accepted
    stays for correction, with the reason.
    """

    HELP_HEADING = "On a setting"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "type", "Type a value; digits do so at once. Enter or a pause takes it", False, id="row.type"),
        Binding("question_mark", "explain", "Say what it does and where its value comes from", False, id="row.explain"),
    ]

    # Few, and no classes for states: Textual works each out anew for every row, at the start and at each change.
    COMPONENT_CLASSES: ClassVar[set[str]] = {"row--strong", "row--muted", "row--mark", "row--refused"}

    ALLOW_SELECT = False

    DEFAULT_CSS = """
    ValueRow {
        width: 1fr;
        height: 1;
        min-width: 24;
        color: $foreground;
        text-wrap: nowrap;
        text-overflow: clip;
        pointer: pointer;

        & > .row--strong { text-style: bold; }
        & > .row--muted { color: $text-muted; }
        & > .row--mark { color: $change; text-style: bold; }
        & > .row--refused { color: $text-error; text-style: bold; }
        &:hover { background: $boost; }
        &:focus { background: $primary 20%; }
        &:focus:ansi, &:hover:ansi { background: transparent; }
    }
    """

    draft: reactive[str | None] = reactive(None)
    """The text in the editor; None while it is closed."""
    refused: reactive[bool] = reactive(False)
    """Whether what stands in the editor was not accepted."""
    inactive: reactive[bool] = reactive(False)
    """Whether the setting has no effect as things stand."""

    starts_typing: ClassVar[str] = "0123456789.-"
    """The characters that open the editor."""

    takes_at_pause: ClassVar[bool] = False
    """Whether a whole value acts `PAUSE_SECONDS` after its last character, without Enter."""

    _pause: Timer | None = None
    _is_pressed = False

    class Refused(Message):
        """What the person asked for is not possible."""

        def __init__(self, row: ValueRow, message: str) -> None:
            super().__init__()
            self.row = row
            self.message = message
            """One line that says why, and what is."""

        @property
        def control(self) -> ValueRow:
            """The row it is about."""
            return self.row

    class Explained(Message):
        """The person asked what the row is about."""

        def __init__(self, row: ValueRow, message: str) -> None:
            super().__init__()
            self.row = row
            self.message = message
            """What the setting does, what it accepts, and where its value comes from."""

        @property
        def control(self) -> ValueRow:
            """The row it is about."""
            return self.row

    @property
    def label(self) -> str:
        """The words at the line's start."""
        raise NotImplementedError

    @property
    def value_text(self) -> str:
        """The value as it is shown."""
        raise NotImplementedError

    @property
    def value_look(self) -> str:
        """The component class of the value."""
        return "row--muted" if self.inactive else "row--strong"

    @property
    def differs(self) -> bool:
        """Whether the value is marked as not the default."""
        return False

    @property
    def expected(self) -> str:
        """What may be typed, in two or three words."""
        raise NotImplementedError

    @property
    def explanation(self) -> str:
        """What the setting does, for `?`."""
        raise NotImplementedError

    def beside(self, width: int) -> list[Part]:
        """What is drawn beside the value, in so many cells."""
        raise NotImplementedError

    def take(self, text: str) -> None:
        """Accept a typed value.

        Raises:
            UsageError: It is not accepted.
        """
        raise NotImplementedError

    def render(self) -> Content:
        """The whole line."""
        # Refused and hint share the place beside the value: one of them at a time.
        mark = " ≠ " if self.differs and self.draft is None else "   "
        parts = [("›" if self.has_focus else " ", self._label_look), *self._name_parts(), (mark, "row--mark")]
        width = self.content_size.width - sum(len(text) for text, _ in parts)
        if self.draft is None:
            parts += self.beside(max(width, 0))
        elif self.refused:
            parts.append((f"! {self.expected}", "row--refused"))
        else:
            parts.append((self.expected, "row--muted"))
        return Content.assemble(*((text, self.get_visual_style(*look.split())) for text, look in parts))

    @property
    def _label_look(self) -> str:
        muted = "row--muted" if self.inactive else ""
        return f"row--strong {muted}" if self.has_focus else muted

    def _name_parts(self) -> list[Part]:
        """Label and value, `NAME_WIDTH` cells together; the label gives way to a long value."""
        if self.draft is not None:
            room = NAME_WIDTH - len(self.label) - 2
            shown = self.draft[-room:].rjust(min(room, 6)) + "▏"
            return [(self.label.ljust(NAME_WIDTH - len(shown)), self._label_look), (shown, "")]
        value = self.value_text
        room = NAME_WIDTH - len(self.label) - 1
        if len(value) > room:
            value = f"{value[: room - 4]}…{value[-3:]}"
        return [(self.label.ljust(NAME_WIDTH - len(value)), self._label_look), (value, self.value_look)]

    async def on_key(self, event: events.Key) -> None:
        """Type, or correct what was typed. What is no value is meant for the prompt."""
        if self.screen.focused is not self:
            return  # An earlier key has moved the focus.
        if (words := self._words(event)) is not None:
            event.stop()
            event.prevent_default()
            self.close_editor()
            await self.run_action(f"screen.write_on({words!r})")
        elif self.draft is not None:
            self._edit(event)
        elif event.character and event.character in self.starts_typing:
            event.stop()
            event.prevent_default()
            self._open(event.character)

    def on_paste(self, event: events.Paste) -> None:
        """Type what was pasted."""
        event.stop()
        self._open((self.draft or "") + "".join(event.text.split())[:40])

    def on_blur(self, event: events.Blur) -> None:
        """Drop what was typed."""
        # Another terminal window coming forward must not cost what was typed.
        if self.app.app_focus:
            self.close_editor()

    def explain_on_hover(self) -> None:
        """Say under a resting pointer what `?` says, but not after a press: it would lie over the rows below."""
        self.tooltip = None if self._is_pressed else Content(self.explanation)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A pressed row needs no explanation."""
        self._is_pressed = True
        self.explain_on_hover()

    def on_leave(self, event: events.Leave) -> None:
        """The next pointer that comes may want one."""
        self._is_pressed = False
        self.explain_on_hover()

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Keep printable keys from other bindings while typing."""
        return self.draft is not None and character is not None and character.isprintable()

    def _open(self, text: str) -> None:
        self.refused = False
        self.draft = text
        self._end_pause()
        if self.takes_at_pause:
            self._pause = self.set_timer(PAUSE_SECONDS, self._take_at_pause)

    def close_editor(self) -> None:
        """Drop what was typed."""
        self.draft = None
        self.refused = False
        self._end_pause()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.stop()
            self._pause = None

    def _take_at_pause(self) -> None:
        """Take what looks like a whole value; "-" and "1." want to go on."""
        if self.draft and self.draft[-1].isdigit():
            self._submit()

    def _words(self, event: events.Key) -> str | None:
        """What has been typed so far, if with this key it is no value but the beginning of a message."""
        if not (event.is_printable and event.character) or event.character in self.starts_typing:
            return None
        if self.draft is not None:
            return self.draft + event.character if self.draft and event.character.isspace() else None
        is_bound = event.key in self.screen.active_bindings
        return None if is_bound or event.character.isspace() else event.character

    def _edit(self, event: events.Key) -> None:
        """One key while typing. Keys that leave the row take the value first."""
        draft = self.draft or ""
        if event.key in _LEAVING and self._submit():
            return
        if event.key not in _EDITING and event.key not in _LEAVING and not event.is_printable:
            return
        event.stop()
        event.prevent_default()
        if event.key == "enter":
            self._submit()
        elif event.key in ("escape", "ctrl+u"):
            self.close_editor()
        elif event.key == "backspace":
            # The empty editor stays: one Backspace too many must not do what that key does on the row.
            self._open(draft[:-1])
        elif event.is_printable and event.character and not event.character.isspace():
            self._open(draft + event.character)

    def _submit(self) -> bool:
        """Take the typed value, if there is one; if that is refused, keep it for correction."""
        try:
            if self.draft:
                self.take(self.draft)
        except UsageError as error:
            self.refused = True
            self.post_message(self.Refused(self, error.message))
            return False
        self.close_editor()
        return True

    def action_type(self) -> None:
        """Open the editor, empty."""
        self._open("")

    def action_explain(self) -> None:
        """Say what the setting does."""
        self.post_message(self.Explained(self, self.explanation))
