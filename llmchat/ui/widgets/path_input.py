"""A line for a path that completes itself from the disk."""

from __future__ import annotations

import asyncio
import os
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input

from llmchat.files import expanded


class PathInput(Input):
    """Shows how the path could go on; Tab or → takes that."""

    HELP_HEADING = "In a path"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete the path", False),
    ]

    def __init__(self, value: str = "", *, placeholder: str = "", id: str | None = None) -> None:  # noqa: A002
        """A line that holds `value`."""
        super().__init__(value, placeholder=placeholder, suggester=PathSuggester(), compact=True, id=id)

    def write(self, path: str) -> None:
        """Put a path in, with the cursor at its end."""
        self.value = path
        self.cursor_position = len(path)

    def action_complete(self) -> None:
        """Take the completion; without one, leave the line."""
        if self._suggestion and self.cursor_at_end:
            self.action_cursor_right()
        else:
            self.screen.focus_next()


class PathSuggester(Suggester):
    """Completes paths: the first name in the directory that begins as typed."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The path completed by one name, without waiting for a slow disk."""
        return await asyncio.to_thread(complete_path, value)


def complete_path(typed: str) -> str | None:
    """The typed path with its last name completed; None if no name begins so.

    Only what is surely a path is completed: it begins with "~" or "." or has a separator.
    """
    if not typed or not (typed.startswith(("~", ".")) or os.sep in typed or "/" in typed):
        return None
    folder, tail = os.path.split(typed)
    try:
        entries = sorted(os.scandir(expanded(folder or ".")), key=lambda entry: entry.name.lower())
    except (OSError, RuntimeError, ValueError):
        return None
    for entry in entries:
        is_hidden = entry.name.startswith(".") and not tail.startswith(".")
        if tail and entry.name.startswith(tail) and not is_hidden and entry.name.isprintable():
            return typed + entry.name[len(tail) :] + (os.sep if entry.is_dir() else "")
    return None
