"""Opening of files that `torch.save` wrote: without torch, and without trusting them.

A .pt file is a zip of uncompressed records: a pickle that describes the objects, and the bytes of each
storage. Of the functions that the pickle names, those that make tensors and plain containers are known
here; nothing else is looked up, so nothing of a file is ever run.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmchat.checkpoints.checkpoint import Progress
from llmchat.checkpoints.file_bytes import FileBytes, Span
from llmchat.checkpoints.stored_tensor import NUMPY_TYPES, Quantisation, StoredTensor
from llmchat.checkpoints.torch_archive import TorchArchive, open_torch_file
from llmchat.checkpoints.torch_pickle import READ_ERRORS, CheckedUnpickler, Named, empty_dict
from llmchat.errors import ModelLoadError

_STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.ComplexFloatStorage": "complex64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.QInt32Storage": "qint32",
    "torch.QInt8Storage": "qint8",
    "torch.QUInt8Storage": "quint8",
}
_PER_TENSOR, _PER_CHANNEL = "torch.per_tensor_affine", "torch.per_channel_affine"
_CONSTANTS = {*(f"torch.{name}" for name in NUMPY_TYPES), _PER_TENSOR, _PER_CHANNEL}
"""Values that have a name, which stands for them here."""


class TorchFile(NamedTuple):
    """An opened .pt file."""

    payload: object
    """What was saved: plain values and containers, tensors as `StoredTensor`, torch's types and devices as text."""
    content: FileBytes
    """The file, in which the tensors lie."""


def load_torch_file(path: Path, progress: Progress) -> TorchFile:
    """The objects of a .pt file; their tensors lie in the file, not in memory.

    Raises:
        ModelLoadError: There is no such file, it is damaged, or it holds more than weights.
    """
    try:
        with open_torch_file(path) as file:
            archive = TorchArchive(path, file)
            payload = _Unpickler(path, archive).load()
            archive.check_sums(progress)
    except PermissionError:
        raise ModelLoadError(f"{path} may not be read: permission denied.") from None
    except MemoryError:
        raise ModelLoadError(f"There is not enough memory to open {path}.") from None
    except READ_ERRORS as error:
        raise ModelLoadError(f"{path} is damaged or cut short ({_in_brief(error)}). Copy it again.") from error
    progress("reading weights", None)
    return TorchFile(payload, archive.content)


@dataclass(frozen=True, slots=True, eq=False)
class _StorageType:
    dtype: str


@dataclass(frozen=True, slots=True, eq=False)
class _Storage:
    dtype: str
    data: Span


class _Unpickler(CheckedUnpickler):
    """Makes the objects that an archive describes."""

    def __init__(self, path: Path, archive: TorchArchive) -> None:
        super().__init__(archive.index)
        self._path = path
        self._archive = archive

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What stands for a name.

        Raises:
            ModelLoadError: It is not one that weights need.
        """
        name = f"{module_name}.{global_name}"
        if name in _CONSTANTS:
            return name
        if name in _STORAGES:
            return _StorageType(_STORAGES[name])
        if name in _FUNCTIONS:
            return _FUNCTIONS[name]
        # The first name that it asks for is one of numpy's.
        if b"cllmbuilder." in self._archive.index:
            raise ModelLoadError(
                f"{self._path} was made by llmbuilder 1.0's `optimize quantize`, whose files only it can read. "
                "Use the checkpoint it was made from."
            )
        raise ModelLoadError(f"{self._path} holds code, not only weights: it asks for {name[:80]!r}; refused.")

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a tuple ("storage", type, key, device, numbers) refers to."""
        word, storage_type, key, _, numbers = pid
        if (word, type(storage_type), type(key), type(numbers)) != ("storage", _StorageType, str, int):
            raise pickle.UnpicklingError("a storage is not described as one")
        record = self._archive.records[f"data/{key}"]
        size = numbers * np.dtype(NUMPY_TYPES[storage_type.dtype]).itemsize
        if not 0 <= size <= record.size:
            raise ValueError("a storage is longer than its record")
        return _Storage(storage_type.dtype, record.part(0, size))


def _tensor(
    storage: _Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    requires_grad: object,
    hooks: object,
    metadata: object = None,
) -> StoredTensor:
    if metadata:
        raise ValueError("a tensor is conjugated or negated when it is read")
    return StoredTensor.view(storage.data, storage.dtype, offset, shape, strides)


def _quantised_tensor(
    storage: _Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    quantiser: tuple[Any, ...],
    requires_grad: object,
    hooks: object,
) -> StoredTensor:
    integers = StoredTensor.view(storage.data, storage.dtype, offset, shape, strides)
    if not storage.dtype.startswith("q"):
        raise ValueError("a tensor of another type is quantised")
    return replace(integers, quantisation=_quantisation(quantiser, integers.shape))


def _quantisation(quantiser: tuple[Any, ...], shape: tuple[int, ...]) -> Quantisation:
    """The scale and zero point of all numbers, or of those of each index along an axis."""
    if quantiser[0] == _PER_TENSOR:
        _, scale, zero_point = quantiser
        return Quantisation(np.array(float(scale)), np.array(float(zero_point)))
    name, scales, zero_points, axis = quantiser
    along = tuple(size if place == axis else 1 for place, size in enumerate(shape))
    found = (name, scales.dtype, scales.shape, zero_points.dtype, zero_points.shape)
    if found != (_PER_CHANNEL, "float64", (shape[axis],), "int64", (shape[axis],)):
        raise ValueError("a tensor is quantised in an unknown way")
    return Quantisation(scales.numbers.reshape(along), zero_points.numbers.reshape(along))


def _parameter(tensor: object, requires_grad: object, hooks: object) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise TypeError("a parameter is no tensor")
    return tensor


def _size(numbers: object) -> tuple[object, ...]:
    if not isinstance(numbers, tuple):
        raise TypeError("a size is no tuple")
    return numbers


def _text(text: object, index: object = None) -> str:
    """A device by the name of its type, or a version."""
    if not isinstance(text, str):
        raise TypeError("a name is no text")
    return text


_FUNCTIONS = {
    "collections.OrderedDict": Named(empty_dict),
    "torch.Size": Named(_size),
    "torch.device": Named(_text),
    "torch.torch_version.TorchVersion": Named(_text),
    "torch._utils._rebuild_parameter": Named(_parameter),
    "torch._utils._rebuild_qtensor": Named(_quantised_tensor),
    "torch._utils._rebuild_tensor_v2": Named(_tensor),
}


def _in_brief(error: BaseException) -> str:
    """What the file system and the zip file have to say, in a line; nothing of the pickle's inside."""
    lines = str(error).splitlines()
    if not lines or not isinstance(error, EOFError | OSError | zipfile.BadZipFile):
        return "its description of the tensors cannot be read"
    return repr(lines[0][:120])[1:-1]
