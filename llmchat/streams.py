"""The process's three standard streams: made fit for any text, and kept free of what libraries print."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from llmchat.chat.plain_text import VisibleStream, escaped
from llmchat.errors import UsageError
from llmchat.files import PRIVATE
from llmchat.paths import ensure, log_path

_LOG_LIMIT = 1_000_000
"""Bytes; a log that has grown beyond begins anew."""


class TerminalStream(io.TextIOWrapper):
    """A stream to a terminal on which no text can act: what would is made visible.

    Whatever is printed passes here, so that who prints need not think of it.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        """Take the place of a stream, which can no longer be used."""
        encoding, errors, at_once = stream.encoding, stream.errors, stream.write_through
        super().__init__(stream.detach(), encoding, errors, line_buffering=True, write_through=at_once)
        self._visible = VisibleStream()

    def write(self, text: str, /) -> int:
        """Write a text."""
        super().write(self._visible.add(text))
        return len(text)

    def steer(self, codes: str) -> None:
        """Write codes that the terminal shall follow."""
        super().write(codes)


def steer(stream: TextIO, codes: str) -> None:
    """Write codes that move the cursor, such as a carriage return, to a stream that may be a terminal's."""
    if isinstance(stream, TerminalStream):
        stream.steer(codes)
    else:
        stream.write(codes)


def print_json(text: str) -> None:
    """Print a text in JSON and a line end at once; on a terminal JSON's own escapes keep it whole and harmless."""
    sys.stdout.write((escaped(text) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()


def prepare_streams() -> None:
    """Make every stream fit for any text.

    One that was closed is opened on nothing, no character can fail to be written, and none can act on a terminal.
    """
    # The mode is that of reading also for output: writing fails, as it does on a closed stream.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None and os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY) == number:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file on Windows would else be in an encoding that lacks most characters.
        is_file_on_windows = os.name == "nt" and not sys.stdout.isatty()
        sys.stdout.reconfigure(errors="replace", encoding="utf-8" if is_file_on_windows else None)
    for name in ("stdout", "stderr"):
        stream = _guarded(getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _guarded(stream: TextIO) -> TextIO:
    return TerminalStream(stream) if isinstance(stream, io.TextIOWrapper) and stream.isatty() else stream


def require_terminal() -> None:
    """Check that there is a terminal to draw a window on.

    Raises:
        UsageError: There is none; it says how to do without.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("The window needs a terminal. For one reply: llmchat --once --prompt TEXT")


def finish_output() -> None:
    """Write what is left for standard output; if that fails, let go of it, or the interpreter fails at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def libraries_in_log() -> Iterator[None]:
    """Send what native code, warnings and logging write of their own accord into the log file.

    Our own standard output and error go on, over descriptors of their own. Where
    they have been replaced, as by a test, nothing happens.
    """
    usual: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
    if usual[0] is not sys.__stdout__ or usual[1] is not sys.__stderr__:
        yield
        return
    import logging

    log = _open_log()
    logging.basicConfig(stream=log, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    sys.stdout, sys.stderr = (_moved(stream, log) for stream in usual)
    try:
        yield
    finally:
        for number, (ours, theirs) in enumerate(zip((sys.stdout, sys.stderr), usual, strict=True), start=1):
            os.dup2(ours.fileno(), number)
            with contextlib.suppress(OSError):
                ours.close()
            setattr(sys, ("stdout", "stderr")[number - 1], theirs)
        log.close()


def _moved(stream: TextIO, log: TextIO) -> TextIO:
    """The stream on a descriptor of its own; its old one leads into the log."""
    stream.flush()
    number = stream.fileno()
    ours = open(os.dup(number), "w", encoding=stream.encoding, errors=stream.errors)  # noqa: SIM115
    os.dup2(log.fileno(), number)
    return _guarded(ours)


def _open_log() -> TextIO:
    try:
        path = log_path()
        ensure(path.parent)
        is_long = path.exists() and path.stat().st_size > _LOG_LIMIT
        return open(path, "w" if is_long else "a", encoding="utf-8", errors="replace", opener=_private)
    except (OSError, UsageError):
        return open(os.devnull, "w", encoding="utf-8")


def _private(path: str, flags: int) -> int:
    handle = os.open(path, flags, PRIVATE)
    with contextlib.suppress(OSError, AttributeError):  # Windows has no such modes.
        os.fchmod(handle, PRIVATE)  # A file that was there keeps its own when it is opened.
    return handle
