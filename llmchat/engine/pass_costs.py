"""How long passes of a model over several positions take, measured as they are made."""

from __future__ import annotations

from collections import deque
from statistics import median

_KEPT = 9
"""Passes of each size that count: the context grows, and other programs come and go."""

_SUPPOSED = 0.1
"""What each further position costs, in passes over one, until it is known."""


class PassCosts:
    """The usual seconds of the latest passes, by how many positions they were over."""

    def __init__(self) -> None:
        self._latest: dict[int, deque[float]] = {}
        self._usual: dict[int, float] = {}

    def note(self, positions: int, seconds: float) -> None:
        """Take in a pass."""
        latest = self._latest.setdefault(positions, deque(maxlen=_KEPT))
        latest.append(seconds)
        self._usual[positions] = median(latest)

    def of(self, positions: int) -> float:
        """How long a pass over so many positions takes, in passes over one."""
        one, several = self._usual.get(1), self._usual.get(positions)
        return several / one if one and several else 1 + _SUPPOSED * (positions - 1)
