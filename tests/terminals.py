"""A program in a pseudo-terminal: keys in, everything that it writes out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from tests.patience import PATIENCE_SECONDS

ESCAPES = re.compile(r"\x1b(\[[0-9;:?<>=$ ]*[a-zA-Z~]|\][^\x07\x1b]*(\x07|\x1b\\)|P[^\x1b]*\x1b\\|[=>78]|\([A-Z0-9])")
"""What steers a terminal, as far as the window uses it."""

ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"
"""To the alternate screen, and back."""


class Terminal:
    """A program in a pseudo-terminal that answers nothing, as a dumb pipe with a size would."""

    def __init__(self, *arguments: str, program: tuple[str, ...] = ("-m", "llmchat"), **options: Any) -> None:
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
        self.modes = termios.tcgetattr(far)
        env = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdin=far, stdout=far, stderr=far, env=env, start_new_session=True, **options,
        )  # fmt: skip
        self._far = far
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")
        self.raw = ""

    @property
    def text(self) -> str:
        """What has been written, without what steers the terminal."""
        return ESCAPES.sub("", self.raw)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._near, keys.encode())

    def read(self, seconds: float) -> bool:
        """Take what comes within the time; whether anything did."""
        if not select.select([self._near], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):
            self.raw += self._decoder.decode(os.read(self._near, 1 << 16))
        return True

    def wait_for(self, words: str, after: int = 0) -> int:
        """Read until the words have been drawn, at this place of `text` or later; returns the place behind them."""
        deadline = monotonic() + PATIENCE_SECONDS
        while (found := self.text.find(words, after)) < 0:
            assert monotonic() < deadline and self.process.poll() is None, f"no {words!r} in:\n{self.text[-3000:]}"
            self.read(0.1)
        return found + len(words)

    def wait_until(self, is_so: Callable[[], object], what: str) -> None:
        """Read until something is so."""
        deadline = monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert monotonic() < deadline and self.process.poll() is None, f"no {what}:\n{self.text[-3000:]}"
            self.read(0.05)

    def wait_for_end(self) -> int:
        """Read until the program has ended; returns its exit code."""
        deadline = monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert monotonic() < deadline, f"has not ended:\n{self.text[-3000:]}"
            self.read(0.05)
        while self.read(0.05):
            pass
        return self.process.returncode

    @property
    def last_words(self) -> str:
        """What stands in the terminal after the window has gone."""
        return ESCAPES.sub("", self.raw.rpartition(LEFT)[2]).replace("\r\n", "\n").strip()

    @property
    def modes_now(self) -> list[Any]:
        """The terminal's settings."""
        return termios.tcgetattr(self._far)

    def hang_up(self) -> None:
        """Close the terminal under the program."""
        for descriptor in (self._far, self._near):
            os.close(descriptor)
        self._far = self._near = -1

    def close(self) -> None:
        """End the program, if need be, and the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._near >= 0:
            self.hang_up()


@contextlib.contextmanager
def terminal(*arguments: str, model: str = "tiny", **options: Any) -> Iterator[Terminal]:
    """Llmchat in a terminal, with the model that comes with it or another."""
    one = Terminal(*arguments, "--model", model, **options)
    try:
        yield one
    finally:
        one.close()
