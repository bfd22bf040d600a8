"""Where transcript files lie and how they are opened: named, created, locked against a second process."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from llmchat.chat.archive import SUFFIX
from llmchat.chat.transcript import Transcript
from llmchat.errors import TranscriptError, UsageError
from llmchat.files import PRIVATE, describe, lock
from llmchat.paths import ensure, transcripts_dir

_READ_CHUNK = 1 << 20


def unsaved(path: Path, cause: str) -> TranscriptError:
    """The error that a file is not kept, and why."""
    return TranscriptError(f"The conversation is not saved: {path} cannot be written ({cause}).")


def default_names(transcript: Transcript) -> Iterator[Path]:
    """Names in the transcripts directory, made of date, time and the title's first words."""
    try:
        directory = ensure(transcripts_dir())
    except UsageError as error:
        raise TranscriptError(f"The conversation is not saved: {error.message}") from error
    slug = "-".join(re.findall(r"\w+", transcript.title.lower())[:6])[:40].strip("-_") or "conversation"
    stem = f"{transcript.created.astimezone():%Y-%m-%d-%H%M}-{slug}"
    yield directory / f"{stem}{SUFFIX}"
    yield from (directory / f"{stem}-{number}{SUFFIX}" for number in range(2, 1000))


def create_new(names: Iterator[Path]) -> tuple[Path, int]:
    """Make a file under the first of some names that is free, and return it with a descriptor.

    Raises:
        TranscriptError: It cannot be made, or every name is taken.
    """
    path = None
    for path in names:
        try:
            return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE)
        except FileExistsError:
            continue
        except OSError as error:
            raise unsaved(path, describe(error)) from error
    raise TranscriptError(f"{path} exists already. Resume it, or choose another name.")


def open_locked(path: Path) -> tuple[int, bool]:
    """Open and lock a file; a file that may not be written is opened for reading.

    Returns:
        A descriptor, and whether it can be written to.

    Raises:
        TranscriptError: It cannot be opened, or another process has it.
    """
    while True:
        try:
            handle, writable = _open(path)
        except OSError as error:
            raise TranscriptError(f"{path} cannot be opened: {describe(error)}.") from error
        if not lock(handle):
            os.close(handle)
            raise TranscriptError(f"{path} is open in another llmchat. Close it there, or start a new conversation.")
        # A rewrite by the other process may have put a new file in this one's place just now.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle, writable
        os.close(handle)


def _open(path: Path) -> tuple[int, bool]:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    try:
        return os.open(path, os.O_RDWR), True
    except FileNotFoundError:
        raise
    except OSError:
        return os.open(path, os.O_RDONLY), False


def clear_half_written(path: Path) -> None:
    """Remove what processes that were killed while they replaced a file, or the one beside it, left there.

    Args:
        path: A file that this process has locked.
    """
    target = path.resolve()
    if len(target.name) > _LONGEST_NAME:
        return
    half_written = re.compile(rf"\.{re.escape(target.name)}(\.partial)?\.[a-z0-9_]{{8}}\.tmp")
    with contextlib.suppress(OSError):
        for item in target.parent.iterdir():
            if half_written.fullmatch(item.name):
                item.unlink()


_LONGEST_NAME = 90
"""Of longer names the temporary ones hold only the beginning."""


def read_all(handle: int) -> bytes:
    """What an open file holds."""
    os.lseek(handle, 0, os.SEEK_SET)
    return b"".join(iter(lambda: os.read(handle, _READ_CHUNK), b""))
