"""The key that quits when it is pressed twice in a row."""

from __future__ import annotations

import time

QUIT_SECONDS = 2.0
"""How long a first press waits for the second."""


class QuitKey:
    """Knows whether a press follows another one, with no other key between."""

    def __init__(self) -> None:
        self._presses = 0
        self._armed_press = 0
        self._armed_at = -QUIT_SECONDS

    def count_press(self) -> None:
        """A key was pressed, or something pasted, anywhere."""
        self._presses += 1

    def is_second(self) -> bool:
        """Whether this press follows a first one; if not, it is the first."""
        follows = self._armed_press == self._presses - 1 and time.monotonic() - self._armed_at < QUIT_SECONDS
        self._armed_press, self._armed_at = self._presses, time.monotonic()
        return follows
