"""Asking the worker what the model is given, and showing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmchat.session.asking import prompt_request
from llmchat.worker.messages import Event, PromptTokens, RequestFailed

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen


class PromptDisplay:
    """Waits for a prompt that was asked for; the model need not run for it, but finishes its reply first."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._asked: int | None = None

    def ask(self, text: str = "") -> None:
        """Show the prompt of the last reply, or the one that a new message would make.

        Args:
            text: The new message; "" for none.

        Raises:
            UsageError: Nothing was said yet, or no model is open.
        """
        session = self._screen.session
        request = prompt_request(session, text)
        self._asked = request.request_id
        self._screen.submit(request)
        if session.state != "ready":
            self._screen.notify("The prompt is shown as soon as the model is free.", timeout=4)

    def take(self, event: Event) -> None:
        """Show the prompt once it is there."""
        if event.request_id != self._asked:
            return
        match event:
            case PromptTokens():
                from llmchat.ui.screens.prompt_screen import PromptScreen

                self._asked = None
                self._screen.app.push_screen(PromptScreen(event))
            case RequestFailed():
                self._asked = None
                self._screen.show_error(event.error)
