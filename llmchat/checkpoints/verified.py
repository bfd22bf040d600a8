"""Which fetched files were compared with their checksum, and have the size and time that they had then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from llmchat import paths
from llmchat.checkpoints.catalog import ModelEntry
from llmchat.errors import ModelLoadError, UsageError
from llmchat.files import write_text

Progress = Callable[[str, float | None], None]


def is_sound(entry: ModelEntry, progress: Progress, cancel: threading.Event, *, anew: bool = False) -> bool:
    """Whether a model's file is there and the one that it should be.

    It is read when its size or time has changed since it was last found right.

    Args:
        entry: The model.
        progress: Told how far the reading is.
        cancel: Set to give up.
        anew: Read it in any case.

    Raises:
        ModelLoadError: It was cancelled.
        OSError: It cannot be read.
    """
    if not entry.is_on_disk:
        return False
    if not entry.sha256 or (not anew and is_as_noted(entry)):
        return True
    if not matches(entry, entry.path, progress, cancel):
        return False
    note(entry)
    return True


def is_as_noted(entry: ModelEntry) -> bool:
    """Whether a model's file is there, and as it was when it was last found right, if it was fetched.

    Raises:
        OSError: It cannot be looked at.
    """
    return entry.is_on_disk and (not entry.sha256 or _stamp(entry.path) == _noted(entry))


def matches(entry: ModelEntry, path: Path, progress: Progress, cancel: threading.Event) -> bool:
    """Whether a file has the size and checksum that the catalogue says.

    Raises:
        ModelLoadError: It was cancelled.
        OSError: It cannot be read.
    """
    import hashlib

    checksum, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            if cancel.is_set():
                raise ModelLoadError(f"Verifying {entry.title} was stopped.")
            checksum.update(block)
            done += len(block)
            progress(f"verifying {entry.title}", min(done / entry.size, 1.0))
    return done == entry.size and checksum.hexdigest() == entry.sha256


def note(entry: ModelEntry) -> None:
    """Keep in mind that the file is right as it is now; where that cannot be written, it is read again next time."""
    with contextlib.suppress(OSError, UsageError):
        paths.ensure(paths.state_dir())
        write_text(_place(entry), _stamp(entry.path), durable=False)


def _place(entry: ModelEntry) -> Path:
    return paths.state_dir() / f"{entry.filename}.verified"


def _noted(entry: ModelEntry) -> str:
    try:
        return _place(entry).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _stamp(path: Path) -> str:
    """Path, size and time of a file; the path because another installation may share the state."""
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}\n"
