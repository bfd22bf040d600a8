"""Where the person writes: a text area that sends, remembers and completes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.app import SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.style import Style
from textual.timer import Timer
from textual.widgets import TextArea

from llmchat.errors import UsageError
from llmchat.paths import history_path
from llmchat.ui.commands import ArgumentKind, Command, parse
from llmchat.ui.completion import Completion, Names, common_start, complete
from llmchat.ui.draft_file import DraftFile
from llmchat.ui.external_editor import edit_text
from llmchat.ui.keys import recognise_alt_enter
from llmchat.ui.keys_in_order import KeysInOrder
from llmchat.ui.prompt_history import PromptHistory
from llmchat.ui.rendering.hints import action_style

DRAFT_SECONDS = 1.0
"""How long no key has come before what is written is kept on disk."""


class PromptInput(KeysInOrder, TextArea):
    """The prompt. Enter sends what it holds as text or as a slash command.

    A command that is not accepted stays for correction, with the reason on the
    lower border, where completions are shown too. Nothing that is pasted is sent.
    """

    HELP_HEADING = "In the prompt"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", False, id="prompt.send"),
        Binding("ctrl+j,shift+enter,alt+enter", "newline", "New line", False, id="prompt.newline"),
        Binding("up", "older", "Earlier prompt, from the first line", False, id="prompt.older"),
        Binding("down", "newer", "Later prompt, from the last line", False, id="prompt.newer"),
        Binding("tab", "complete", "Complete a slash command, its setting or file", False, id="prompt.complete"),
        Binding("ctrl+g", "edit_outside", "Write in your own editor", False, id="prompt.editor"),
        Binding("ctrl+d", "delete_or_quit", "Quit, on an empty prompt", False, id="prompt.quit"),
    ]

    DEFAULT_CSS = """
    PromptInput {
        height: auto;
        min-height: 3;
        max-height: 10;
        width: 1fr;
        padding: 0 1;
        border: round $foreground 40%;
        background: $background;
        color: $foreground;
        scrollbar-size-vertical: 1;
        border-title-color: $text-muted;
        border-title-background: $background;
        border-subtitle-align: left;
        border-subtitle-color: $text-muted;
        border-subtitle-background: $background;

        &:focus { border: round $primary; }
        &.-refused { border: round $error; border-subtitle-color: $text-error; border-subtitle-style: bold; }
        & .text-area--placeholder { color: $text-muted; }
        & .text-area--suggestion { color: $text-muted; text-style: italic; }
    }
    """

    class Submitted(Message):
        """The person sent text for the model."""

        def __init__(self, prompt: PromptInput, text: str) -> None:
            super().__init__()
            self.prompt = prompt
            self.text = text
            """What was written, with an escaping slash taken off."""

        @property
        def control(self) -> PromptInput:
            """The prompt it was written in."""
            return self.prompt

    class CommandGiven(Message):
        """The person gave a slash command that exists and is complete."""

        def __init__(self, prompt: PromptInput, command: Command, written: str) -> None:
            super().__init__()
            self.prompt = prompt
            self.command = command
            self.written = written
            """How it was typed."""

        @property
        def control(self) -> PromptInput:
            """The prompt it was written in."""
            return self.prompt

    class QuitRequested(Message):
        """The person asked to quit from an empty prompt."""

    def __init__(
        self,
        history: PromptHistory | None = None,
        names: Mapping[ArgumentKind, Names] | None = None,
        *,
        placeholder: str = "Write a message, or / for commands",
        id: str | None = None,  # noqa: A002
    ) -> None:
        """An empty prompt.

        Args:
            history: What was sent before; by default that of the person's own file.
            names: Where the names of models and themes come from, for Tab.
            placeholder: Shown while it is empty.
            id: The widget's id.
        """
        # The text area's constructor asks for completions already.
        self._names = names or {}
        self._offer: Completion | None = None
        self._base = ""
        self._chosen: int | None = None
        self._warned_of_history = False
        self._draft_file: DraftFile | None = None
        self._draft_timer: Timer | None = None
        super().__init__(id=id, placeholder=Content(placeholder), highlight_cursor_line=False)
        self.history_of_prompts = PromptHistory(history_path()) if history is None else history
        path = self.history_of_prompts.path
        self._draft_file = None if path is None else DraftFile(path)
        for text in () if self._draft_file is None else self._draft_file.left_behind():
            self.history_of_prompts.add(text)
        recognise_alt_enter()

    async def on_key(self, event: events.Key) -> None:
        """Break the line also where Enter comes with a modifier as xterm's modifyOtherKeys has it."""
        if event.key in ("shift+\r", "alt+\r"):
            event.stop()
            event.prevent_default()
            self.action_newline()

    def on_paste(self, event: events.Paste) -> None:
        """Insert pasted text as it is, line breaks and all."""
        event.stop()
        event.prevent_default()
        result = self.replace(_plain(event.text), *self.selection, maintain_selection_offset=False)
        self.move_cursor(result.end_location)
        self.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave keys that the screen uses to it where they mean nothing here."""
        if action in ("cursor_page_up", "cursor_page_down", "copy"):
            return False
        if action in ("cursor_up", "cursor_down"):
            return not parameters
        if action in ("undo", "redo"):
            # Where nothing was written, they are about the conversation.
            return bool(self.history.undo_stack if action == "undo" else self.history.redo_stack)
        if action == "complete":
            return self._offer is not None and bool(self._offer.candidates)
        return True

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Leave characters to the screen's own keys, such as [ and ], while nothing is written."""
        return bool(self.text) and super().check_consume_key(key, character)

    def render_line(self, y: int) -> Strip:
        """A line of the text; none where the window leaves no room, where a text area would fail."""
        return super().render_line(y) if self.content_size.width > 0 else Strip.blank(self.size.width)

    def show_error(self, message: str) -> None:
        """Say on the border what is wrong with what is written; the next edit clears it."""
        line = Content(f"✗ {message}")
        self.border_subtitle = line
        self.add_class("-refused")
        if line.cell_length > self.size.width - 6:
            self.notify(message, severity="error", markup=False)

    def refuse(self, written: str, message: str) -> None:
        """Take back a command that could not be carried out, for correction, unless something else is written."""
        if self.text:
            self.notify(message, severity="error", markup=False)
        else:
            self.write(written)
            self.show_error(message)

    def write(self, text: str) -> None:
        """Put a text in place of what is written, the cursor at its end."""
        self.text = text
        self.move_cursor(self.document.end)

    def keep_draft(self) -> None:
        """Put what was not sent among the past prompts, where Up finds it the next time."""
        self.history_of_prompts.add(self.text)

    def set_aside(self) -> None:
        """Take away what is written; Up brings it back, and so does undoing."""
        if self.text:
            self.keep_draft()
            self.history.checkpoint()
            self.clear()

    def action_send(self) -> None:
        """Send the text, or give the command; one that is refused stays."""
        written = self.text
        if not written.strip():
            return
        try:
            parsed = parse(written)
        except UsageError as error:
            self.show_error(error.message)
            return
        self.history_of_prompts.add(written)
        self._warn_of_history()
        self.write("")
        if isinstance(parsed, Command):
            self.post_message(self.CommandGiven(self, parsed, written))
        else:
            self.post_message(self.Submitted(self, parsed.text))

    def _warn_of_history(self) -> None:
        history = self.history_of_prompts
        if history.problem and not self._warned_of_history:
            self._warned_of_history = True
            self.notify(history.problem, title="Prompt history", severity="warning", markup=False)

    def action_newline(self) -> None:
        """Break the line at the cursor."""
        result = self.replace("\n", *self.selection, maintain_selection_offset=False)
        self.move_cursor(result.end_location)

    def action_older(self) -> None:
        """To the line above, or from the first one to the prompt before."""
        if not self.navigator.is_first_wrapped_line(self.cursor_location):
            self.action_cursor_up()
        elif (text := self.history_of_prompts.older(self.text)) is not None:
            self.write(text)
            # On the first line another Up goes on to the prompt before.
            first = self.wrapped_document.get_offsets(0)
            self.move_cursor((0, first[0] - 1 if first else len(self.document[0])))

    def action_newer(self) -> None:
        """To the line below, or from the last one to the prompt after."""
        if not self.navigator.is_last_wrapped_line(self.cursor_location):
            self.action_cursor_down()
        elif (text := self.history_of_prompts.newer(self.text)) is not None:
            self.write(text)

    def action_delete_or_quit(self) -> None:
        """Delete the character under the cursor; ask to quit if there is no text at all."""
        if self.text:
            self.action_delete_right()
        else:
            self.post_message(self.QuitRequested())

    def action_edit_outside(self) -> None:
        """Write the prompt in an editor of the person's own."""
        try:
            with self.app.suspend():
                text = edit_text(self.text)
        except UsageError as error:
            self.show_error(error.message)
        except SuspendNotSupported:
            self.show_error("An editor cannot be opened from here: this terminal cannot be lent out.")
        else:
            self.write(_plain(text))
        self.app.refresh(layout=True)

    def on_unmount(self) -> None:
        """Leave no draft behind: whoever takes the window away has kept it."""
        if self._draft_file is not None:
            self._draft_file.keep("")

    def _keep_draft_soon(self) -> None:
        """Keep what is written once no key has come for a moment."""
        if self._draft_file is None or not self.is_mounted:
            return
        if self._draft_timer is not None:
            self._draft_timer.stop()
        draft_file = self._draft_file
        self._draft_timer = self.set_timer(DRAFT_SECONDS, lambda: draft_file.keep(self.text))

    def update_suggestion(self) -> None:
        """Offer what the command may go on with; called after every edit."""
        self._keep_draft_soon()
        if self._chosen is not None and self._offer is not None and self.text == self._completed(self._chosen):
            return
        self._chosen = None
        self._base = self.text
        self._offer = None if "\n" in self._base else complete(self._base, self._names)
        self.remove_class("-refused")
        self._show_offer()

    def _show_offer(self) -> None:
        """The first candidate as ghost text, all of them or the command's usage on the border."""
        offer = self._offer
        self.suggestion = ""
        if offer is None:
            self.border_subtitle = None
            return
        word = self._base[offer.start :]
        if self._chosen is None and word and offer.candidates and offer.candidates[0].startswith(word):
            self.suggestion = offer.candidates[0][len(word) :]
        self.border_subtitle = self._hint(offer)

    def _hint(self, offer: Completion) -> Content:
        """The line on the border; the candidate that Tab put in stands out."""
        if not offer.candidates or (len(offer.candidates) == 1 and offer.hint):
            return Content(offer.hint or "nothing to complete")
        shown = [
            Content.assemble((f"[{word}]" if index == self._chosen else word, self._offer_style(index)))
            for index, word in enumerate(offer.candidates)
        ]
        # Keep the chosen one in sight where the border is short.
        first = max((self._chosen or 0) - 2, 0)
        return Content.assemble(("Tab  ", action_style("complete"))) + Content("  ").join(shown[first:])

    def _offer_style(self, index: int) -> Style:
        """A candidate is taken by a click; the one that Tab put in stands out."""
        return Style(bold=index == self._chosen or None) + action_style(f"take_candidate({index})")

    def action_take_candidate(self, index: int) -> None:
        """Put in a candidate."""
        if self._offer is not None and index < len(self._offer.candidates):
            is_folder = self._offer.candidates[index].endswith(("/", "\\"))
            self.write(self._completed(index) + ("" if is_folder else " "))

    def action_complete(self) -> None:
        """Put in what all candidates share; then each in turn."""
        offer = self._offer
        if offer is None or not offer.candidates:
            return
        word = self._base[offer.start :]
        shared = common_start(offer.candidates)
        if self._chosen is None and len(offer.candidates) == 1:
            self.action_take_candidate(0)
        elif self._chosen is None and len(shared) > len(word):
            self.write(self._base[: offer.start] + shared)
        else:
            self._chosen = 0 if self._chosen is None else (self._chosen + 1) % len(offer.candidates)
            self.write(self._completed(self._chosen))
            self._show_offer()

    def _completed(self, index: int) -> str:
        """The line with a candidate in the place of the word being typed."""
        assert self._offer is not None
        return self._base[: self._offer.start] + self._offer.candidates[index]


def _plain(text: str) -> str:
    """Text with plain line ends and without control characters."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text.replace("\r\n", "\n").replace("\r", "\n"))
