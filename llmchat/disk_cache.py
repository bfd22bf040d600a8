"""Directories of large files that can be made again at any time, kept while the disk has room for them.

A file is there whole or not at all. All of a directory together take no more than a share of what is free,
and those that were used the longest ago make room for new ones.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llmchat import paths
from llmchat.errors import UsageError
from llmchat.files import PRIVATE, sync_directory

SHARE = 0.2
"""The most that the files of a directory may take of what the disk would have free without them."""

_PART = ".part"
"""How files end that are not whole yet."""
_STALE_SECONDS = 3600
"""A file that nothing was written to for so long, and that is not whole, was left behind."""


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    size: int
    used: float
    """When it was used last, in seconds since the epoch."""


def note_use(path: Path) -> None:
    """Remember that a file was used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def throw_away(path: Path) -> None:
    """Remove a file, if it can be; whoever has it open keeps what it has."""
    with contextlib.suppress(OSError):
        path.unlink()


def make_room(directory: Path, size: int) -> bool:
    """Let those go that were used the longest ago, until a file of so many bytes may be added.

    Returns:
        False if it may not: the disk is too full, or the directory cannot be made.
    """
    import shutil

    try:
        paths.ensure(directory)
        kept = sorted(_files(directory), key=lambda one: one.used)
        held, free = sum(one.size for one in kept), shutil.disk_usage(directory).free
    except (OSError, UsageError):
        return False
    allowed = SHARE * (free + held)
    if size > allowed:
        return False
    for one in kept:
        if held + size <= allowed:
            break
        throw_away(one.path)
        held -= one.size
    return True


@contextlib.contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write that takes its name once it is whole and the disk has it; it is removed if anything fails.

    Args:
        path: The file; its directory must exist.
        durable: Whether to wait for the disk; not to is for those that know themselves whether they are whole.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "wb", buffering=0) as file:
            yield file
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        throw_away(part)
    if durable:
        sync_directory(path.parent)


def clean(directory: Path) -> tuple[int, int]:
    """Remove all files of a directory; how many there were, and their bytes."""
    kept = list(_files(directory)) if directory.is_dir() else []
    for one in kept:
        throw_away(one.path)
    return len(kept), sum(one.size for one in kept)


def _files(directory: Path) -> Iterator[_Kept]:
    """What is there; what was left behind half written is removed."""
    for path in directory.iterdir():
        with contextlib.suppress(OSError):
            status = path.stat()
            if path.suffix == _PART:
                if time.time() - status.st_mtime > _STALE_SECONDS:
                    throw_away(path)
            elif path.is_file():
                yield _Kept(path, status.st_size, status.st_mtime)
