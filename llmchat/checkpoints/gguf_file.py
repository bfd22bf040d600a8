"""The GGUF container: keys with values, then tensors as raw blocks.

Every length, count and offset is checked against the file's size before it is used, so that a
damaged or hostile file costs neither memory nor time. Layout: the GGUF specification of ggml,
versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmchat.checkpoints.blocks import FORMATS, BlockFormat
from llmchat.checkpoints.file_bytes import FileBytes, Span
from llmchat.errors import ModelLoadError
from llmchat.file_kinds import HEAD_BYTES, kind_words, part_words
from llmchat.files import describe

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_NESTING = 4
_MAX_DIMENSIONS = 4
_MAX_ITEMS = 2**24
"""Items of one list; the largest, a vocabulary's merges, are some hundred thousand."""
_MAX_PARTS = 10_000
_PART_NAME = re.compile(r"-\d{5}-of-\d{5}(\.gguf)$", re.IGNORECASE)
"""What the name of each file ends in where a model is in several, counted from 1."""
_READ_AHEAD = 4 * 2**20
"""Bytes; a header is about as long."""
_MIN_KEY_BYTES = 8 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """One tensor as it lies in the file."""

    name: str
    kind: str
    """The format of its blocks: F32, Q4_1, Q6_K …"""
    shape: tuple[int, ...]
    """Rows first, as torch has it; the file names the row length first."""
    row_bytes: int
    """Bytes of a row."""
    span: Span
    """Where its blocks lie in the file."""

    def read(self, first: int = 0, end: int | None = None) -> npt.NDArray[np.uint8]:
        """The blocks of some rows, read anew each time: shape (rows, bytes per row); a vector is one row.

        Raises:
            ModelLoadError: They are not there any more.
        """
        rows = self.span.size // self.row_bytes
        end = rows if end is None else min(end, rows)
        part = self.span.part(first * self.row_bytes, (end - first) * self.row_bytes)
        return part.read().reshape(end - first, self.row_bytes)


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """An opened GGUF file, and those with the rest of its tensors where it is one of several."""

    path: Path
    metadata: Mapping[str, Any]
    """Values by key: numbers, bools, strings, and lists of them."""
    tensors: Mapping[str, GGUFTensor]
    contents: tuple[FileBytes, ...]
    """The files in which the tensors lie."""

    @classmethod
    def open(cls, path: Path) -> GGUFFile:
        """Read the header of a file, and of the others where it is one of several, whichever.

        Raises:
            ModelLoadError: There is no such file, it is no GGUF file, damaged, cut short, or a part is missing.
        """
        file = cls._open_part(path)
        count, number = file.metadata.get("split.count", 1), file.metadata.get("split.no", 0)
        if type(count) is not int or not 1 < count <= _MAX_PARTS:
            return file
        which = f"part {number + 1} of {count}" if type(number) is int else f"one of {count} parts"
        if not _PART_NAME.search(path.name):
            names = f"{path.stem}-00001-of-{count:05}.gguf and so on"
            raise ModelLoadError(f"{path} is {which} of a model, which are found by their names: call them {names}.")
        metadata, tensors, contents = file.metadata, dict[str, GGUFTensor](), list[FileBytes]()
        for place in range(count):
            other = _part_path(path, place, count)
            if not other.is_file():
                raise ModelLoadError(f"{path} is {which} of a model, and {other.name} is not beside it: fetch it too.")
            part = cls._open_part(other)
            if twice := tensors.keys() & part.tensors.keys():
                raise ModelLoadError(f"{path}: two of its parts hold the tensor {min(twice)[:80]!r}.")
            metadata = metadata if place else part.metadata
            tensors |= part.tensors
            contents += part.contents
        return cls(_part_path(path, 0, count), metadata, tensors, tuple(contents))

    @classmethod
    def _open_part(cls, path: Path) -> GGUFFile:
        """One file, whatever it says of others."""
        content = _open(path)
        header = _Header(path, content)
        try:
            metadata, tensors = header.read()
        except struct.error:
            raise header.damaged("it ends inside its header") from None
        return cls(path, metadata, tensors, (content,))


def _part_path(path: Path, number: int, count: int) -> Path:
    """Where a part of a model lies that is in several files, by the name of another; parts count from 0."""
    return path.with_name(_PART_NAME.sub(rf"-{number + 1:05}-of-{count:05}\1", path.name))


def _open(path: Path) -> FileBytes:
    try:
        if path.exists() and not path.is_file():
            raise ModelLoadError(f"{path} is no file: give a .gguf file.")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if not head.startswith(MAGIC):
                words = kind_words(head) or "is no GGUF file: it does not begin with GGUF"
                raise ModelLoadError(f"{path} {words}{part_words(path.name)}.")
            return FileBytes(path, file)
    except (OSError, ValueError) as error:
        words = describe(error) if isinstance(error, OSError) else "its name is not valid"
        raise ModelLoadError(f"{path} cannot be opened: {words}.") from error


