"""A question that is answered with yes or no."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from llmchat.chat.plain_text import visible
from llmchat.ui.rendering.hints import clickable


class QuestionScreen(ModalScreen[bool]):
    """Dismisses with the answer; Esc is no."""

    AUTO_FOCUS = ""
    HELP_HEADING = "In a question"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "dismiss(False)", "No", False),
        Binding("y", "dismiss(True)", "Yes", False),
        Binding("left,right", "app.focus_next", "The other answer", False),
    ]

    DEFAULT_CSS = """
    QuestionScreen {
        align: center middle;

        & > Vertical {
            width: 92%;
            max-width: 76;
            height: auto;
            max-height: 92%;
            padding: 0 1;
            background: $surface;
            color: $foreground;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
        }
        & Horizontal { height: 1; margin-top: 1; }
        & Button { margin-right: 2; min-width: 10; }
        & #question-no { background: $panel; }
    }
    """

    def __init__(self, title: str, question: str, yes: str, no: str, *, is_risky: bool = False) -> None:
        """A question.

        Args:
            title: What it is about, in a few words.
            question: What is to be known to answer it.
            yes: What happens at yes, in a word or two.
            no: The same for no.
            is_risky: Whether Enter alone means no.
        """
        super().__init__()
        self._title, self._question, self._yes, self._no = title, question, yes, no
        self._is_risky = is_risky

    def on_mount(self) -> None:
        """Begin with the answer that is meant for most."""
        self.query_one("#question-no" if self._is_risky else "#question-yes").focus()

    def compose(self) -> ComposeResult:
        """The question, and its two answers."""
        with Vertical() as frame:
            frame.border_title = visible(self._title)
            frame.border_subtitle = clickable("Enter chooses · Esc closes")
            yield Static(visible(self._question), markup=False)
            with Horizontal():
                yield Button(self._yes, id="question-yes", variant="primary", compact=True)
                yield Button(self._no, id="question-no", compact=True)

    @on(Button.Pressed)
    def answer(self, event: Button.Pressed) -> None:
        """One of the two."""
        self.dismiss(event.button.id == "question-yes")
