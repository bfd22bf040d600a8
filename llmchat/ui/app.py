"""The window's application: themes, keys, the worker's lifetime. Wiring only."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from llmchat.errors import LlmchatError, ThemeError
from llmchat.options import StartOptions
from llmchat.settings import Settings, load_settings, resolve_generation
from llmchat.themes import DEFAULT_THEME, default_variables, load_themes
from llmchat.ui.commands import CHECKPOINT_WORDS
from llmchat.ui.keys import key_label
from llmchat.ui.screens.chat import ChatScreen
from llmchat.ui.screens.experiment import ExperimentScreen
from llmchat.ui.widgets.next_token_panel import NextTokenPanel
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import Event

MakeWorker = Callable[[Callable[[Event], object]], InferenceWorker]


class LlmchatApp(App[str]):
    """The full-screen chat."""

    TITLE = "llmchat"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", False, id="quit", priority=True),
        Binding("ctrl+p", "command_palette", "Commands", False, id="palette", priority=True),
    ]

    @dataclass
    class WorkerReported(Message):
        """Something came from the inference worker."""

        event: Event

    def __init__(self, options: StartOptions, make_worker: MakeWorker = InferenceWorker) -> None:
        """The application.

        Args:
            options: What the start asked for.
            make_worker: Makes the worker, which reports through the callable it is given.

        Raises:
            LlmchatError: A key of the settings names no action, or the transcript cannot be opened.
        """
        super().__init__()
        self.options = options
        self.worker = make_worker(lambda event: self.post_message(self.WorkerReported(event)))
        self._theme_failures = self._add_themes(options.settings)
        self.chat = ChatScreen(options, self.worker.submit)
        options.settings.check_keys(self._action_ids())
        self.set_keymap(dict(options.settings.keys))

    def on_mount(self) -> None:
        """Show the set-up or the chat; the worker starts when that has been painted."""
        if self._theme_failures:
            self.notify("\n".join(self._theme_failures), title="Themes", severity="warning", markup=False)
        if self.options.setup:
            self._set_up()
        else:
            self.push_screen(self.chat)
        self.call_after_refresh(self.worker.start)
        if not self.is_headless:
            self._heed_signals()

    def _heed_signals(self) -> None:
        """Leave in order when the terminal is closed or the machine shut down, but for signals that nohup ignores."""
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                with suppress(NotImplementedError):
                    asyncio.get_running_loop().add_signal_handler(number, self._end_by, number)

    def _end_by(self, number: int) -> None:
        self.exit(self.chat.leave(), return_code=128 + number)

    def _set_up(self) -> None:
        """Run the guided set-up, then the chat with what was chosen; leaving it leaves llmchat."""
        from llmchat.ui.screens.setup import SetupScreen

        def begin(settings: Settings | None) -> None:
            if settings is None:
                self.exit("")
                return
            options = replace(self.options, settings=settings, generation=resolve_generation(settings))
            self.chat = ChatScreen(options, self.worker.submit)
            self.push_screen(self.chat)

        path = self.options.settings_path
        self.push_screen(SetupScreen(load_settings(path), path), begin)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of llmchat's own, for themes that do not name them."""
        return default_variables()

    def get_default_screen(self) -> Screen[object]:
        """An empty screen below the chat."""
        return Screen(id="_default")

    def on_llmchat_app_worker_reported(self, message: WorkerReported) -> None:
        """Pass the worker's event on, whichever screen lies on top."""
        self.chat.take(message.event)
        for screen in self.screen_stack:
            if isinstance(screen, ExperimentScreen):
                screen.take(message.event)

    def on_next_token_panel_rows_wanted(self, message: NextTokenPanel.RowsWanted) -> None:
        """Have as many candidates worked out as are seen."""
        self.worker.explained_rows = message.rows

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: every action of the chat that has a key, and the themes."""
        for binding in ChatScreen.palette_bindings():
            yield SystemCommand(
                binding.description,
                f"{binding.tooltip or binding.description} ({key_label(binding.key.split(',')[0])})",
                lambda action=binding.action: self.call_later(self.chat.run_action, action),
            )
        if self.chat.checkpoints.timeline is not None:
            for word in CHECKPOINT_WORDS:
                yield SystemCommand(
                    f"{word.capitalize()} checkpoint",
                    f"Ask the {word} checkpoint of the run the same",
                    lambda word=word: self.chat.attempt(lambda: self.chat.checkpoints.go(word)),
                )
        yield SystemCommand("Theme", "Change the colours", self.search_themes)
        yield SystemCommand("Quit", "Leave llmchat", self.action_quit)

    async def action_quit(self) -> None:
        """Keep what there is and leave."""
        saved = self.chat.leave()
        self.exit(saved)

    def on_unmount(self) -> None:
        """Stop the worker with the window."""
        self.chat.leave()
        self.worker.close()

    def show_error(self, error: LlmchatError) -> None:
        """One line on what went wrong, as a toast."""
        self.notify(error.message, title=error.heading, severity="error", timeout=10, markup=False)

    def _add_themes(self, settings: Settings) -> list[str]:
        """Register the themes and put the chosen one on; returns what was wrong with some."""
        result = load_themes()
        for theme in result.themes.values():
            self.register_theme(theme)
        failures = [failure.message for failure in result.failures]
        try:
            self.theme = settings.theme if settings.theme in self.available_themes else result.get(settings.theme).name
        except ThemeError as error:
            failures.append(error.message)
            self.theme = DEFAULT_THEME
        return failures

    def _action_ids(self) -> set[str]:
        """The id of every binding that the settings may rebind."""
        kinds: list[type] = [type(self), ChatScreen, *ChatScreen.PARTS]
        bindings = (binding for kind in kinds for binding in kind.BINDINGS)  # type: ignore[attr-defined]
        return {binding.id for binding in bindings if isinstance(binding, Binding) and binding.id}
