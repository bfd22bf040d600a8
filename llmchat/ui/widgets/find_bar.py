"""One line to look for words in the transcript. It knows nothing of the transcript itself."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static


class FindBar(Horizontal):
    """A field, the count of matches, and which one is shown. Hidden until `open`."""

    HELP_HEADING = "While finding"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,down", "move(1)", "Next match", False, id="find.next"),
        Binding("shift+enter,up", "move(-1)", "Match before", False, id="find.previous"),
        Binding("escape", "close", "Close", False, id="find.close"),
    ]

    DEFAULT_CSS = """
    FindBar {
        display: none;
        height: 1;
        width: 1fr;
        padding: 0 1;
        background: $surface;
        color: $foreground;

        & > Static { width: auto; height: 1; }
        & > #find-label { text-style: bold; padding-right: 1; }
        & > #find-count { color: $text-muted; padding-left: 2; min-width: 12; text-align: right; }
        & > #find-count.-none { color: $text-error; text-style: bold; }
        & > Input { width: 1fr; }
    }
    """

    class Searched(Message):
        """The person typed other words to look for; "" ends the search."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Moved(Message):
        """The person asked for another match."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by
            """1 for the next match, -1 for the one before."""

    class Closed(Message):
        """The person is done; the bar is hidden."""

    def compose(self) -> ComposeResult:
        """Label, field and count."""
        yield Static("Find", id="find-label")
        yield Input(placeholder="words in the transcript", compact=True, select_on_focus=True)
        yield Static("", id="find-count")

    @property
    def text(self) -> str:
        """What is looked for."""
        return self.query_one(Input).value

    @property
    def is_open(self) -> bool:
        """Whether the bar is shown."""
        return bool(self.display)

    def open(self) -> None:
        """Show the bar and put the focus into it."""
        self.display = True
        self.query_one(Input).focus()

    def close(self) -> None:
        """Hide the bar."""
        self.display = False

    def show_count(self, place: int, count: int) -> None:
        """Say which match is shown, counted from 1, of how many."""
        shown = self.query_one("#find-count", Static)
        words = f"{place}/{count}" if count else "no match" if self.text else ""
        shown.update(Content(words))
        shown.set_class(bool(self.text) and not count, "-none")

    @on(Input.Changed)
    def search(self, event: Input.Changed) -> None:
        """Look for what is in the field."""
        event.stop()
        if not event.value:
            self.show_count(0, 0)
        self.post_message(self.Searched(event.value))

    @on(Input.Submitted)
    def go_on(self, event: Input.Submitted) -> None:
        """Go to the next match by Enter."""
        event.stop()
        self.action_move(1)

    def action_move(self, by: int) -> None:
        """Ask for another match."""
        if self.text:
            self.post_message(self.Moved(by))

    def action_close(self) -> None:
        """Hide the bar and say so."""
        self.close()
        self.post_message(self.Closed())
