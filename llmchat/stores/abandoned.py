"""Work on a thread of its own that whoever waits for it can leave at once, whatever it is waiting for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Progress = Callable[[str, float | None], None]
_POLL_SECONDS = 0.1

T = TypeVar("T")


def leave_on_cancel(
    work: Callable[[Progress], T], progress: Progress, cancel: threading.Event, stopped: Callable[[], Exception]
) -> T:
    """Do some work on another thread, and wait for it until it is done or given up.

    A connection that has gone silent keeps its thread for some seconds; the person is not to wait for that. What was
    given up reports no more, and ends by itself once it looks at `cancel`.

    Args:
        work: Is given where to report.
        progress: Told on the calling thread how far it is.
        cancel: Set, from any thread, to give up; set here if the calling thread is interrupted.
        stopped: Makes what is raised then.

    Raises:
        Exception: What the work raised, or `stopped()`.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    reported: tuple[str, float | None] | None = None
    told: tuple[str, float | None] | None = None

    def report(stage: str, fraction: float | None) -> None:
        nonlocal reported
        reported = stage, fraction

    executor = ThreadPoolExecutor(1, "fetching")
    future = executor.submit(work, report)
    executor.shutdown(wait=False)
    try:
        while not wait([future], _POLL_SECONDS).done and not cancel.is_set():
            if reported is not None and reported != told:
                told = reported
                progress(*told)
    finally:
        if not future.done():
            cancel.set()
    if cancel.is_set() and not (future.done() and future.exception() is None):
        raise stopped()
    if reported is not None and reported != told:
        progress(*reported)
    return future.result()
