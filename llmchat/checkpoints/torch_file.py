"""Opening of files that `torch.save` wrote, without trusting them.

A .pt file is a zip of uncompressed records: a pickle that describes the objects,
and the bytes of each tensor. It is looked at before torch sees it, so that code,
zip bombs and damage each get their own words and cost neither memory nor a crash.
"""

from __future__ import annotations

import pickle
import pickletools
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch.torch_version import TorchVersion

from llmchat.checkpoints.checkpoint import Progress
from llmchat.errors import ModelLoadError

PICKLE_LIMIT = 64 * 2**20
"""Bytes. The description of a checkpoint takes kilobytes; its tensors are not part of it."""

_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_CHUNK = 2**20
_HARMLESS = frozenset(
    {
        "collections OrderedDict",
        "torch Size",
        "torch device",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_qtensor",
        "torch._utils _rebuild_tensor_v2",
        "torch.torch_version TorchVersion",
    }
)
_READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
"""What torch, zipfile and pickletools raise on bytes that are not as they should be."""


def load_torch_file(path: Path, progress: Progress) -> object:
    """The objects of a .pt file; their tensors lie in the mapped file, not in memory.

    Raises:
        ModelLoadError: There is no such file, it is damaged, or it holds more than weights.
    """
    _check_file(path)
    try:
        with warnings.catch_warnings():
            # torch warns of its own old layouts, pickletools of damaged text.
            warnings.simplefilter("ignore")
            _check_contents(path, progress)
            progress("reading weights", None)
            with torch.serialization.safe_globals([TorchVersion]):
                loaded: object = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError:
        raise ModelLoadError(f"{path} may not be read: permission denied.") from None
    except MemoryError:
        raise ModelLoadError(f"There is not enough memory to open {path}.") from None
    except _READ_ERRORS as error:
        raise ModelLoadError(f"{path} is damaged or cut short ({_in_brief(error)}). Copy it again.") from error
    return loaded


def _check_contents(path: Path, progress: Progress) -> None:
    """Look at everything that torch will read."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        _check_index(path, file, _check_records(path, records))
        _check_sums(path, file, records, progress)


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelLoadError(f"{path} is a directory. Give the model file{_example_in(path)}.")
        if not stat.S_ISREG(status.st_mode):
            raise ModelLoadError(f"{path} is no regular file.")
        if status.st_size == 0:
            raise ModelLoadError(f"{path} is empty.")
        with path.open("rb") as file:
            _check_magic(path, file.read(len(_LEGACY_MAGIC)))
    except PermissionError:
        raise ModelLoadError(f"{path} may not be read: permission denied.") from None
    except (OSError, ValueError):
        raise ModelLoadError(f"There is no model file {path}.") from None


def _check_magic(path: Path, head: bytes) -> None:
    if head.startswith(_LEGACY_MAGIC):
        raise ModelLoadError(f"{path} is in the format of torch before 1.6. Save it again with a newer torch.")
    if not head.startswith(b"PK"):
        raise ModelLoadError(f"{path} was not written by torch.save: it is no model checkpoint.")


def _check_records(path: Path, records: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Refuse archives that `torch.save` cannot have written; give the record of the pickle."""
    names = [record.filename for record in records]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise ModelLoadError(f"{path} is a TorchScript program, not a checkpoint: it holds code and is refused.")
    indexes = [record for record in records if _is_index(record.filename)]
    if len(indexes) != 1 or len(set(names)) != len(names):
        raise ModelLoadError(f"{path} is a zip file, but not one that torch.save wrote.")
    size = path.stat().st_size
    unpacked = sum(record.file_size for record in records)
    if unpacked > size or any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ModelLoadError(
            f"{path} is refused as a possible zip bomb: {size} bytes that would unpack to {unpacked}, "
            "while torch.save never compresses."
        )
    if indexes[0].file_size > PICKLE_LIMIT:
        raise ModelLoadError(f"{path} is refused: {indexes[0].file_size} bytes describe its tensors, far too many.")
    return indexes[0]


def _check_index(path: Path, file: BinaryIO, index: zipfile.ZipInfo) -> None:
    """Refuse a pickle that names anything but tensors and plain containers."""
    opcodes = pickletools.genops(b"".join(_chunks(file, index)))
    asked = [str(argument) if opcode.name == "GLOBAL" else "" for opcode, argument, _ in opcodes if _names(opcode)]
    refused = [name.replace(" ", ".") for name in asked if not _is_harmless(name)]
    if any(name.startswith("llmbuilder.") for name in refused):
        raise ModelLoadError(
            f"{path} was made by llmbuilder 1.0's `optimize quantize`, whose files only it can read. "
            "Use the checkpoint it was made from."
        )
    if refused:
        wish = f": it asks for {refused[0][:80]!r}" if refused[0] else ""
        raise ModelLoadError(f"{path} holds code, not only weights{wish}; refused.")


def _names(opcode: pickletools.OpcodeInfo) -> bool:
    """Whether an opcode brings in a function or class by its name."""
    return opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")


def _is_harmless(name: str) -> bool:
    module, _, attribute = name.partition(" ")
    if module != "torch" or "." in attribute:
        return name in _HARMLESS
    kind = getattr(torch, attribute, None)
    is_storage = attribute.endswith("Storage") and attribute not in ("TypedStorage", "UntypedStorage")
    return is_storage or isinstance(kind, torch.dtype | torch.qscheme) or name in _HARMLESS


def _check_sums(path: Path, file: BinaryIO, records: list[zipfile.ZipInfo], progress: Progress) -> None:
    """Compare every record with its checksum; torch skips that for mapped files."""
    total = sum(record.file_size for record in records) or 1
    done = percent = 0
    for record in records:
        checksum = 0
        for chunk in _chunks(file, record):
            checksum = zlib.crc32(chunk, checksum)
            done += len(chunk)
            if 100 * done // total > percent:
                percent = 100 * done // total
                progress("checking the file", percent / 100)
        # torch can be told to leave checksums out; it then writes 0.
        if record.CRC not in (0, checksum):
            raise ModelLoadError(f"{path} is damaged: {record.filename!r} does not match its checksum. Copy it again.")


def _chunks(file: BinaryIO, record: zipfile.ZipInfo) -> Iterator[bytes]:
    """The bytes of an uncompressed record, a megabyte at a time."""
    file.seek(record.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    file.seek(name_length + extra_length, 1)
    left = record.file_size
    while left > 0:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise EOFError(f"{record.filename} ends early")
        left -= len(chunk)
        yield chunk


def _is_index(name: str) -> bool:
    return name.count("/") == 1 and name.endswith("/data.pkl")


def _example_in(directory: Path) -> str:
    """Words that name a model file inside, if there is one."""
    found = sorted(directory.glob("*.pt"))
    return f", such as {found[0]}" if found else ""


def _in_brief(error: BaseException) -> str:
    """The first line of an error, but for torch's on pickles, which advises to load them unchecked."""
    lines = str(error).splitlines()
    if isinstance(error, pickle.UnpicklingError) or not lines:
        return "its description of the tensors cannot be read"
    return repr(lines[0][:120])[1:-1]
