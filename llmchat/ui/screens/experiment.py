"""What the screens of comparisons and sweeps have in common: they run, stop, keep and close."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from llmchat.chat.plain_text import visible
from llmchat.chat.turn import FinishReason
from llmchat.errors import LlmchatError
from llmchat.session.laboratory import Experiment, Trial
from llmchat.ui.screens.help import HelpScreen
from llmchat.worker.messages import Event, PromptProcessing

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

ENDINGS: Mapping[FinishReason, str] = {"stop": "end", "length": "length", "cancelled": "stopped", "error": "failed"}
"""A finish reason in a word."""

SHOW_SECONDS = 0.04
"""How often replies that are being written are drawn."""


class ExperimentScreen(Screen[None]):
    """Replies to one message under different settings. Nothing is kept unless a key says so."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop, then close without keeping", False),
        Binding("ctrl+c", "interrupt", "Copy, stop, or close", False),
        Binding("f1", "help", "Help", False),
    ]

    def __init__(self, chat: ChatScreen, experiment: Experiment) -> None:
        """A screen over the chat; the experiment begins when it is shown."""
        super().__init__()
        self.chat = chat
        self.experiment = experiment
        self.reading = ""
        """How far the prompt has been read, in words; "" once it has."""
        self._will_show = False

    @abstractmethod
    def show_all(self) -> None:
        """Show the replies as far as they have come."""

    def begin(self) -> None:
        """Give the worker its request."""
        self.chat.submit(self.experiment.request)
        self.show_all()

    def take(self, event: Event) -> None:
        """Take in what the worker reports."""
        if not self.experiment.handle(event):
            return
        self.reading = ""
        if isinstance(event, PromptProcessing) and event.done_tokens < event.total_tokens:
            self.reading = f"reading the prompt {event.done_tokens / event.total_tokens:.0%}"
        if self.experiment.is_done:
            self.show_all()
            if self.experiment.error is not None:
                self.chat.show_error(self.experiment.error)
        elif not self._will_show:
            # Every reply has events of its own; all of them are drawn together.
            self._will_show = True
            self.set_timer(SHOW_SECONDS, self._show_now)

    def _show_now(self) -> None:
        self._will_show = False
        self.show_all()

    def heading(self, what: str) -> str:
        """What is being done, in a line: the kind, the dice, what was left out, the message."""
        question = visible(" ".join(self.experiment.question.split()))
        dropped = len(self.experiment.prompt.dropped_turns) if self.experiment.prompt is not None else 0
        left_out = f" · the {dropped} oldest turns do not fit" if dropped else ""
        return f"{what} · seed {self.experiment.seed}{left_out} · {question}"

    def keep(self, act: Callable[[], object]) -> None:
        """Keep replies and close; if that cannot be done, say why and stay."""
        try:
            act()
        except LlmchatError as error:
            self.chat.show_error(error)
            return
        self.experiment.stop()
        self._close()
        self.chat.view.follow()

    def action_stop(self) -> None:
        """Stop what runs; else close."""
        if self.experiment.is_done or self.experiment.request.cancel.is_set():
            self.experiment.stop()
            self._close()
        else:
            self.experiment.stop()
            self.show_all()

    def action_interrupt(self) -> None:
        """^C: copy a selection, else the same as Esc."""
        if selected := self.get_selected_text():
            self.chat.copy(selected)
        else:
            self.action_stop()

    def action_help(self) -> None:
        """Show every key and command."""
        self.app.push_screen(HelpScreen())

    def _close(self) -> None:
        self.dismiss(None)
        self.chat.refresh_turns()
        self.chat.refresh_bars()


def ending(trial: Trial) -> str:
    """How far a reply has come, or how it ended, in a few words."""
    count = f"{len(trial.token_ids)} tok"
    if trial.reply is None:
        return count if trial.token_ids else "waiting"
    return f"{count} · {ENDINGS[trial.reply.finish_reason]}"
