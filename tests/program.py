"""Running llmchat as a person does: as a program of its own, or its command line in this process."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llmchat import cli
from tests.patience import PATIENCE_SECONDS

TINY = ("--model", "tiny", "--once")
"""One reply by the model that comes with llmchat."""

needs_full_device = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="this system has no disk that is always full"
)


class Outcome(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str


def command(*arguments: str | Path) -> list[str]:
    """The command that starts llmchat in a new interpreter."""
    return [sys.executable, "-m", "llmchat", *map(str, arguments)]


def run_program(*arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Outcome:
    """Run llmchat as a program, with pipes for its streams."""
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=PATIENCE_SECONDS,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


class Here:
    """Runs command lines in this process, where torch is loaded once for all."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Outcome:
        """Run a command line."""
        code = cli.run([str(argument) for argument in arguments])
        return Outcome(code, *self._capsys.readouterr())

    def tiny(self, *arguments: str | Path) -> Outcome:
        """Make replies with the model that comes with llmchat."""
        return self(*TINY, *arguments)


def open_terminal() -> tuple[int, Any]:
    """A pseudo-terminal: the descriptor of its far end, and a file for a program to write to."""
    far, near = pty.openpty()
    return far, os.fdopen(near, "wb", buffering=0)


def read_terminal(far: int) -> str:
    """Everything that was written to a terminal that has been closed on the near side."""
    parts = []
    while True:
        try:
            parts.append(os.read(far, 65536))
        except OSError:  # Linux says so at the end.
            break
        if not parts[-1]:
            break
    os.close(far)
    return b"".join(parts).decode()
