"""The GGUF container: keys with values, then tensors as raw blocks, mapped from the file.

Every length, count and offset is checked against the file's size before it is used, so that a
damaged or hostile file costs neither memory nor time. Layout: the GGUF specification of ggml,
versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmchat.checkpoints.blocks import FORMATS, BlockFormat
from llmchat.errors import ModelLoadError
from llmchat.files import describe

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_NESTING = 4
_MAX_DIMENSIONS = 4
_MAX_ITEMS = 2**24
"""Items of one list; the largest, a vocabulary's merges, are some hundred thousand."""
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
    offset: int
    """Bytes from the start of the file."""
    data: npt.NDArray[np.uint8]
    """The blocks, a read-only view of the mapped file: shape (…rows, bytes per row)."""


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """An opened GGUF file. It stays mapped as long as a tensor's view is held."""

    path: Path
    metadata: Mapping[str, Any]
    """Values by key: numbers, bools, strings, and lists of them."""
    tensors: Mapping[str, GGUFTensor]
    content: mmap.mmap
    """The whole file, mapped."""

    @classmethod
    def open(cls, path: Path) -> GGUFFile:
        """Map a file and read its header.

        Raises:
            ModelLoadError: There is no such file, it is no GGUF file, damaged or cut short.
        """
        content = _map(path)
        header = _Header(path, content)
        try:
            metadata, tensors = header.read()
        except struct.error:
            raise header.damaged("it ends inside its header") from None
        return cls(path, metadata, tensors, content)


def _map(path: Path) -> mmap.mmap:
    try:
        if path.exists() and not path.is_file():
            raise ModelLoadError(f"{path} is no file: give a .gguf file.")
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise ModelLoadError(f"{path} is no GGUF file: it does not begin with GGUF.")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        words = describe(error) if isinstance(error, OSError) else "its name is not valid"
        raise ModelLoadError(f"{path} cannot be opened: {words}.") from error


class _Header:
    """Reads the header once, from front to back."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path = path
        self.content = content
        self.size = len(content)
        self.position = len(MAGIC)

    def damaged(self, what: str) -> ModelLoadError:
        """The error for a file that is not as it should be."""
        return ModelLoadError(f"{self.path} is damaged or cut short ({what}): fetch or copy it again.")

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
        view = np.frombuffer(self.content, np.uint8, size, offset)
        return GGUFTensor(name, form.name, shape, offset, view.reshape(*shape[:-1], row_bytes))

    def alignment(self, metadata: Mapping[str, Any]) -> int:
        """Bytes to a multiple of which the tensors' data begins."""
        value = metadata.get("general.alignment", 32)
        if not isinstance(value, int) or value <= 0 or value % 8:
            raise self.damaged("its alignment is wrong")
        return value

    def number(self, code: str) -> Any:
        """One number or bool; `code` is the struct module's."""
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
            values = np.frombuffer(self.content, np.dtype(code).newbyteorder("<"), count, self.position)
            self.position += values.nbytes
            items: list[Any] = values.tolist()
            return items
        count = self.count("Q", 8, "items in a list")
        if kind == _STRING:
            return self.strings(count)
        return [self.value(kind, nesting + 1) for _ in range(count)]

    def strings(self, count: int) -> list[str]:
        """So many strings. A vocabulary has a hundred thousand and more, so this is `string` with nothing to spare."""
        content, position, size, length_at = self.content, self.position, self.size, struct.Struct("<Q").unpack_from
        items = []
        for _ in range(count):
            start = position + 8
            position = start + length_at(content, position)[0]
            if position > size:
                raise self.damaged("it ends inside a list of strings")
            items.append(content[start:position].decode("utf-8", "replace"))
        self.position = position
        return items
