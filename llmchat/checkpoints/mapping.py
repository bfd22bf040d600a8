"""Files whose bytes are mapped into memory: read by the system where they are asked for, and never twice in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterable


def forget(contents: Iterable[mmap.mmap]) -> None:
    """Give back the memory that what was read of some files takes; it is read anew where it is asked for."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for content in contents:
            content.madvise(mmap.MADV_DONTNEED)
