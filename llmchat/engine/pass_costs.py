"""How long passes of a model over several positions take, measured as they are made."""

from __future__ import annotations

from collections import defaultdict, deque

_KEPT = 9
"""Passes of each size that count: the context grows, and other programs come and go."""

_SUPPOSED = 0.1
"""What each further position costs, in passes over one, until it is known."""


class PassCosts:
    """The usual seconds of the latest passes, by how many positions they were over."""

    def __init__(self) -> None:
        self._latest: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def note(self, positions: int, seconds: float) -> None:
        """Take in a pass."""
        self._latest[positions].append(seconds)

    def of(self, positions: int) -> float:
        """How long a pass over so many positions takes, in passes over one."""
        one, several = self._latest.get(1), self._latest.get(positions)
        if one and several and (usual := _median(one)):
            return _median(several) / usual
        return 1 + _SUPPOSED * (positions - 1)


def _median(seconds: deque[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]
