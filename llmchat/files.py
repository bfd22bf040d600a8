"""Writing text so that a crash or a full disk never costs what was there before; reading TOML that may be anything."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import MAXYEAR, MINYEAR, date
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PRIVATE = 0o600
"""The mode of every file that llmchat writes: its owner reads and writes it, nobody else."""


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file's content whole, or leave it as it was.

    Args:
        path: The file; its directory must exist.
        text: The new content, written as UTF-8 with the line ends it has; lone surrogates become "?".
        durable: Whether to wait until the disk has it, so that it outlives a power cut.

    Raises:
        OSError: It could not be written; the old file is untouched. See `describe`.
    """
    os.close(replace_file(path, text.encode(errors="replace"), durable=durable))


def replace_file(
    path: Path, data: bytes, *, durable: bool = True, prepare: Callable[[int], object] = lambda handle: None
) -> int:
    """Replace a file's content whole, and return a descriptor of the new file, to be closed by the caller.

    Args:
        path: The file; its directory must exist.
        data: The new content.
        durable: Whether to wait until the disk has it.
        prepare: Is given the descriptor before the file takes its name, to lock it.

    Raises:
        OSError: It could not be written; the old file is untouched.
    """
    import tempfile

    # A link is written through, so that a settings file kept elsewhere stays a link.
    target = path.resolve()
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        # The temporary name would tell a person nothing.
        raise OSError(error.errno, error.strerror, str(target.parent)) from error
    try:
        write_all(handle, data)
        if durable:
            os.fsync(handle)
        prepare(handle)
        os.replace(name, target)
    except BaseException:
        os.close(handle)
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    if durable:
        sync_directory(target.parent)
    return handle


def append_text(path: Path, text: str) -> None:
    """Add text to the end of a file, creating it if need be, and wait until the disk has it.

    Raises:
        OSError: It could not be written; the file is as long as it was. See `describe`.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE)
    try:
        append_bytes(handle, text.encode(errors="replace"))
    finally:
        os.close(handle)


def append_bytes(handle: int, data: bytes) -> None:
    """Add bytes to an open file all together or not at all, and wait until the disk has them.

    Args:
        handle: A descriptor that can be written to.
        data: What to add.

    Raises:
        OSError: It could not be written; the file is as long as it was.
    """
    length = os.lseek(handle, 0, os.SEEK_END)
    try:
        write_all(handle, data)
        os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, length)
        raise


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write bytes to a descriptor until all are written.

    Raises:
        OSError: It failed; a part may have been written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def sync_directory(directory: Path) -> None:
    """Make a renamed file's new name outlive a power cut, where the system offers that."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock(handle: int) -> bool:
    """Claim an open file for this process until the descriptor is closed, without waiting.

    Returns:
        False if another process holds it. True also where the system has no such locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems have no locks; a conversation is worth more than the claim.
        return True
    return True


_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your disk quota is used up",
    errno.EFBIG: "the file would be larger than allowed",
    errno.EROFS: "the disk is read-only",
    errno.ENOENT: "there is no {place}",
    errno.EISDIR: "{place} is a directory",
    errno.ENOTDIR: "a part of {place} is a file, not a directory",
    errno.EEXIST: "{place} exists already",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMFILE: "too many files are open",
    errno.EIO: "the disk reports an error",
}


def expanded(place: str | Path) -> Path:
    """The path that a person typed, "~" standing for the home directory; where none is known, it stays as it is."""
    return Path(os.path.expanduser(place))


def describe(error: OSError) -> str:
    """The cause of a failed read or write in a few plain words, without a full stop."""
    place = str(error.filename) if error.filename else "such file"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission for {place}" if error.filename else "permission is missing"
    cause = _CAUSES.get(error.errno or 0)
    if cause is not None:
        return cause.format(place=place)
    return (error.strerror or str(error) or "an unknown error").lower()


def describe_toml(error: tomllib.TOMLDecodeError, text: str) -> str:
    """What is wrong with a TOML text and in which line, such as "line 3: Invalid value", if that is known."""
    cause, _, place = str(error).partition(" (at ")
    if not place:
        return cause
    found = re.match(r"line (\d+)", place)
    line = int(found[1]) if found else text.rstrip().count("\n") + 1
    return f"line {line}: {cause}"


def parse_toml(text: str) -> dict[str, Any]:
    """The tables in a TOML text, each value one that a program can show, compare and write again.

    Raises:
        TOMLDecodeError: It is no TOML, or holds what TOML readers need not take: whole numbers of
            more than 64 bits, values nested more than 100 deep, dates of the years 1 and 9999.
            See `describe_toml`.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise tomllib.TOMLDecodeError("a value is out of range") from None
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from None
    _check_values(tables)
    return tables


_DEEPEST = 100
_LARGEST = 2**63


def _check_values(tables: dict[str, Any]) -> None:
    waiting: list[tuple[Any, int]] = [(tables, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, Mapping | list):
            if depth == _DEEPEST:
                raise tomllib.TOMLDecodeError("it is nested too deeply")
            waiting += [(item, depth + 1) for item in (value.values() if isinstance(value, Mapping) else value)]
        elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise tomllib.TOMLDecodeError("a whole number has more than 64 bits")
        elif isinstance(value, date) and not MINYEAR < value.year < MAXYEAR:
            # They have no counterpart in other time zones.
            raise tomllib.TOMLDecodeError(f"a date is of the year {value.year}")
