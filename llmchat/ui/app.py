"""The window's application: themes, keys, the worker's lifetime. Wiring only."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import RenderableType
from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.driver import Driver
from textual.filter import LineFilter
from textual.message import Message
from textual.screen import Screen
from textual.worker import WorkerFailed

from llmchat.errors import LlmchatError, ThemeError
from llmchat.options import StartOptions
from llmchat.settings import Settings, load_settings, resolve_generation
from llmchat.themes import DEFAULT_THEME, default_variables, load_themes, usual_theme
from llmchat.ui.screens.chat import ChatScreen
from llmchat.ui.screens.experiment import ExperimentScreen
from llmchat.ui.terminal_guard import OnlyText
from llmchat.ui.widgets.next_token_panel import NextTokenPanel
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import Event

if TYPE_CHECKING:
    from llmchat.ui.terminal_driver import InputFailed

_log = logging.getLogger("llmchat")

MakeWorker = Callable[[Callable[[Event], object]], InferenceWorker]


def _palette() -> type[Provider]:
    """What ^P offers, loaded when it is pressed."""
    from llmchat.ui.palette import Palette

    return Palette


class LlmchatApp(App[str]):
    """The full-screen chat."""

    TITLE = "llmchat"
    COMMANDS = {_palette}  # noqa: RUF012 (Textual's own type)
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
        self.fault = ""
        """What ended the window if nobody did, for a person."""
        self.options = options
        self.worker = make_worker(lambda event: self.post_message(self.WorkerReported(event)))
        self._only_text = OnlyText()
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

    # ── the terminal ──

    def get_driver_class(self) -> type[Driver]:
        """Textual's driver, where there is one of llmchat's own in its place."""
        usual = super().get_driver_class()
        if usual.__name__ != "LinuxDriver":
            return usual
        from llmchat.ui.terminal_driver import TerminalDriver

        return TerminalDriver

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What each line goes through before it is drawn, the guard of the terminal last."""
        return [*super().get_line_filters(), self._only_text]

    def _build_driver(self, headless: bool, inline: bool, mouse: bool, size: tuple[int, int] | None) -> Driver:
        if not headless:
            # From here on the terminal is in modes that an end must undo.
            self._heed_signals()
        return super()._build_driver(headless, inline, mouse, size)

    async def on_event(self, event: events.Event) -> None:
        """Let the chat count presses, before whatever they do."""
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            self.chat.quit_key.count_press()
        await super().on_event(event)

    def _heed_signals(self) -> None:
        """Leave in order when the terminal is closed or the machine shut down, but for signals that nohup ignores."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._heed_fault)
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                with suppress(NotImplementedError):
                    loop.add_signal_handler(number, self._end_by, number)

    def _end_by(self, number: int) -> None:
        self.exit(self.chat.leave(), return_code=128 + number)

    def on_terminal_gone(self) -> None:
        """End as at a hang-up, which not every terminal signals."""
        self._end_by(1)

    # ── faults ──

    def on_input_failed(self, message: InputFailed) -> None:
        """Without keys there is no window."""
        self._handle_exception(message.error)

    def give_terminal_back(self) -> None:
        """Leave the terminal as it was, if a fault kept the driver from doing so."""
        driver = self._driver
        if getattr(driver, "is_started", False) and driver is not None:
            driver.stop_application_mode()
            driver.close()

    def _heed_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the window over a fault in a callback of the event loop; others are only logged."""
        error = context.get("exception")
        if isinstance(error, Exception) and "handle" in context:
            self._handle_exception(error)
        else:
            loop.default_exception_handler(context)

    def _fatal_error(self) -> None:
        """End the window; Textual would print a traceback with the values of all variables."""
        self._close_messages_no_wait()
        error = self._exception
        if isinstance(error, WorkerFailed):
            error = error.error  # type: ignore[assignment]
        _log.critical("the window failed", exc_info=error)
        if not self.fault:
            path = self.chat.session.path
            kept = "" if path is None else f" The conversation is in {path}; go on with: llmchat --continue."
            self.fault = f"The window ended over an unexpected {type(error).__name__}.{kept}"
            self.chat.keep_draft()

    def panic(self, *renderables: RenderableType) -> None:
        """End the window over a fault whose words Textual would print."""
        self._fatal_error()

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

    def action_press_key(self, key: str) -> None:
        """Do as a key would; for hints that are clicked."""
        # Later, from here: a key that a widget around the one in focus posts would not rise above it.
        self.call_later(self.simulate_key, key)

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
        chosen = settings.theme or usual_theme(self.console.color_system)
        try:
            self.theme = chosen if chosen in self.available_themes else result.get(chosen).name
        except ThemeError as error:
            failures.append(error.message)
            self.theme = DEFAULT_THEME
        return failures

    def _action_ids(self) -> set[str]:
        """The id of every binding that the settings may rebind."""
        kinds: list[type] = [type(self), ChatScreen, *ChatScreen.PARTS]
        bindings = (binding for kind in kinds for binding in kind.BINDINGS)  # type: ignore[attr-defined]
        return {binding.id for binding in bindings if isinstance(binding, Binding) and binding.id}
