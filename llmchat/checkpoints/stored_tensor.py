"""Tensors as `torch.save` stores them, without torch: of any type, stride and offset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.checkpoint import RawTensor
from llmchat.checkpoints.file_bytes import Span

NUMPY_TYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "complex128": "<c16",
    "complex64": "<c8",
    "uint32": "<u4",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "<i1",
    "uint8": "<u1",
    "bool": "?",
    "qint32": "<i4",
    "qint8": "<i1",
    "quint8": "<u1",
}
"""How the numbers of each of torch's types are read. numpy has no bfloat16: those stay bits."""

FLOATS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": ""}
"""The types that weights can have, with the format of blocks that each is; float64 is none."""

_INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF0000000000000}
_MOST_DIMENSIONS = 32
_LARGEST = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Quantisation:
    """What makes numbers of a quantised tensor's integers: scale · (integer - zero point)."""

    scale: NDArray[Any]
    zero_point: NDArray[Any]
    """Both of a shape that fits the tensor's: one for all, or one for each index of one axis."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor in its file, or in memory of its own."""

    dtype: str
    """torch's name of its type; a key of `NUMPY_TYPES`."""
    shape: tuple[int, ...]
    """Rows first."""
    strides: tuple[int, ...]
    """Bytes from one number to the next of each dimension, in its place."""
    place: Span | NDArray[Any]
    """Where its numbers are, from the first to the last: a stretch of the file, or an array."""
    storage_bytes: int
    """Of the storage that it is a view of."""
    quantisation: Quantisation | None = None

    @classmethod
    def view(
        cls, storage: Span, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> StoredTensor:
        """A view of a storage.

        Args:
            storage: Its bytes.
            dtype: A key of `NUMPY_TYPES`.
            offset: Of the first number, in numbers.
            shape: Rows first.
            strides: In numbers, one for each dimension.

        Raises:
            ValueError: It would reach outside the storage, or be impossible otherwise.
        """
        kind = np.dtype(NUMPY_TYPES[dtype])
        if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
            raise ValueError("a tensor has strides that are not its own")
        if not all(type(number) is int and 0 <= number < _LARGEST for number in (offset, *shape, *strides)):
            raise ValueError("a tensor has an impossible shape")
        if 0 in shape:
            return cls(dtype, shape, (0,) * len(shape), np.empty(shape, kind), storage.size)
        extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if (offset + extent) * kind.itemsize > storage.size:
            raise ValueError("a tensor reaches out of its storage")
        in_bytes = tuple(stride * kind.itemsize for stride in strides)
        place = storage.part(offset * kind.itemsize, extent * kind.itemsize)
        return cls(dtype, shape, in_bytes, place, storage.size)

    @classmethod
    def of_floats(cls, values: NDArray[np.float32]) -> StoredTensor:
        """A tensor in memory of its own."""
        return cls("float32", values.shape, values.strides, values, values.nbytes)

    @property
    def numbers(self) -> NDArray[Any]:
        """Of the tensor's shape; read anew each time where they lie in a file.

        Raises:
            ModelLoadError: They are not there any more.
        """
        if not isinstance(self.place, Span):
            return self.place
        return np.ndarray(self.shape, NUMPY_TYPES[self.dtype], self.place.read(), 0, self.strides)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def is_same_view(self, other: StoredTensor) -> bool:
        """Whether both are one view of one storage, as tied weights are."""
        same = (self.dtype, self.shape, self.strides) == (other.dtype, other.shape, other.strides)
        return same and isinstance(self.place, Span) and self.place == other.place

    @property
    def bytes(self) -> int:
        """How many bytes its numbers take, each counted once for every place."""
        return self.size * np.dtype(NUMPY_TYPES[self.dtype]).itemsize

    @property
    def repeats(self) -> bool:
        """Whether it has more numbers than its storage holds: a stride of 0 repeats one as often as one likes."""
        return self.bytes > self.storage_bytes

    def is_finite(self) -> bool:
        """Whether none of its floating-point numbers is NaN or infinite.

        Without the sign those have the largest bits, so the largest of either sign tells.
        """
        numbers, infinity = self.numbers, _INFINITY[self.dtype]
        width = numbers.itemsize
        largest_positive = int(numbers.view(f"<i{width}").max(initial=0))
        largest = int(numbers.view(f"<u{width}").max(initial=0))
        return largest_positive < infinity and largest < infinity + (1 << 8 * width - 1)

    def as_float32(self) -> StoredTensor:
        """The numbers in float32; what is too large becomes infinite."""
        if self.dtype == "float32":
            return self
        if self.dtype == "bfloat16":
            return self.of_floats((self.numbers.astype(np.uint32) << 16).view(np.float32))
        with np.errstate(all="ignore"):
            values = self.numbers.astype(np.float32)
            if self.quantisation is not None:
                values -= self.quantisation.zero_point.astype(np.float32)
                values *= self.quantisation.scale.astype(np.float32)
        return self.of_floats(values)

    def raw(self) -> RawTensor:
        """The blocks of floating-point numbers, read from the file.

        Raises:
            ValueError: It has no dimension.
        """
        kind = FLOATS[self.dtype]
        if not kind:
            return self.as_float32().raw()
        in_order = np.require(self.numbers, requirements=("C", "A"))
        return RawTensor(kind, self.shape, in_order.view(np.uint8))
