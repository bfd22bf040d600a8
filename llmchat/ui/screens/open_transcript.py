"""Opening a saved conversation: the list of them, and a line that filters it or takes a path."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from llmchat.chat.archive import TranscriptSummary, list_transcripts
from llmchat.chat.plain_text import visible
from llmchat.files import expanded
from llmchat.ui.rendering.hints import clickable
from llmchat.ui.widgets.choice_list import Choice, ChoiceList
from llmchat.ui.widgets.path_input import PathInput


class OpenTranscriptScreen(ModalScreen[Path | None]):
    """Dismisses with the file of the chosen conversation, or None."""

    AUTO_FOCUS = "PathInput"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Open nothing", False),
        Binding("up", "move(-1)", "Conversation above", False),
        Binding("down", "move(1)", "Conversation below", False),
        Binding("pageup", "move(-8)", "Further up", False, priority=True),
        Binding("pagedown", "move(8)", "Further down", False, priority=True),
    ]

    DEFAULT_CSS = """
    OpenTranscriptScreen {
        align: center middle;

        & > Vertical {
            width: 92%;
            max-width: 88;
            height: 92%;
            max-height: 34;
            padding: 0 1;
            background: $surface;
            color: $foreground;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
        }
        & PathInput { background: $panel; padding: 0 1; margin-bottom: 1; }
        & ChoiceList { height: 1fr; }
        & ChoiceList > .option-list--option-highlighted { background: $primary 20%; }
        & #open-message { height: auto; max-height: 2; color: $text-muted; padding: 0 1; }
        & Horizontal { height: 1; }
        & Button { margin-right: 2; min-width: 10; }
        & #open-cancel { background: $panel; }
        &:ansi PathInput { text-style: underline; }
    }
    """

    line = getters.query_one(PathInput)
    choices = getters.query_one(ChoiceList)

    def __init__(self, directory: Path | None = None) -> None:
        """A list of what lies in `directory`, by default in the transcripts directory."""
        super().__init__()
        self._directory = directory
        self._summaries: Sequence[TranscriptSummary] | None = None

    def compose(self) -> ComposeResult:
        """The line over the list."""
        with Vertical() as frame:
            frame.border_title = "Open a conversation"
            frame.border_subtitle = clickable("type to filter · Enter opens · Esc closes")
            yield PathInput(placeholder="words of the title, model or date; or a path")
            yield ChoiceList(click_accepts=True)
            yield Static(id="open-message", markup=False)
            with Horizontal():
                yield Button("Open", id="open-open", variant="primary", compact=True)
                yield Button("Cancel", id="open-cancel", compact=True)

    def on_mount(self) -> None:
        """Read the directory beside the window's own work."""
        self._tell("Looking for conversations…")
        self.run_worker(self._load(), exclusive=True)

    async def _load(self) -> None:
        self._summaries = await asyncio.to_thread(list_transcripts, self._directory)
        self.filter()

    @on(PathInput.Changed)
    def filter(self) -> None:
        """Show the conversations that have every typed word."""
        if self._summaries is None:
            return
        words = self.line.value.lower().split()
        found = [summary for summary in self._summaries if _has_words(summary, words)]
        self.choices.show_choices([_row(summary) for summary in found])
        if found:
            self._tell("")
        elif self._typed_file() is not None:
            self._tell("Enter opens this file.")
        elif self._summaries:
            self._tell("No conversation has these words.")
        else:
            self._tell("No conversation is saved yet. The path of a file can be typed.")

    def action_move(self, rows: int) -> None:
        """Move the cursor of the list, also while words are typed."""
        count, place = self.choices.option_count, self.choices.highlighted
        if count and place is not None:
            self.choices.highlighted = min(max(place + rows, 0), count - 1)

    @on(PathInput.Submitted)
    @on(Button.Pressed, "#open-open")
    def open_chosen(self) -> None:
        """Open the typed file, or the conversation under the cursor."""
        if (path := self._typed_file()) is not None:
            self.dismiss(path)
        elif (choice := self.choices.choice) is not None:
            self.dismiss(Path(choice.id))

    @on(ChoiceList.Accepted)
    def open_accepted(self, event: ChoiceList.Accepted) -> None:
        """Open a conversation of the list."""
        self.dismiss(Path(event.choice.id))

    @on(Button.Pressed, "#open-cancel")
    def cancel(self) -> None:
        """Open nothing."""
        self.dismiss(None)

    def _typed_file(self) -> Path | None:
        """The file that the line names, if it does."""
        try:
            path = expanded(self.line.value.strip())
            return path if self.line.value.strip() and path.is_file() else None
        except (OSError, ValueError, RuntimeError):
            return None

    def _tell(self, text: str) -> None:
        message = self.query_one("#open-message", Static)
        message.update(text)
        message.display = bool(text)


def _row(summary: TranscriptSummary) -> Choice:
    return Choice(str(summary.path), visible(" ".join(summary.title.split())), visible(_facts(summary)))


def _facts(summary: TranscriptSummary) -> str:
    """When it was written to, by which model, and how long it is."""
    turns = f"{summary.turn_count} turn{'s' if summary.turn_count != 1 else ''}"
    parts = (f"{summary.modified.astimezone():%Y-%m-%d %H:%M}", summary.model, turns)
    return " · ".join(part for part in parts if part)


def _has_words(summary: TranscriptSummary, words: Sequence[str]) -> bool:
    text = f"{summary.title} {summary.path.name} {_facts(summary)}".lower()
    return all(word in text for word in words)
