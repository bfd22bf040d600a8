"""llmchat in a pseudo-terminal, as a person runs it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter

from benchmarks.programs import model_file

PATIENCE_SECONDS = 120.0


class Program:
    """llmchat in a pseudo-terminal of 110 × 30, and what it has drawn."""

    def __init__(self, model: str, *arguments: str, program: tuple[str, ...] = ("-m", "llmchat")) -> None:
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", "LLMCHAT_HOME": tempfile.mkdtemp()}
        self.started = perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *program, "--model", model_file(model), *arguments],
            stdin=far, stdout=far, stderr=far, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(far)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._near, keys.encode())

    def read(self, seconds: float) -> str:
        """What is drawn next, within the time; "" if nothing is."""
        if select.select([self._near], [], [], seconds)[0]:
            with suppress(OSError):
                return os.read(self._near, 1 << 16).decode(errors="replace")
        return ""

    def wait_for(self, pattern: str) -> tuple[float, str]:
        """Read until something is drawn that fits; returns the seconds since the start, and it."""
        drawn, deadline = "", perf_counter() + PATIENCE_SECONDS
        while not (found := re.search(pattern, drawn)):
            if perf_counter() > deadline or self.process.poll() is not None:
                sys.exit(f"{pattern!r} was not drawn; the last was {drawn[-500:]!r}")
            drawn += self.read(0.1)
        return perf_counter() - self.started, found.group()

    def close(self) -> None:
        """End it."""
        with suppress(OSError):
            self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            self.read(0.05)
        os.close(self._near)


@contextmanager
def program(model: str, *arguments: str, **options: tuple[str, ...]) -> Iterator[Program]:
    """The program, ended in the end."""
    running = Program(model, *arguments, **options)
    try:
        yield running
    finally:
        running.close()
