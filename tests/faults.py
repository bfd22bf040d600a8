"""Real faults of disks: limits and permissions that the operating system itself enforces."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534

CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
"""What lets root write, and read, where modes forbid it; see capabilities(7) of Linux."""


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: a write across it is cut, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """An empty directory that every user of the machine can reach."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


@contextlib.contextmanager
def read_only(*places: Path) -> Iterator[None]:
    """Nobody may write to these files and directories for a while, not even root, who can still read everything."""
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        with _bound_by_modes(CAP_DAC_OVERRIDE):
            yield
    finally:
        for place in places:
            place.chmod(0o755 if place.is_dir() else 0o600)


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Nobody may read this file for a while, not even root, who can still read all that is root's own."""
    path.chmod(0)
    try:
        with _bound_by_modes(CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            yield
    finally:
        path.chmod(0o600)


@contextlib.contextmanager
def _bound_by_modes(*rights: int) -> Iterator[None]:
    """Let the modes of files hold for root too, in this thread and those that it starts, by giving up these rights."""
    if os.geteuid() != 0:
        yield
    elif sys.platform == "linux":
        before = _capabilities()
        _set_capabilities([before[0] & ~sum(1 << right for right in rights), *before[1:]])
        try:
            yield
        finally:
            _set_capabilities(before)
    else:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)


def _capabilities() -> list[int]:
    """Effective, permitted and inheritable capabilities 0 to 31 of this thread, then those from 32 on."""
    data = (ctypes.c_uint32 * 6)()
    _capability_call("capget", data)
    return list(data)


def _set_capabilities(values: list[int]) -> None:
    _capability_call("capset", (ctypes.c_uint32 * 6)(*values))


def _capability_call(name: str, data: ctypes.Array[ctypes.c_uint32]) -> None:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    if getattr(ctypes.CDLL(None, use_errno=True), name)(header, data) != 0:
        raise OSError(ctypes.get_errno(), name)
