"""Keeping a conversation on the disk while it goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Turn
from llmchat.errors import LlmchatError, TranscriptError

CHECKPOINT_SECONDS = 1.5
"""How often the reply in progress is kept."""


class Keeper:
    """Puts turns into a transcript file, which is made when the first thing is said.

    A failure, such as a full disk, is told once; the conversation goes on, and
    what could not be kept is tried again with the next turn.
    """

    def __init__(self, warn: Callable[[LlmchatError], object], *, autosave: bool) -> None:
        """A keeper without a file.

        Args:
            warn: Told of what could not be kept.
            autosave: Whether a file is made without being asked for.
        """
        self.file: TranscriptFile | None = None
        self.lacks_something = False
        """Whether the file that was let go last could not take all that was said."""
        self._warn = warn
        self._autosave = autosave
        self._has_warned = False
        self._checkpoint_at = 0.0

    @property
    def path(self) -> Path | None:
        """The transcript file; None while there is none."""
        return None if self.file is None else self.file.path

    def keep(self, transcript: Transcript, turn: Turn) -> None:
        """Put a turn of the conversation on the disk."""
        if self.file is None and not self._autosave:
            return
        with self._told_once():
            if self.file is None:
                self.file = TranscriptFile.create(transcript)
            else:
                self.file.append(turn)

    def has_all(self, transcript: Transcript) -> bool:
        """Whether everything that was said is in the file."""
        return not len(transcript) or (self.file is not None and self.file.has_all)

    def checkpoint(self, make_turn: Callable[[], Turn]) -> None:
        """Keep what there is of the reply in progress, every second or two."""
        if self.file is None or time.monotonic() - self._checkpoint_at < CHECKPOINT_SECONDS:
            return
        self._checkpoint_at = time.monotonic()
        with self._told_once():
            self.file.checkpoint(make_turn())

    def keep_changes(self) -> None:
        """Put what else happened to the conversation on the disk, such as a deletion."""
        if self.file is not None:
            with self._told_once():
                self.file.keep()

    def move_to(self, file: TranscriptFile) -> None:
        """Keep the conversation in another file from here on."""
        self.close()
        self.file = file
        self._has_warned = False

    def close(self) -> None:
        """Let go of the file, which then opens at the turn that is selected now."""
        if self.file is not None:
            with self._told_once():
                self.file.keep_selection()
            self.lacks_something = not self.file.has_all
            self.file.close()
            self.file = None

    @contextlib.contextmanager
    def _told_once(self) -> Iterator[None]:
        try:
            yield
        except TranscriptError as error:
            if not self._has_warned:
                self._has_warned = True
                self._warn(error)
        else:
            self._has_warned = False
