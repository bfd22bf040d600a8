"""Tensors as `torch.save` stores them, without torch: views of a file's bytes, of any type, stride and offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.checkpoint import RawTensor

NUMPY_TYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "complex128": "<c16",
    "complex64": "<c8",
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
    """A tensor in its file, read-only."""

    dtype: str
    """torch's name of its type; a key of `NUMPY_TYPES`."""
    numbers: NDArray[Any]
    """Of the tensor's shape and strides, in the mapped file."""
    storage_bytes: int
    """Of the storage that it is a view of."""
    quantisation: Quantisation | None = None

    @classmethod
    def view(
        cls, storage: memoryview, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
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
            return cls(dtype, np.empty(shape, kind), len(storage))
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if (last + 1) * kind.itemsize > len(storage):
            raise ValueError("a tensor reaches out of its storage")
        in_bytes = [stride * kind.itemsize for stride in strides]
        numbers = np.ndarray(shape, kind, storage, offset * kind.itemsize, in_bytes)
        return cls(dtype, numbers, len(storage))

    @classmethod
    def of_floats(cls, values: NDArray[np.float32]) -> StoredTensor:
        """A tensor in memory of its own."""
        return cls("float32", values, values.nbytes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        return self.numbers.shape

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.numbers.size

    @property
    def repeats(self) -> bool:
        """Whether it has more numbers than its storage holds: a stride of 0 repeats one as often as one likes."""
        return self.numbers.nbytes > self.storage_bytes

    def is_finite(self) -> bool:
        """Whether none of its floating-point numbers is NaN or infinite.

        Without the sign those have the largest bits, so the largest of either sign tells; nothing is copied.
        """
        width = self.numbers.itemsize
        infinity = _INFINITY[self.dtype]
        largest_positive = int(self.numbers.view(f"<i{width}").max(initial=0))
        largest = int(self.numbers.view(f"<u{width}").max(initial=0))
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
        """The blocks of floating-point numbers: the file's bytes, where they lie in order and are a format of blocks.

        Raises:
            ValueError: It has no dimension.
        """
        kind = FLOATS[self.dtype]
        if not kind:
            return self.as_float32().raw()
        in_order = np.require(self.numbers, requirements=("C", "A"))
        return RawTensor(kind, self.shape, in_order.view(np.uint8))
