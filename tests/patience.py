"""How long a test waits for what must come."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

PATIENCE_SECONDS = 120.0
"""Never waited for where all is well: it only ends a test in vain, and a busy machine may be ten times as slow."""
_LOOK_SECONDS = 0.01


def until(is_so: Callable[[], object]) -> None:
    """Wait until something outside of this thread is so."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < deadline, "waited in vain"
        sleep(_LOOK_SECONDS)
