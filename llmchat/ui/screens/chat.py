"""The chat screen: brings the session, the widgets and the person together.

widget message ─▶ handler ─▶ session ─▶ request ─▶ worker
worker event ─▶ take ─▶ session ─▶ blocks, bars, sidebar
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import Input

from llmchat.chat.model import ModelSpec
from llmchat.errors import LlmchatError
from llmchat.options import StartOptions
from llmchat.paths import transcripts_dir
from llmchat.session import ChatSession
from llmchat.ui.bars import show_bars
from llmchat.ui.blocks import session_blocks
from llmchat.ui.changes import Changes
from llmchat.ui.checkpoints import Checkpoints
from llmchat.ui.laboratory import Laboratory
from llmchat.ui.notes import Notes
from llmchat.ui.prompt_display import PromptDisplay
from llmchat.ui.quit_key import QUIT_SECONDS, QuitKey
from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.ui.screens.chat_frame import ChatFrame
from llmchat.ui.thoughts import Thoughts
from llmchat.ui.turn_actions import TurnActions
from llmchat.ui.widgets.next_token_panel import NextTokenPanel
from llmchat.ui.widgets.prompt_input import PromptInput
from llmchat.ui.widgets.sampling_panel import SamplingPanel, source_words
from llmchat.ui.widgets.token_inspector import TokenInspector
from llmchat.ui.widgets.transcript_view import TranscriptView
from llmchat.ui.widgets.welcome import Welcome
from llmchat.ui.worker_reports import WorkerReports
from llmchat.worker.messages import Event, Request

_BEFORE = "Ask the checkpoint before, on an empty prompt"
_AFTER = "Ask the checkpoint after, on an empty prompt"


class ChatScreen(ChatFrame):
    """What happens between transcript, sidebar, prompt and bars."""

    CSS_PATH = "chat.tcss"
    AUTO_FOCUS = "PromptInput"
    HELP_HEADING = "Everywhere"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop, close, or back to the prompt", False, id="stop"),
        Binding("ctrl+c", "interrupt", "Copy, stop, clear, or quit", False, id="interrupt"),
        Binding(
            "ctrl+b", "sidebar", "Sidebar", False, tooltip="Go to the sliders; from there, hide them", id="sidebar"
        ),
        Binding("ctrl+r", "regenerate", "Regenerate", False, tooltip="Answer the last message again", id="regenerate"),
        Binding("ctrl+n", "new", "New conversation", False, tooltip="This one stays in its file", id="new"),
        Binding("ctrl+o", "open", "Open a conversation", False, tooltip="Go on with a saved one", id="open"),
        Binding("ctrl+z", "change('undo')", "Undo", False, tooltip="Take back the last change", id="undo"),
        Binding("ctrl+y", "change('redo')", "Redo", False, tooltip="Make it again", id="redo"),
        Binding("ctrl+f", "find", "Find", False, tooltip="Look for words in the transcript", id="find"),
        Binding("f1", "help", "Help", False, tooltip="Every key and command", id="help"),
        Binding("f2", "settings", "Settings", False, tooltip="Model, device, preset and theme", id="settings"),
        Binding("f3", "model", "Model", False, tooltip="Open another model", id="model"),
        Binding("f4", "next_token", "Next token", False, tooltip="Show or hide the candidates", id="next_token"),
        Binding("f5", "heat", "Token heat", False, tooltip="Colour the reply by probability …", id="heat"),
        Binding("left_square_bracket", "checkpoint(-1)", _BEFORE, False, id="checkpoint.previous"),
        Binding("right_square_bracket", "checkpoint(1)", _AFTER, False, id="checkpoint.next"),
        Binding("pageup", "view('page_up')", "Page up", False, id="page_up"),
        Binding("pagedown", "view('page_down')", "Page down", False, id="page_down"),
        Binding("shift+up", "view('scroll_up')", "Scroll up", False, id="scroll_up"),
        Binding("shift+down", "view('scroll_down')", "Scroll down", False, id="scroll_down"),
        Binding("ctrl+home", "view('scroll_home')", "To the start", False, id="scroll_home"),
        Binding("ctrl+end", "view('scroll_end')", "To the end", False, id="scroll_end"),
        Binding("alt+up", "select_turn(-1)", "Turn above", False, id="turn_above"),
        Binding("alt+down", "select_turn(1)", "Turn below", False, id="turn_below"),
    ]

    def __init__(self, options: StartOptions, submit: Callable[[Request], object]) -> None:
        """A chat that sends its requests to `submit`.

        Raises:
            TranscriptError: The transcript to go on with cannot be opened.
        """
        settings = options.settings
        super().__init__(options.config, sidebar=settings.sidebar)
        self.options = options
        self.submit = submit
        self.session: ChatSession = ChatSession(
            submit,
            self.show_error,
            config=options.config,
            raw=settings.raw,
            system=settings.system,
            prefill_text=options.prefill_text,
            autosave=settings.autosave,
            kv_cache=settings.kv_cache,
        )
        self.laboratory = Laboratory(self)
        self.checkpoints: Checkpoints = Checkpoints(self)
        self.thoughts = Thoughts()
        self.prompt_display: PromptDisplay = PromptDisplay(self)
        self.changes: Changes = Changes(self)
        self.reports = WorkerReports(self)
        self.session.spec = settings.model_spec()
        self._notices = self._open_transcript(options)
        self.notes = Notes()
        self.quit_key = QuitKey()
        self.editing: str | None = None
        """The turn whose text is in the prompt to be changed."""

    @property
    def spec(self) -> ModelSpec:
        """The model that is to be opened, or else the one that is open."""
        return self.session.spec if self.session.load is None else self.session.load.spec

    def _open_transcript(self, options: StartOptions) -> list[str]:
        if options.resume is not None:
            return self.session.open(options.resume, options.given)
        if options.save is not None:
            if options.save.exists():
                return self.session.open(options.save, options.given)
            self.session.save(options.save)
        return []

    @staticmethod
    def palette_bindings() -> Iterator[Binding]:
        """The bindings that the palette offers: those with a tooltip."""
        return (item for item in ChatScreen.BINDINGS if isinstance(item, Binding) and item.tooltip)

    async def on_mount(self) -> None:
        """Show what there is, then ask for the model."""
        await self.panel.query_one("#next-token").mount(NextTokenPanel())
        self.panel.set_sources(source_words(self.options.generation.sources))
        self.checkpoints.follow(self.spec)
        self.session.load_model(self.spec)
        self.refresh_turns()
        self.refresh_bars()
        for notice in (*self._notices, self.session.brought_back):
            if notice:
                self.notify(notice, markup=False)
        if self.options.prompt:
            self.send(self.options.prompt)

    @on(Welcome.Asked)
    def send_offered(self, event: Welcome.Asked) -> None:
        """Send what an empty conversation offers."""
        self.set_focus(self.prompt)
        self.send(event.text)

    @on(Welcome.Wanted)
    def open_offered(self, event: Welcome.Wanted) -> None:
        """Go on with a conversation of late."""
        from llmchat.ui import dialogs

        self.set_focus(self.prompt)
        dialogs.go_on_with(self, event.path)

    def take(self, event: Event) -> None:
        """Take in what the worker reports, until the window closes."""
        if self.is_attached and self.app.is_running:
            self.reports.take(event)

    # ── showing ──

    def refresh_turns(self) -> None:
        """Bring the transcript up to the session."""
        is_empty = not self.session.transcript.path() and self.session.running is None and not self.session.queued
        self.welcome.show(self.session.model, is_shown=is_empty)
        notes = self.notes.blocks(has_model=self.session.state != "empty")
        self.view.set_blocks([*self.dressed(session_blocks(self.session)), *notes])

    def dressed(self, blocks: Iterable[TurnBlock]) -> Iterator[TurnBlock]:
        """Blocks of turns as the person wants to see them: tokens shown or not, thoughts folded or not."""
        return self.thoughts.shown(self.laboratory.with_tokens(blocks), self.laboratory.inspection.turn_id)

    def refresh_bars(self) -> None:
        """Bring header, status and sidebar up to the session."""
        show_bars(self)

    def note(self, text: str, *, is_error: bool = False) -> None:
        """Say something below the turns; it goes with the next message."""
        self.notes.add(text, is_error=is_error)
        self.refresh_turns()
        self.view.follow()

    def clear_notes(self) -> None:
        """Take away what was said below the turns."""
        self.notes.clear()

    def show_error(self, error: LlmchatError) -> None:
        """One line on what went wrong, as a toast."""
        self.notify(error.message, title=error.heading, severity="error", timeout=10, markup=False)

    # ── the person ──

    @on(PromptInput.Submitted)
    def send_prompt(self, event: PromptInput.Submitted) -> None:
        """Send what was written, or put an edited turn's new text in place."""
        self.send(event.text)

    def send(self, text: str) -> None:
        """Say something to the model; on failure the text comes back."""
        self.clear_notes()
        editing, self.editing = self.editing, None
        try:
            if editing is not None and editing in self.session.transcript:
                self.session.edit(editing, text)
            else:
                self.session.send(text)
        except LlmchatError as error:
            self.show_error(error)
            self.give_back(text)
        self.view.follow()
        self.refresh_turns()
        self.refresh_bars()

    @on(PromptInput.CommandGiven)
    def run_command(self, event: PromptInput.CommandGiven) -> None:
        """Carry out a slash command; one that is refused comes back."""
        from llmchat.ui.command_runner import run_command

        self.attempt(
            lambda: run_command(self, event.command),
            refused=lambda error: self.prompt.refuse(event.written, error.message),
        )

    @on(PromptInput.QuitRequested)
    async def quit_from_prompt(self) -> None:
        """^D on an empty prompt leaves."""
        await self.app.run_action("quit")

    @on(SamplingPanel.ConfigChanged)
    def adopt_config(self, event: SamplingPanel.ConfigChanged) -> None:
        """A moved slider acts from the next token on."""
        self.session.config = event.config
        self.status.temperature = None if event.config.is_greedy else event.config.temperature
        self.laboratory.refresh()

    @on(NextTokenPanel.RowsWanted)
    def fill_next_token(self) -> None:
        """The next-token panel has another height, or is shown again."""
        self.laboratory.rows_changed()

    @on(TranscriptView.TurnAction)
    def act_on_turn(self, event: TranscriptView.TurnAction) -> None:
        """A key on a turn."""
        self.attempt(lambda: TurnActions(self).run(event.turn_id, event.action, again=event.again))

    @on(TranscriptView.TokenClicked)
    def inspect_clicked(self, event: TranscriptView.TokenClicked) -> None:
        """A click on a coloured token."""
        self.attempt(lambda: self.laboratory.inspection.open(event.turn_id, event.token))

    @on(TokenInspector.Stepped)
    def step_token(self, event: TokenInspector.Stepped) -> None:
        """Another token of the reply."""
        self.laboratory.inspection.step(event.by, event.unit)

    @on(TokenInspector.Used)
    def use_candidate(self, event: TokenInspector.Used) -> None:
        """Something is to be done with a candidate."""
        self.attempt(lambda: self.laboratory.inspection.use(event.use, event.row))

    @on(TokenInspector.Left)
    def leave_tokens(self) -> None:
        """Back to the turn."""
        self.laboratory.inspection.close()

    def attempt(self, act: Callable[[], object], refused: Callable[[LlmchatError], object] | None = None) -> None:
        """Do something that may be refused; the reason is shown, as `refused` does it or as a toast."""
        try:
            act()
        except LlmchatError as error:
            (refused or self.show_error)(error)
        self.refresh_turns()
        self.refresh_bars()

    def open_model(
        self, spec: ModelSpec, *, at_once: bool = False, asks: bool = True, ignores_memory: bool = False
    ) -> None:
        """Open another model when a running reply is done, or stop that for it; the conversation stays."""
        self.give_back(self.session.load_model(spec, at_once=at_once, asks=asks, ignores_memory=ignores_memory))
        self.refresh_turns()
        self.refresh_bars()

    # ── actions ──

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave the keys of checkpoints to whoever writes, and to everybody where there is no run."""
        if action != "checkpoint":
            return True
        is_writing = isinstance(self.focused, Input) or (self.focused is self.prompt and bool(self.prompt.text))
        return self.checkpoints.timeline is not None and not is_writing

    def action_checkpoint(self, by: int) -> None:
        """Ask the checkpoint before or after the same."""
        self.attempt(lambda: self.checkpoints.step(by))

    def action_stop(self) -> None:
        """Stop the reply; else close what is open; else stop opening another model; else go to the prompt."""
        if self.session.running is not None or self.session.queued:
            parts = len(self.session.queued) + bool(self.prompt.text)
            self.give_back(waiting := self.session.stop())
            if waiting and parts > 1:
                self.notify(f"{parts} messages are back in the prompt, a blank line between them.", timeout=4)
            self.refresh_turns()
            self.refresh_bars()
        elif self.inspector.is_open:
            self.laboratory.inspection.close()
        elif self.editing is not None:
            self.editing = None
            self.prompt.set_aside()
        elif self.panel.has_class("-overlay") and not self.panel.has_class("-hidden"):
            self.show_sidebar(False)
            self.set_focus(self.prompt)
        elif self.find_bar.is_open:
            self.find_bar.close()
            self.view.find("")
            self.set_focus(self.prompt)
        elif (load := self.session.load) is not None and (self.status.state == "fetching" or self.session.model):
            load.cancel.set()
        else:
            self.set_focus(self.prompt)

    def begin(self, line: str) -> None:
        """Write the beginning of a command into the prompt; what is written there is set aside."""
        self.prompt.set_aside()
        self.prompt.write(line)
        self.set_focus(self.prompt)

    def give_back(self, text: str | None) -> None:
        """Put text that was not sent back into the prompt, before what is there."""
        if text:
            written = self.prompt.text
            self.prompt.write(f"{text}\n\n{written}" if written.strip() else text)
            self.set_focus(self.prompt)

    async def action_interrupt(self) -> None:
        """^C: copy a selection, else stop, else set the draft aside, else quit at the second press in a row."""
        selected = self.get_selected_text() or self.prompt.selected_text
        if selected:
            self.copy(selected)
        elif self.session.running is not None or self.status.state == "fetching":
            self.action_stop()
        elif self.prompt.text:
            self.prompt.set_aside()
            self.editing = None
            self.notify("↑ or ^Z brings the draft back.", timeout=4)
        elif self.quit_key.is_second():
            await self.app.run_action("quit")
        else:
            self.notify("Press ^C again to quit.", timeout=QUIT_SECONDS)

    def action_change(self, name: str) -> None:
        """Take back the last change of the conversation, or make it again: undo, redo."""
        self.attempt({"undo": self.changes.undo, "redo": self.changes.redo}[name])

    def action_regenerate(self) -> None:
        """Answer the last message again; without a model, try again to open it."""
        self.clear_notes()
        self.attempt(self.session.regenerate if self.session.state != "empty" else lambda: self.open_model(self.spec))

    def action_new(self) -> None:
        """Begin a new conversation."""
        self.clear_notes()
        self.attempt(self._begin_new)
        self.set_focus(self.prompt)

    def _begin_new(self) -> None:
        self.session.require_kept()
        self.give_back(self.session.stop())
        self.session.new()

    def action_open(self) -> None:
        """Choose a saved conversation."""
        from llmchat.ui import dialogs

        dialogs.open_transcript(self)

    def action_model(self) -> None:
        """Choose another model."""
        from llmchat.ui import dialogs

        dialogs.choose_model(self)

    def action_settings(self) -> None:
        """Change what holds for every start."""
        from llmchat.ui import dialogs

        dialogs.change_settings(self)

    def action_next_token(self) -> None:
        """Show or hide the candidates for the next token."""
        self.next_token.switched_on = not self.next_token.switched_on

    def action_heat(self) -> None:
        """Colour the tokens of the last reply by the next measure."""
        self.attempt(self.laboratory.cycle_heat)

    # ── leaving ──

    def leave(self) -> str:
        """Keep what there is; returns a line for the terminal, after the window has closed."""
        path = self.session.path
        self.keep_draft()
        words = self.session.close()
        if path is None:
            return words
        is_listed = path.parent == transcripts_dir()
        flag = "--continue" if is_listed else f"--resume {shlex.quote(str(path))}"
        return f"{words}\nGo on with: llmchat {flag}"

    def keep_draft(self) -> None:
        """Put what was written and not sent among the past prompts."""
        for prompt in self.query(PromptInput):
            prompt.keep_draft()
