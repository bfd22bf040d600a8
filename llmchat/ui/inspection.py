"""Going through a reply token by token: where the cursor is, and what is done there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmchat.chat.turn import Reply
from llmchat.errors import LlmchatError, UsageError
from llmchat.ui.rendering.candidates import token_label
from llmchat.ui.rendering.token_spans import TokenSpans
from llmchat.ui.widgets.token_inspector import LISTED, TokenInspector, Unit, Use
from llmchat.worker.messages import CandidateRow, Event, NextToken, RequestFailed

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen


class Inspection:
    """One reply under the glass, or none."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._session = screen.session
        self._reply: Reply | None = None
        self._spans = TokenSpans()
        self.turn_id = ""
        """The turn that is looked into; "" for none."""
        self._place = 0
        self._asked: tuple[int, int] | None = None
        """The question that is under way, and the place that it is about; at most one is."""

    @property
    def is_open(self) -> bool:
        """Whether a reply is looked into."""
        return self._reply is not None

    @property
    def _widget(self) -> TokenInspector:
        return self._screen.inspector

    def open(self, turn_id: str, token: int = 0) -> None:
        """Take a token of a reply in hand.

        Raises:
            UsageError: Its tokens are not known, or a reply is being made.
        """
        if self._session.running is not None:
            raise UsageError("Stop the reply with Esc first; then its tokens can be looked into.")
        self._reply = self._session.drawn_reply(turn_id)
        self.turn_id = turn_id
        self._spans = TokenSpans()
        self._spans.update(self._reply.written, self._reply.facts)
        self._widget.show_banned(self._session.config.banned_tokens)
        self._widget.open()
        self._screen.refresh_turns()
        # The transcript is lower now; where the token stands shows when that is laid out.
        self._screen.call_after_refresh(self._go_to, token)

    def close(self) -> None:
        """Let go of the reply."""
        if self.is_open:
            self._reply, self.turn_id = None, ""
            self._widget.close()
            self._screen.view.token_cursor = None
            if self._widget.has_focus:
                self._screen.view.focus()
            self._screen.refresh_turns()

    def refresh(self) -> None:
        """Let go of a reply that is gone or can no longer be looked into."""
        gone = self.turn_id not in self._session.transcript or self._session.running is not None
        if self.is_open and gone:
            self.close()

    def take(self, event: Event) -> None:
        """Take in what the worker reports."""
        if self._asked is None or event.request_id != self._asked[0]:
            return
        place, self._asked = self._asked[1], None
        if not self.is_open:
            return
        if place != self._place:
            self._ask()
        elif isinstance(event, NextToken):
            self._widget.show_candidates(event)
        elif isinstance(event, RequestFailed):
            self.close()
            self._screen.show_error(event.error)

    def step(self, by: int, unit: Unit) -> None:
        """Go on to another token, to the next word, or to the first or last place."""
        if unit == "edge":
            self._go_to(0 if by < 0 else self._spans.count)
            return
        place = self._place + by
        while unit == "word" and 0 < place < self._spans.count and not self._begins_word(place):
            place += by
        self._go_to(place)

    def use(self, use: Use, row: CandidateRow) -> None:
        """Do something with a candidate.

        Raises:
            UsageError: It cannot be done.
        """
        {"take": self._branch, "ban": self._ban, "stop": self._stop_before}[use](row)

    def _go_to(self, place: int) -> None:
        if self._reply is None:
            return
        self._place = min(max(place, 0), self._spans.count)
        self._widget.show_place(self._title(self._reply))
        self._screen.view.show_token(self.turn_id, self._place)
        self._ask()

    def _ask(self) -> None:
        """Ask what the candidates were; while an answer is on its way, nothing more."""
        if self._asked is not None:
            return
        try:
            self._asked = self._session.inspect(self.turn_id, self._place, LISTED), self._place
        except LlmchatError as error:
            self.close()
            self._screen.show_error(error)

    def _title(self, reply: Reply) -> str:
        count = self._spans.count
        if self._place == count:
            return f"After token {count} of {count}: {reply.finish_detail}"
        first, last = self._spans.characters(self._place)
        facts = reply.facts[self._place]
        label = token_label("", reply.written[first:last])
        chosen = " · chosen by you" if self._place in dict(reply.forced) else ""
        return (
            f"Token {self._place + 1} of {count}  {label}  "
            f"{math.exp(facts.logprob) * 100:.1f} % · rank {facts.rank + 1}{chosen}"
        )

    def _begins_word(self, place: int) -> bool:
        assert self._reply is not None
        first, last = self._spans.characters(place)
        text = self._reply.written
        token, before = text[first:last], text[max(first - 1, 0) : first]
        return bool(token.strip()) and (token[0].isspace() or before.isspace())

    def _branch(self, row: CandidateRow) -> None:
        assert self._reply is not None
        if self._place < len(self._reply.token_ids) and row.token_id == self._reply.token_ids[self._place]:
            raise UsageError("This token stands there already. Choose another one with ↑ and ↓.")
        turn_id, place = self.turn_id, self._place
        self.close()
        self._session.branch_at(turn_id, place, row.token_id)
        self._screen.view.selected_turn = None
        self._screen.view.follow()
        self._screen.prompt.focus()

    def _ban(self, row: CandidateRow) -> None:
        banned, label = self._session.config.banned_tokens, token_label(row.text, row.spoken)
        if row.token_id in banned:
            kept = tuple(token_id for token_id in banned if token_id != row.token_id)
            words = f"{label} may come again."
        else:
            kept, words = (*banned, row.token_id), f"{label} is banned from the next token on. x allows it again."
        self._session.config = self._session.config.changed(banned_tokens=kept)
        self._widget.show_banned(kept)
        self._screen.notify(words, timeout=4, markup=False)

    def _stop_before(self, row: CandidateRow) -> None:
        stop, label = self._session.config.stop, token_label(row.text, row.spoken)
        if not row.spoken:
            raise UsageError(f"{label} is no text of its own, so that no reply can stop at it.")
        if row.spoken in stop:
            kept = tuple(text for text in stop if text != row.spoken)
            words = f"Replies no longer stop at {label}"
        else:
            kept, words = (*stop, row.spoken), f"Replies to come stop at {label}  s takes that back."
        self._session.config = self._session.config.changed(stop=kept)
        self._screen.notify(words, timeout=4, markup=False)
