"""What the model has read of a conversation, kept beside it: opened again, it is gone on with at once.

    a reply begins ─ another conversation? ─ the old one's is kept ─ the new one's is taken up, if it is of use
    a reply ends ─── has it grown enough? ── a copy is written on a thread of its own

Nothing depends on these files: one that is missing, damaged or of another model is read past, and one that cannot be
written is not there. They are in the cache directory, private to their owner, and go when their transcript has gone,
the disk is short or others are newer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat import disk_cache
from llmchat.errors import UsageError
from llmchat.paths import snapshots_dir

if TYPE_CHECKING:
    from llmchat.engine.engine import KeepsSnapshots
    from llmchat.engine.kv_snapshot import KVSnapshot

SUFFIX = ".kv"

_WORTH = 64
"""Tokens: to read fewer again takes no time that a person would notice."""

_GROWTH = 4
"""While a conversation goes on, it is written anew when it has grown by this part of what is there."""

_MOST_BYTES = 4 * 2**30
"""Of one conversation; a longer one is read again."""


class Snapshots:
    """Keeps the snapshot of one conversation at a time. For the worker's thread."""

    def __init__(self) -> None:
        self._transcript: Path | None = None
        self._text: Sequence[int] = ()  # of the conversation, as its last reply ended
        self._kept: Sequence[int] = ()  # of it, what the file has
        self._writer: threading.Thread | None = None

    def begin(self, keeps: KeepsSnapshots | None, transcript: Path | None, token_ids: Sequence[int]) -> None:
        """Be told what is to be read next.

        Args:
            keeps: The engine, where it can.
            transcript: The file of the conversation; None for one that is not kept.
            token_ids: The prompt.
        """
        if transcript == self._transcript:
            return
        self.leave(keeps)
        self._transcript = transcript
        if keeps is None or transcript is None:
            return
        from llmchat.engine.kv_snapshot import read_snapshot

        path, least = _place(transcript), keeps.known(token_ids) + _WORTH
        if (snapshot := read_snapshot(path, keeps.snapshot_kind, token_ids, least)) is not None:
            keeps.take_up(snapshot)
            self._text = self._kept = snapshot.token_ids.tolist()
            disk_cache.note_use(path)

    def ended(self, keeps: KeepsSnapshots | None) -> None:
        """Be told that a reply has ended."""
        if keeps is not None and self._transcript is not None:
            self._text = keeps.text
            if self._lacking() >= max(4 * _WORTH, len(self._kept) // _GROWTH):
                self._keep(keeps)

    def leave(self, keeps: KeepsSnapshots | None) -> None:
        """Keep what is not kept yet: the conversation is left, or the model."""
        if keeps is not None and self._lacking() >= _WORTH:
            self._keep(keeps)
        self._transcript, self._text, self._kept = None, (), ()

    def close(self, timeout_seconds: float) -> None:
        """Wait for what is being written, but not for long."""
        if self._writer is not None:
            self._writer.join(timeout_seconds)

    def _lacking(self) -> int:
        """How many tokens of the conversation would have to be read again."""
        from llmchat.engine.kv_snapshot import common_prefix

        return len(self._text) - common_prefix(self._text, self._kept)

    def _keep(self, keeps: KeepsSnapshots) -> None:
        """Write the present snapshot, unless an earlier one is still being written."""
        transcript = self._transcript
        if transcript is None or (self._writer is not None and self._writer.is_alive()):
            return
        with contextlib.suppress(OSError, MemoryError, UsageError, RuntimeError):
            # Something else may have been read since the reply, such as an earlier turn that was looked into.
            if keeps.text != self._text or (snapshot := keeps.snapshot(_MOST_BYTES)) is None:
                return
            self._kept = self._text
            arguments = (transcript, snapshot, keeps.snapshot_kind)
            self._writer = threading.Thread(target=_write, args=arguments, name="llmchat-keeping", daemon=True)
            self._writer.start()


def _place(transcript: Path) -> Path:
    """Where the snapshot of a conversation lies."""
    name = hashlib.blake2b(os.fsencode(transcript.absolute()), digest_size=16).hexdigest()
    return snapshots_dir() / f"{name}{SUFFIX}"


def forget_snapshot(transcript: Path) -> None:
    """Remove what was read of a conversation, as after part of it was dropped for good."""
    with contextlib.suppress(UsageError):
        disk_cache.throw_away(_place(transcript))


def _write(transcript: Path, snapshot: KVSnapshot, kind: str) -> None:
    """Put a snapshot on the disk, if its transcript is still there and there is room, and remove those of no use."""
    from llmchat.engine.kv_snapshot import write_snapshot

    with contextlib.suppress(OSError, UsageError):
        _remove_orphans()
        if transcript.is_file() and disk_cache.make_room(snapshots_dir(), snapshot.image.nbytes):
            write_snapshot(_place(transcript), snapshot, kind, {"transcript": str(transcript.absolute())})


def _remove_orphans() -> None:
    """Remove the snapshots whose transcripts have gone."""
    from llmchat.engine.kv_snapshot import read_about

    for file in snapshots_dir().glob(f"*{SUFFIX}"):
        told = read_about(file).get("transcript", "")
        if not told or not Path(told).is_file():
            disk_cache.throw_away(file)
