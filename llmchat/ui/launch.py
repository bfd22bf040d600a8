"""Starting the window: the terminal is the window's alone until it closes."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from llmchat.errors import LlmchatError
from llmchat.options import StartOptions
from llmchat.paths import ensure, log_path

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def run_window(options: StartOptions) -> int:
    """Open the window; when it is closed, return the exit code.

    Raises:
        LlmchatError: Settings or transcript are wrong, and nothing has been drawn; or a fault ended the window.
    """
    from llmchat.ui.app import LlmchatApp

    app = LlmchatApp(options)
    with _terminal_kept_clean():
        try:
            app.run()
        finally:
            app.give_terminal_back()
    if app.fault:
        raise LlmchatError(f"{app.fault} The log tells more: {log_path()}")
    if app.return_value:
        # The terminal may be gone.
        with contextlib.suppress(OSError):
            print(app.return_value, flush=True)
    return app.return_code or 0


class _Screen(io.FileIO):
    """The terminal's descriptor. Once the terminal has gone, writing does nothing, so that the window ends in order."""

    def write(self, data: ReadableBuffer, /) -> int | Any:
        """Write, or pass over what nobody can see."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _open_log() -> TextIO:
    with contextlib.suppress(OSError, LlmchatError):
        path = log_path()
        ensure(path.parent)
        return open(path, "a", encoding="utf-8", errors="replace")
    return open(os.devnull, "a", encoding="utf-8", errors="replace")


@contextlib.contextmanager
def _terminal_kept_clean() -> Iterator[None]:
    """Send what native code writes to descriptors 1 and 2 into the log file, or nowhere if there can be none.

    Textual draws through `sys.__stderr__` and measures through `sys.__stdout__`,
    so both are moved to a copy of the terminal's descriptor first.
    """
    log = _open_log()
    logging.basicConfig(stream=log, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    kept, numbers = (sys.__stdout__, sys.__stderr__), (os.dup(1), os.dup(2))
    # One copy of standard output serves both: the window is seen even where errors are redirected.
    screen = io.TextIOWrapper(io.BufferedWriter(_Screen(os.dup(1), "w")), encoding="utf-8", errors="replace")
    sys.__stdout__ = sys.__stderr__ = screen  # type: ignore[misc]
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        screen.flush()
        sys.__stdout__, sys.__stderr__ = kept  # type: ignore[misc]
        for number, copy in zip((1, 2), numbers, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        log.close()
