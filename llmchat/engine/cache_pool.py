"""Texts that were read before the present one, with their KV caches: to go back to one reads nothing again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmchat.engine.kv_snapshot import common_prefix

if TYPE_CHECKING:
    from llmchat.engine.native.cache import NativeCache

WORTH = 256
"""Tokens: to read fewer again is no loss."""


@dataclass(frozen=True, slots=True)
class PooledText:
    """A text that was read."""

    token_ids: list[int]
    scales: list[float]
    """How much of the adapter counted at each of them."""
    cache: NativeCache

    def shared_with(self, token_ids: Sequence[int], scales: Sequence[float]) -> int:
        """How much of a text, under these scales, it begins with."""
        length = common_prefix(self.token_ids, token_ids)
        return min(length, common_prefix(self.scales, scales))


class CachePool:
    """The texts that were read last, the latest in the end."""

    def __init__(self, most_bytes: int) -> None:
        """An empty pool.

        Args:
            most_bytes: What all their KV caches may take; beyond it the oldest are let go.
        """
        self._most_bytes = most_bytes
        self._texts: list[PooledText] = []

    @property
    def held_bytes(self) -> int:
        """What their KV caches take."""
        return sum(text.cache.held_bytes for text in self._texts)

    def put(self, text: PooledText) -> None:
        """Keep a text that is left."""
        if text.token_ids:
            self._texts.append(text)
        while self._texts and self.held_bytes > self._most_bytes:
            del self._texts[0]

    def shared_with(self, token_ids: Sequence[int], scales: Sequence[float]) -> int:
        """How much of a text one of these begins with."""
        return max((text.shared_with(token_ids, scales) for text in self._texts), default=0)

    def take(self, token_ids: Sequence[int], scales: Sequence[float], more_than: int) -> PooledText | None:
        """The text that shares the most with another, if that is more than so many tokens; it leaves the pool."""
        best = max(self._texts, key=lambda text: text.shared_with(token_ids, scales), default=None)
        if best is None or best.shared_with(token_ids, scales) <= more_than:
            return None
        self._texts.remove(best)
        return best
