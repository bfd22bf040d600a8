"""The chat screen's instruments: what the tokens were, and what else they could have been.

slider ─▶ refresh ─▶ ExplainRequest ─▶ worker ─▶ NextToken ─▶ take ─▶ next-token panel
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmchat.chat.turn import TokenFacts
from llmchat.errors import UsageError
from llmchat.session import Running
from llmchat.ui.inspection import Inspection
from llmchat.ui.rendering.heat import HeatMode, next_mode
from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.worker.messages import (
    Event,
    ExplainRequest,
    ModelLoaded,
    ModelLoadFailed,
    ModelLoading,
    NextToken,
    RequestFailed,
)

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen


class Laboratory:
    """Keeps panel and colours true while replies run, sliders move, and models change."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._session = screen.session
        self._transcript = screen.session.transcript
        self._config = screen.session.config
        self.inspection = Inspection(screen)
        self._heat: dict[str, HeatMode] = {}
        """What single replies are coloured by; those to come are as the last one was."""
        self._heat_to_come: HeatMode = "off"
        self._drawn = ""
        """The reply that was drawn last: of its latest place the worker still has the logits."""
        self._latest: NextToken | None = None
        """What is known of the candidates there."""
        self._asked: int | None = None
        """The question that is under way; at most one is."""
        self._ask_again = False

    def take(self, event: Event) -> None:
        """Take in what the worker reports."""
        self._note_drawn()
        self.inspection.take(event)
        match event:
            case NextToken():
                self._show_next(event)
            case RequestFailed() if event.request_id == self._asked:
                self._forget()
                self._answered()
            case ModelLoading() | ModelLoaded() | ModelLoadFailed():
                self._forget()

    def refresh(self) -> None:
        """Forget a conversation that is no longer there; follow settings that have changed."""
        if self._session.transcript is not self._transcript:
            self._transcript = self._session.transcript
            self._forget()
            self._heat.clear()
        self._note_drawn()
        self.inspection.refresh()
        self._show_only_at_its_end()
        if self._session.config is not self._config:
            self._config = self._session.config
            self._ask()

    # ── token heat ──

    def cycle_heat(self, turn_id: str | None = None) -> None:
        """Colour a reply's tokens by the next measure, or no longer.

        Args:
            turn_id: The reply; by default the one that is being written, or the last.

        Raises:
            UsageError: Its tokens are not known.
        """
        turn_id = turn_id or self._latest_reply()
        self.set_heat(next_mode(self._heat_of(turn_id)), turn_id)

    def set_heat(self, mode: HeatMode, turn_id: str | None = None) -> None:
        """Colour a reply's tokens by a measure, or no longer; arguments and errors as for `cycle_heat`."""
        turn_id = turn_id or self._latest_reply()
        if not self._facts(turn_id):
            raise UsageError("Nothing is kept of its tokens: only what a model drew here can be coloured.")
        self._heat[turn_id] = mode
        if turn_id == self._latest_reply():
            self._heat_to_come = mode

    def with_tokens(self, blocks: Iterable[TurnBlock]) -> Iterator[TurnBlock]:
        """Blocks of turns, with what is known of the tokens where they are shown."""
        for block in blocks:
            mode = self._heat_of(block.id) if block.role == "assistant" else "off"
            shown = mode != "off" or block.id == self.inspection.turn_id
            yield replace(block, facts=self._facts(block.id), heat=mode) if shown else block

    def streamed(self, running: Running) -> dict[str, Any]:
        """What a running reply's block needs besides its text."""
        return {} if self._heat_of(running.turn_id) == "off" else {"facts": running.known_facts}

    def _heat_of(self, turn_id: str) -> HeatMode:
        running = self._session.running
        if running is not None and turn_id == running.turn_id:
            return self._heat.setdefault(turn_id, self._heat_to_come)
        return self._heat.get(turn_id, "off")

    def _facts(self, turn_id: str) -> tuple[TokenFacts, ...]:
        running = self._session.running
        if running is not None and turn_id == running.turn_id:
            return running.known_facts
        if turn_id not in self._session.transcript:
            return ()
        reply = self._session.transcript.turn(turn_id).reply
        return () if reply is None else reply.facts

    def _latest_reply(self) -> str:
        """The reply that is being written, or the last one that is shown; "" if there is none."""
        if self._session.running is not None:
            return self._session.running.turn_id
        replies = (turn.id for turn in reversed(self._session.transcript.path()) if turn.role == "assistant")
        return next(replies, "")

    # ── the next-token panel ──

    def _ask(self) -> None:
        """Ask what the settings as they are now would make of the latest place.

        A running reply shows it by itself with its next token.
        """
        panel = self._screen.next_token
        if not panel.shown_rows or not self._is_at_its_end:
            return
        if self._asked is not None:
            self._ask_again = True
            return
        request = ExplainRequest(self._session.config, panel.shown_rows)
        self._asked = request.request_id
        self._screen.submit(request)

    def rows_changed(self) -> None:
        """More or fewer candidates are seen: fetch them."""
        candidates = self._screen.next_token.candidates
        if candidates is None or len(candidates.rows) < self._screen.next_token.shown_rows:
            self._ask()

    def _show_next(self, event: NextToken) -> None:
        running = self._session.running
        if event.request_id == self._asked:
            self._answered()
            if not self._is_at_its_end:
                return
        elif running is None or event.request_id != running.request.request_id:
            return
        self._latest = event
        self._screen.next_token.show(event)

    def _forget(self) -> None:
        """There are no candidates any more."""
        self._drawn, self._latest = "", None
        self._screen.next_token.show(None)

    def _note_drawn(self) -> None:
        """Another reply is being drawn: what is known is of the one before."""
        running = self._session.running
        if running is not None and running.turn_id != self._drawn:
            self._drawn, self._latest = running.turn_id, None

    @property
    def _is_at_its_end(self) -> bool:
        """Whether nothing runs, and the conversation ends with the reply that was drawn last."""
        leaf = self._session.transcript.leaf
        return self._session.running is None and leaf is not None and leaf.id == self._drawn

    def _show_only_at_its_end(self) -> None:
        """Of a conversation that ends with another reply, the candidates say nothing."""
        if self._session.running is not None:
            return
        panel, known = self._screen.next_token, self._latest if self._is_at_its_end else None
        if panel.candidates is not known:
            panel.show(known)
            self._ask()

    def _answered(self) -> None:
        self._asked = None
        if self._ask_again:
            self._ask_again = False
            self._ask()
