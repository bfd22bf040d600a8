"""The chat screen's instruments: what the tokens were, and what else they could have been.

slider ─▶ refresh ─▶ ExplainRequest ─▶ worker ─▶ NextToken ─▶ take ─▶ next-token panel
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmchat.worker.messages import Event, ExplainRequest, ModelLoading, NextToken, RequestFailed

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen


class Laboratory:
    """Keeps the next-token panel true while replies run, sliders move, and models change."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._session = screen.session
        self._transcript = screen.session.transcript
        self._config = screen.session.config
        self._asked: int | None = None
        """The question that is under way; at most one is."""
        self._ask_again = False

    def take(self, event: Event) -> None:
        """Take in what the worker reports."""
        match event:
            case NextToken():
                self._show_next(event)
            case RequestFailed() if event.request_id == self._asked:
                self._answered()
            case ModelLoading():
                self._screen.next_token.show(None)

    def refresh(self) -> None:
        """Forget a conversation that is no longer there; follow settings that have changed."""
        if self._session.transcript is not self._transcript:
            self._transcript = self._session.transcript
            self._screen.next_token.show(None)
        if self._session.config is not self._config:
            self._config = self._session.config
            self._ask()

    def _ask(self) -> None:
        """Ask what the settings as they are now would make of the latest place.

        A running reply shows it by itself with its next token.
        """
        panel = self._screen.next_token
        if self._session.running is not None or panel.candidates is None or not panel.rows:
            return
        if self._asked is not None:
            self._ask_again = True
            return
        request = ExplainRequest(self._session.config, panel.rows)
        self._asked = request.request_id
        self._screen.submit(request)

    def rows_changed(self) -> None:
        """More or fewer candidates are seen: fetch them."""
        candidates = self._screen.next_token.candidates
        if candidates is not None and len(candidates.rows) < self._screen.next_token.rows:
            self._ask()

    def _show_next(self, event: NextToken) -> None:
        running = self._session.running
        if event.request_id == self._asked:
            self._answered()
            if running is not None or self._screen.next_token.candidates is None:
                return
        elif running is None or event.request_id != running.request.request_id:
            return
        self._screen.next_token.show(event)

    def _answered(self) -> None:
        self._asked = None
        if self._ask_again:
            self._ask_again = False
            self._ask()
