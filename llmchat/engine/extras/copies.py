"""Copies of what was read of a text at some lengths, for networks that cannot go back to any length."""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

_MOST = 8
_MOST_BYTES = 2**29
"""Of all copies together; the newest is kept whatever its size."""

Value = TypeVar("Value")


class _Copy(NamedTuple, Generic[Value]):
    length: int
    value: Value
    size: int


class Copies(Generic[Value]):
    """The newest copies, by the length of the text that each holds."""

    def __init__(self) -> None:
        self._kept: deque[_Copy[Value]] = deque()

    @property
    def longest(self) -> int:
        """The greatest length there is a copy of; 0 if there is none."""
        return self._kept[-1].length if self._kept else 0

    def keep(self, length: int, value: Value, size: int) -> None:
        """Keep a copy that is longer than the others, and let go of the oldest where they are too many.

        Args:
            length: Tokens that it holds.
            value: The copy.
            size: Its bytes.
        """
        self._kept.append(_Copy(length, value, size))
        while len(self._kept) > _MOST or (len(self._kept) > 1 and sum(copy.size for copy in self._kept) > _MOST_BYTES):
            self._kept.popleft()

    def back_to(self, length: int) -> tuple[int, Value] | None:
        """The longest copy that is no longer than this, and its length; longer ones are let go of."""
        while self._kept and self._kept[-1].length > length:
            self._kept.pop()
        return (self._kept[-1].length, self._kept[-1].value) if self._kept else None

    def clear(self) -> None:
        """Let go of all."""
        self._kept.clear()
