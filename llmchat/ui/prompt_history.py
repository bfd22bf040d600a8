"""What was sent before, for Up and Down in the prompt; kept in a file of JSON lines.

The file is only appended to, and cut back to its newest entries when it is read.
A file that cannot be read or written never stands in the way: the history then
lives in memory, and `problem` says why.
"""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path

from llmchat.errors import UsageError
from llmchat.files import PRIVATE, describe, write_all, write_text
from llmchat.paths import ensure


class PromptHistory:
    """Past prompts, oldest first, and a place in them to walk from.

    The place starts after the newest entry, at the draft. Text that was changed
    on the way is found again when the walk comes back to it, until `add` or `rewind`.
    """

    def __init__(self, path: Path | None = None, limit: int = 1000) -> None:
        """Read the history.

        Args:
            path: The file that keeps it; None keeps it in memory only.
            limit: The most entries to keep.
        """
        self.problem = ""
        """Why the history is not kept in its file, in one line; "" while it is."""
        self._path = path
        self._limit = limit
        self._entries: deque[str] = deque(self._read(), maxlen=limit)
        self._place = len(self._entries)
        self._changed: dict[int, str] = {}

    @property
    def path(self) -> Path | None:
        """The file that keeps it."""
        return self._path

    @property
    def entries(self) -> tuple[str, ...]:
        """The past prompts, oldest first."""
        return tuple(self._entries)

    def add(self, text: str) -> None:
        """Remember what was sent; nothing empty, and nothing twice in a row."""
        if text.strip() and not (self._entries and self._entries[-1] == text):
            self._entries.append(text)
            self._append(text)
        self.rewind()

    def rewind(self) -> None:
        """Go back to the draft's place and forget changes made on the way."""
        self._place = len(self._entries)
        self._changed.clear()

    def older(self, current: str) -> str | None:
        """The prompt before this place, or None at the oldest; `current` is kept for the way back."""
        return self._walk(-1, current)

    def newer(self, current: str) -> str | None:
        """The prompt after this place, last of all the draft, or None beyond it."""
        return self._walk(1, current)

    def _walk(self, by: int, current: str) -> str | None:
        place = self._place + by
        if not 0 <= place <= len(self._entries):
            return None
        self._changed[self._place] = current
        self._place = place
        stored = self._entries[place] if place < len(self._entries) else ""
        return self._changed.get(place, stored)

    def _read(self) -> list[str]:
        if self._path is None:
            return []
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            self.problem = f"The prompt history cannot be read: {describe(error)}."
            return []
        entries = [entry for entry in map(_entry, lines) if entry is not None][-self._limit :]
        if len(lines) > self._limit:
            self._rewrite(self._path, entries)
        return entries

    def _rewrite(self, path: Path, entries: list[str]) -> None:
        try:
            write_text(path, "".join(map(_line, entries)), durable=False)
        except OSError as error:
            self.problem = f"The prompt history cannot be shortened: {describe(error)}."

    def _append(self, text: str) -> None:
        if self._path is None:
            return
        try:
            ensure(self._path.parent)
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE)
            try:
                # A last line that a crash tore off must not swallow this one.
                write_all(handle, (("\n" if _is_torn(handle) else "") + _line(text)).encode())
            finally:
                os.close(handle)
        except OSError as error:
            self.problem = f"The prompt history is not kept: {describe(error)}."
        except UsageError as error:
            self.problem = f"The prompt history is not kept: {error.message}"


def _line(text: str) -> str:
    return json.dumps({"text": text}) + "\n"


def _entry(line: str) -> str | None:
    """The prompt in a line of the file, or None if the line is damaged."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    text = value.get("text") if isinstance(value, dict) else None
    return text if isinstance(text, str) and text.strip() else None


def _is_torn(handle: int) -> bool:
    """Whether an open file ends within a line."""
    if os.lseek(handle, 0, os.SEEK_END) == 0:
        return False
    os.lseek(handle, -1, os.SEEK_END)
    return os.read(handle, 1) != b"\n"
