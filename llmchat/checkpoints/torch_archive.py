"""The container of `torch.save`: a zip of uncompressed records, looked at before any of them is used.

NAME/data.pkl      a pickle that describes the objects
NAME/data/0, 1, …  the bytes of each storage
NAME/byteorder     little, or big
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmchat.checkpoints.checkpoint import Progress
from llmchat.checkpoints.file_bytes import FileBytes, Span
from llmchat.checkpoints.strangers import stranger_words
from llmchat.checkpoints.torch_pickle import INDEX_LIMIT
from llmchat.errors import ModelLoadError
from llmchat.file_kinds import HEAD_BYTES

_INDEX = "data.pkl"
_CHUNK = 2**20


class TorchArchive:
    """An opened file whose records are what they seem to be; whether their bytes are, `check_sums` says."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Look at the records and read the description of the objects.

        Args:
            path: For messages.
            file: At its start; it must stay open until the sums are checked.

        Raises:
            ModelLoadError: It is no archive of torch.save, or a bomb, or damaged, or of another byte order.
            EOFError: It is cut short. Damage also shows as any other of `READ_ERRORS`.
        """
        self._path = path
        self._file = file
        _check_magic(path, file.read(HEAD_BYTES))
        with zipfile.ZipFile(file) as archive:
            self._entries = archive.infolist()
        self.content = FileBytes(path, file)
        index = _find_index(path, self.content.size, self._entries)
        prefix = index.filename.removesuffix(_INDEX)
        self.records = {entry.filename.removeprefix(prefix): self._record(entry) for entry in self._entries}
        """The bytes of each, in the file, by its name in the archive's directory."""
        self.index = self.records[_INDEX].read().tobytes()
        """The pickle."""
        self._compare(index, zlib.crc32(self.index))
        order = self.records.get("byteorder")
        if order is not None and order.part(0, min(order.size, 6)).read().tobytes() != b"little":
            raise ModelLoadError(f"{path} was written on a machine of another byte order, which cannot be read.")

    def check_sums(self, progress: Progress) -> None:
        """Compare every record with its checksum.

        Raises:
            ModelLoadError: One differs.
        """
        total = sum(entry.file_size for entry in self._entries) or 1
        done = percent = 0
        for entry in self._entries:
            checksum = 0
            for chunk in self._chunks(entry):
                checksum = zlib.crc32(chunk, checksum)
                done += len(chunk)
                if 100 * done // total > percent:
                    percent = 100 * done // total
                    progress("checking the file", percent / 100)
            self._compare(entry, checksum)

    def _compare(self, entry: zipfile.ZipInfo, checksum: int) -> None:
        # torch can be told to leave checksums out; it then writes 0.
        if entry.CRC not in (0, checksum):
            name = entry.filename[:80]
            raise ModelLoadError(f"{self._path} is damaged: {name!r} does not match its checksum. Copy it again.")

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Where the bytes of a record begin."""
        if entry.header_offset < 0:
            raise zipfile.BadZipFile("a record lies outside the file")
        self._file.seek(entry.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", self._file.read(4))
        return entry.header_offset + 30 + int(name_length) + int(extra_length)

    def _record(self, entry: zipfile.ZipInfo) -> Span:
        start = self._start(entry)
        if start + entry.file_size > self.content.size:
            raise EOFError(f"{entry.filename} ends early")
        return Span(self.content, start, entry.file_size)

    def _chunks(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        """The bytes of a record, a megabyte at a time."""
        self._file.seek(self._start(entry))
        left = entry.file_size
        while left > 0:
            chunk = self._file.read(min(left, _CHUNK))
            if not chunk:
                raise EOFError(f"{entry.filename} ends early")
            left -= len(chunk)
            yield chunk


def open_torch_file(path: Path) -> BinaryIO:
    """Open what may be a file of torch.save.

    Raises:
        ModelLoadError: There is no such file, or it is something else.
        PermissionError: It may not be read.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelLoadError(f"{path} is a directory. Give the model file{_example_in(path)}.")
        if not stat.S_ISREG(status.st_mode):
            raise ModelLoadError(f"{path} is no regular file.")
        if status.st_size == 0:
            raise ModelLoadError(f"{path} is empty.")
        return path.open("rb")
    except PermissionError:
        raise
    except (OSError, ValueError):
        raise ModelLoadError(f"There is no model file {path}.") from None


def _check_magic(path: Path, head: bytes) -> None:
    if not head.startswith(b"PK") and (words := stranger_words(path, head)):
        raise ModelLoadError(f"{path} {words}.")
    if not head.startswith(b"PK"):
        raise ModelLoadError(f"{path} was not written by torch.save: it is no model checkpoint.")


def _find_index(path: Path, size: int, entries: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The entry of the pickle, in an archive that `torch.save` can have written."""
    names = [entry.filename for entry in entries]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise ModelLoadError(f"{path} is a TorchScript program, not a checkpoint: it holds code and is refused.")
    indexes = [entry for entry in entries if _is_index(entry.filename)]
    if len(indexes) != 1 or len(set(names)) != len(names):
        raise ModelLoadError(f"{path} is a zip file, but not one that torch.save wrote.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ModelLoadError(
            f"{path} is refused as a possible zip bomb: {size} bytes that would unpack to {unpacked}, "
            "while torch.save never compresses."
        )
    if indexes[0].file_size > INDEX_LIMIT:
        raise ModelLoadError(f"{path} is refused: {indexes[0].file_size} bytes describe its tensors, far too many.")
    return indexes[0]


def _is_index(name: str) -> bool:
    return name.count("/") == 1 and name.endswith(f"/{_INDEX}")


def _example_in(directory: Path) -> str:
    """Words that name a model file inside, if there is one."""
    found = sorted(directory.glob("*.pt"))
    return f", such as {found[0]}" if found else ""
