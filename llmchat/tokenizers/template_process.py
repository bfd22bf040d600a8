"""Rendering a chat template that may do anything: in a process of its own, which can be ended."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llmchat

_WALL_SECONDS = 8.0
_SLOW_SECONDS = 1.0
_MOST_SLOW = 2
_PROGRAM = "import sys; sys.path[:0] = {paths!r}; from llmchat.tokenizers.template_worker import serve; serve()"


class TemplateProcessError(Exception):
    """The template fails; says why in a few words."""


class TemplateProcess:
    """One template in a process of its own, which is started now and ends with this object.

    A template that had to be ended, or was slow repeatedly, is not rendered again: each try would take as long.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._slow = 0
        self._reason = ""
        self._process = self._start()

    def render(self, messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> str:
        """The text.

        Raises:
            TemplateProcessError: The template fails, does not end, or needs too much.
        """
        if self._reason:
            raise TemplateProcessError(self._reason)
        answer = self._ask({"messages": messages, "values": values})
        if answer is None:
            self._reason = "it needs too much time or memory"
            raise TemplateProcessError(self._reason)
        self._slow += answer["seconds"] > _SLOW_SECONDS
        if self._slow >= _MOST_SLOW:
            self._reason = "it takes too long"
        if "error" in answer:
            raise TemplateProcessError(str(answer["error"]))
        return str(answer["text"])

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer to a request; None if the process ended over it, or had to be."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        watch = threading.Timer(_WALL_SECONDS, process.kill)
        watch.start()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
            answer = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            answer = None
        finally:
            watch.cancel()
        return answer if isinstance(answer, dict) else None

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [str(Path(llmchat.__file__).parents[1]), *filter(None, sys.path)]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM.format(paths=paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C in the terminal is for the program alone.
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._source).encode() + b"\n")
        weakref.finalize(self, _end, process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        try:
            if stream is not None:
                stream.close()
        except OSError:
            # What was not written is of no use any more.
            continue
