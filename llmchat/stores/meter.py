"""How far a download is: bytes of all, and how long the rest takes at the speed of the last seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from llmchat.chat.amounts import size_words, time_words

_WINDOW_SECONDS = 10.0
_STEP_SECONDS = 0.2


class Meter:
    """Counts the bytes of one download, which may be of several files."""

    def __init__(self, title: str, total: int | None, progress: Callable[[str, float | None], None]) -> None:
        """A meter at 0.

        Args:
            title: What is fetched.
            total: Bytes in all; None if that is not known.
            progress: Told of it a few times a second.
        """
        self.done = 0
        """Bytes that are there, with those of an earlier time."""
        self.total = total
        self._title = title
        self._progress = progress
        self._steps: deque[tuple[float, int]] = deque()
        self._fetched = 0
        self._told_at = 0.0

    def have(self, count: int) -> None:
        """So many bytes are there already; less than none: they were dropped again."""
        self.done += count
        self._tell()

    def add(self, count: int) -> None:
        """So many bytes have come."""
        self.done += count
        self._fetched += count
        now = time.monotonic()
        if now - self._told_at >= _STEP_SECONDS:
            self._steps.append((now, self._fetched))
            while now - self._steps[0][0] > _WINDOW_SECONDS:
                self._steps.popleft()
            self._told_at = now
            self._tell()

    def _tell(self) -> None:
        if not self.total:
            self._progress(f"fetching {self._title}: {size_words(self.done)}", None)
            return
        left = self._seconds_left()
        rest = "" if left is None else f", {time_words(left)} left"
        words = f"fetching {self._title}: {size_words(self.done)} of {size_words(self.total)}{rest}"
        self._progress(words, min(self.done / self.total, 1.0))

    def _seconds_left(self) -> float | None:
        """Seconds for what is missing; None while the speed is not known."""
        if self.total is None or len(self._steps) < 2:
            return None
        (began, before), (ended, after) = self._steps[0], self._steps[-1]
        return (self.total - self.done) * (ended - began) / (after - before) if after > before else None
