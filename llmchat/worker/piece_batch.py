"""Pieces of a reply on their way to the front end, gathered over a short interval."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from llmchat.chat.thought import Thought, joined
from llmchat.chat.turn import SettingsChange, TokenFacts
from llmchat.worker.messages import TokensGenerated

if TYPE_CHECKING:
    from llmchat.engine.reply_writer import ReplyPiece

POST_INTERVAL_SECONDS = 0.04
"""Text is gathered this long, so that fast models do not flood the window."""

_RATE_WINDOW_SECONDS = 2.0


class PieceBatch:
    """Pieces of a reply on their way to one event, and the speed at which they come."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._thoughts: list[Thought] = []
        self._token_ids: list[int] = []
        self._facts: list[TokenFacts] = []
        self._changes: list[SettingsChange] = []
        self._times: deque[float] = deque()
        self._last_post = 0.0

    def __bool__(self) -> bool:
        return bool(self._text or self._thoughts or self._token_ids)

    def add(self, piece: ReplyPiece) -> None:
        """Take one more piece."""
        if piece.text:
            self._text.append(piece.text)
        if piece.thought.written:
            self._thoughts.append(piece.thought)
        if piece.token_id is not None:
            self._token_ids.append(piece.token_id)
            self._times.append(time.perf_counter())
        if piece.facts is not None:
            self._facts.append(piece.facts)
        if piece.change is not None:
            self._changes.append(piece.change)

    def is_due(self) -> bool:
        """Whether enough time has passed since the last event; true for the first piece."""
        return time.perf_counter() - self._last_post >= POST_INTERVAL_SECONDS

    def take(self, request_id: int, context_tokens: int) -> TokensGenerated:
        """The event for what has gathered, which begins anew."""
        event = TokensGenerated(
            request_id,
            text="".join(self._text),
            token_ids=tuple(self._token_ids),
            facts=tuple(self._facts),
            changes=tuple(self._changes),
            context_tokens=context_tokens,
            tokens_per_second=self._rate(),
            thought=joined(self._thoughts),
        )
        self._text, self._thoughts, self._token_ids, self._facts, self._changes = [], [], [], [], []
        self._last_post = time.perf_counter()
        return event

    def _rate(self) -> float:
        """Tokens per second over the last moments; 0 until there are two tokens."""
        times = self._times
        while times and times[-1] - times[0] > _RATE_WINDOW_SECONDS:
            times.popleft()
        span = times[-1] - times[0] if len(times) > 1 else 0.0
        return (len(times) - 1) / span if span > 0 else 0.0
