"""The tensors of a Hugging Face directory, whichever files they are in."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors

from llmchat.checkpoints.checkpoint import Progress, RawTensor
from llmchat.errors import ModelLoadError
from llmchat.files import describe

if TYPE_CHECKING:
    from torch import Tensor

_SAFE_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_RAW_KINDS = ("F32", "F16", "BF16")
_INDEX_LIMIT = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor that can be read."""

    shape: tuple[int, ...]
    dtype: str
    """torch's name of the type, or the file's where torch has none that we use."""
    read: Callable[[], Tensor]
    raw: RawTensor | None = None
    """Its bytes in the mapped file, where they can be used as they are."""
    content: mmap.mmap | None = None
    """The mapped file."""

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def open_weights(path: Path, progress: Progress) -> dict[str, Weight]:
    """Every tensor of a directory by the file's name for it.

    safetensors files are preferred to those of `torch.save`.

    Raises:
        ModelLoadError: There are none, one is missing or damaged, or two hold the same tensor.
    """
    files = _listed(path, "model.safetensors") or _listed(path, "pytorch_model.bin")
    if not files:
        raise ModelLoadError(f"{path} has no weights: neither model.safetensors nor pytorch_model.bin is there.")
    weights: dict[str, Weight] = {}
    for file in files:
        found = _open_safetensors(file) if file.suffix == ".safetensors" else _open_torch(file, progress)
        if twice := weights.keys() & found.keys():
            raise ModelLoadError(f"{path}: two files hold the tensor {min(twice)!r}.")
        weights |= found
    return weights


def _listed(path: Path, name: str) -> list[Path]:
    """The file of this name, or the parts that its index lists, or parts that look like its own."""
    if (path / name).is_file():
        return [path / name]
    index = path / f"{name}.index.json"
    if not index.is_file():
        stem, _, suffix = name.partition(".")
        return sorted(path.glob(f"{stem}-*-of-*.{suffix}"))
    files = [path / part for part in sorted(set(_parts(index)))]
    for file in files:
        if not file.is_file():
            raise ModelLoadError(f"{path} is incomplete: {file.name} is missing.")
    return files


def _parts(index: Path) -> list[str]:
    """The names of the files in an index."""
    try:
        if index.stat().st_size > _INDEX_LIMIT:
            raise ModelLoadError(f"{index} is too large to be what its name says.")
        parts = list(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except OSError as error:
        raise ModelLoadError(f"{index} cannot be read: {describe(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelLoadError(f"{index} is damaged: it has no list of files.") from error
    for part in parts:
        # A name with a directory in it would lead out of the model's own.
        if not isinstance(part, str) or Path(part).name != part:
            raise ModelLoadError(f"{index} names a file that is not beside it: {str(part)[:80]!r}.")
    return parts


def _open_safetensors(file: Path) -> dict[str, Weight]:
    try:
        # The package makes sure that every tensor lies inside the file.
        checked: Any = safetensors.safe_open(str(file), framework="np")
        names = list(checked.keys())
        with file.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(content[:8], "little")
        heads = json.loads(content[8:start])
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(file, error) from error
    opened = cache(partial(safetensors.safe_open, str(file), framework="pt"))
    weights = {}
    for name in names:
        kind, shape = heads[name]["dtype"], tuple(heads[name]["shape"])
        raw = _raw(content, kind, shape, start + heads[name]["data_offsets"][0])
        weights[name] = Weight(
            shape, _SAFE_DTYPES.get(kind, kind), partial(_read_safetensor, file, opened, name), raw, content
        )
    return weights


def _raw(content: mmap.mmap, kind: str, shape: tuple[int, ...], offset: int) -> RawTensor | None:
    """A tensor's bytes in the mapped file; None if it is empty or its format has to be changed."""
    if kind not in _RAW_KINDS or not shape or not math.prod(shape):
        return None
    row_bytes = shape[-1] * (4 if kind == "F32" else 2)
    data = np.frombuffer(content, np.uint8, math.prod(shape[:-1]) * row_bytes, offset)
    return RawTensor(kind, shape, data.reshape(*shape[:-1], row_bytes))


def _read_safetensor(file: Path, opened: Callable[[], Any], name: str) -> Tensor:
    try:
        tensor: Tensor = opened().get_tensor(name)
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(file, error) from error
    return tensor


def _damaged(file: Path, error: Exception) -> ModelLoadError:
    first = (str(error).splitlines() or [""])[0][:120]
    return ModelLoadError(f"{file} is damaged or cut short ({first}): fetch or copy it again.")


def _open_torch(file: Path, progress: Progress) -> dict[str, Weight]:
    import torch

    from llmchat.checkpoints.torch_file import load_torch_file

    payload = load_torch_file(file, progress)
    if not isinstance(payload, Mapping):
        raise ModelLoadError(f"{file} holds no table of tensors.")
    weights = {}
    for name, tensor in payload.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ModelLoadError(f"{file} holds something that is no tensor: {str(name)[:80]!r}.")
        # Strides of 0 could claim any size.
        if tensor.layout != torch.strided or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ModelLoadError(f"{file}: {name[:80]!r} claims numbers that the file does not hold.")
        dtype = str(tensor.dtype).removeprefix("torch.")
        weights[name] = Weight(tuple(tensor.shape), dtype, partial(_same, tensor))
    return weights


def _same(tensor: Tensor) -> Tensor:
    return tensor
