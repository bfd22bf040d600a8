"""Files whose bytes are read where they are asked for, into memory of their own.

They are not mapped: what is cut off a mapped file while it is open ends the process. Here it is an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from llmchat.errors import ModelLoadError
from llmchat.files import describe


class FileBytes:
    """An open file, to be used from one thread at a time."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Take up a file.

        Args:
            path: For messages.
            file: May be closed afterwards.
        """
        self._path = path
        self._file = open(os.dup(file.fileno()), "rb", buffering=0)  # noqa: SIM115
        self._signature = self._current_signature()
        self.size = self._signature[0]
        """Bytes of the file when it was opened."""

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def read(self, start: int, size: int) -> NDArray[np.uint8]:
        """So many bytes from some byte on, in memory of their own.

        Raises:
            ModelLoadError: They are not there any more, or cannot be read.
        """
        data = np.empty(size, np.uint8)
        view, done = data.data, 0
        try:
            self._file.seek(start)
            while done < size:
                count = self._file.readinto(view[done:])
                if not count:
                    raise self._changed()
                done += count
        except OSError as error:
            raise ModelLoadError(f"{self._path} cannot be read: {describe(error)}.") from error
        return data

    def check_unchanged(self) -> None:
        """Make sure that all that was read belongs together.

        Raises:
            ModelLoadError: The file was written to since it was opened.
        """
        if self._current_signature() != self._signature:
            raise self._changed()

    def _changed(self) -> ModelLoadError:
        return ModelLoadError(f"{self._path} was changed while it was read: open it again once it is whole.")

    def _current_signature(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a file, not yet read."""

    file: FileBytes
    start: int
    size: int
    """Bytes."""

    def part(self, start: int, size: int) -> Span:
        """A stretch of this one; it must lie inside."""
        return Span(self.file, self.start + start, size)

    def read(self) -> NDArray[np.uint8]:
        """Its bytes, read anew each time.

        Raises:
            ModelLoadError: They are not there any more.
        """
        return self.file.read(self.start, self.size)


def check_unchanged(files: Iterable[FileBytes]) -> None:
    """Make sure that none of some files was written to since it was opened.

    Raises:
        ModelLoadError: One was.
    """
    for file in files:
        file.check_unchanged()