class _Header:
    """Reads the header once, from front to back."""

    def __init__(self, path: Path, file: FileBytes) -> None:
        self.path = path
        self.file = file
        self.size = file.size
        self.position = len(MAGIC)
        self.content = b""
        """The beginning of the file, as far as it has been needed."""

    def need(self, end: int) -> None:
        """Have the file's bytes up to some byte in `content`, or up to its end."""
        if len(self.content) < end and len(self.content) < self.size:
            have = len(self.content)
            more = min(max(end - have, _READ_AHEAD), self.size - have)
            self.content += self.file.read(have, more).tobytes()

    def damaged(self, what: str) -> ModelLoadError:
        """The error for a file that is not as it should be."""
        part = part_words(self.path.name)
        return ModelLoadError(f"{self.path} is damaged or cut short ({what}){part}: fetch or copy it again.")

    def read(self) -> tuple[dict[str, Any], dict[str, GGUFTensor]]:
        """All keys and all tensors."""
        version = self.number("I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            kind = f"big-endian, version {swapped}" if swapped in _VERSIONS else f"version {version}"
            raise ModelLoadError(
                f"{self.path} is a GGUF file of another kind ({kind}): llmchat reads versions 2 and 3."
            )
        tensor_count = self.count("Q", _MIN_TENSOR_BYTES, "tensors")
        key_count = self.count("Q", _MIN_KEY_BYTES, "keys")
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = self.string()
            if key in metadata:
                raise self.damaged(f"the key {key[:80]!r} comes twice")
            metadata[key] = self.value(self.number("I"))
        return metadata, self.tensors(tensor_count, self.alignment(metadata))

    def tensors(self, count: int, alignment: int) -> dict[str, GGUFTensor]:
        """All tensors, their data checked to lie inside the file."""
        listed = [self.tensor_head() for _ in range(count)]
        start = math.ceil(self.position / alignment) * alignment
        tensors = {name: self.tensor(name, form, shape, start + offset) for name, form, shape, offset in listed}
        if len(tensors) != count:
            raise self.damaged("two tensors have the same name")
        return tensors

    def tensor_head(self) -> tuple[str, BlockFormat, tuple[int, ...], int]:
        """Name, format, shape and offset of one tensor."""
        name = self.string()
        dimensions = self.number("I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise self.damaged(f"the tensor {name[:80]!r} has {dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
        type_number, offset = self.number("I"), self.number("Q")
        if type_number not in FORMATS:
            raise ModelLoadError(
                f"{self.path}: the tensor {name[:80]!r} is of type {type_number}, which llmchat does not know."
            )
        return name, FORMATS[type_number], shape, offset

    def tensor(self, name: str, form: BlockFormat, shape: tuple[int, ...], offset: int) -> GGUFTensor:
        """The tensor with its view of the file."""
        row_bytes, rest = divmod(shape[-1] * form.bytes, form.values)
        size = math.prod(shape[:-1]) * row_bytes
        if rest or shape[-1] % form.values or size == 0 or offset + size > self.size:
            raise self.damaged(f"the tensor {name[:80]!r} does not fit into it")
        return GGUFTensor(name, form.name, shape, row_bytes, Span(self.file, offset, size))

    def alignment(self, metadata: Mapping[str, Any]) -> int:
        """Bytes to a multiple of which the tensors' data begins."""
        value = metadata.get("general.alignment", 32)
        if not isinstance(value, int) or value <= 0 or value % 8:
            raise self.damaged("its alignment is wrong")
        return value

    def number(self, code: str) -> Any:
        """One number or bool; `code` is the struct module's."""
        self.need(self.position + 8)
        (value,) = struct.unpack_from("<" + code, self.content, self.position)
        self.position += struct.calcsize("<" + code)
        return value

    def count(self, code: str, item_bytes: int, what: str) -> int:
        """How many items follow, each of at least `item_bytes`."""
        count: int = self.number(code)
        if count * item_bytes > self.size - self.position or (item_bytes > 1 and count > _MAX_ITEMS):
            raise self.damaged(f"it claims {count} {what}")
        return count

    def string(self) -> str:
        """One string; bytes that are no UTF-8 become U+FFFD."""
        length = self.count("Q", 1, "characters in a string")
        self.position += length
        self.need(self.position)
        return self.content[self.position - length : self.position].decode("utf-8", "replace")

    def value(self, kind: int, nesting: int = 0) -> Any:
        """One value of a key."""
        if code := _SCALARS.get(kind):
            return self.number(code)
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY and nesting < _MAX_NESTING:
            return self.array(nesting)
        raise self.damaged(f"it holds a value of the unknown type {kind}")

    def array(self, nesting: int) -> list[Any]:
        """One list of values of the same type."""
        kind = self.number("I")
        if code := _SCALARS.get(kind):
            count = self.count("Q", struct.calcsize(code), "numbers in a list")
            self.need(self.position + count * struct.calcsize(code))
            values = np.frombuffer(self.content, np.dtype(code).newbyteorder("<"), count, self.position)
            self.position += values.nbytes
            items: list[Any] = values.tolist()
            return items
        count = self.count("Q", 8, "items in a list")
        if kind == _STRING:
            return self.strings(count)
        return [self.value(kind, nesting + 1) for _ in range(count)]

    def extended(self, end: int) -> tuple[bytes, int]:
        """`content` with at least so many bytes, and how many it has."""
        if end > self.size:
            raise self.damaged("it ends inside a list of strings")
        self.need(end)
        return self.content, len(self.content)

    def strings(self, count: int) -> list[str]:
        """So many strings. A vocabulary has a hundred thousand and more, so this is `string` with nothing to spare."""
        content, position, have, length_at = self.content, self.position, 0, struct.Struct("<Q").unpack_from
        items = []
        for _ in range(count):
            start = position + 8
            if start > have:
                content, have = self.extended(start)
            position = start + length_at(content, position)[0]
            if position > have:
                content, have = self.extended(position)
            items.append(content[start:position].decode("utf-8", "replace"))
        self.position = position
        return items
