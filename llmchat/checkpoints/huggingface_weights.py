"""The tensors of a Hugging Face directory, whichever files they are in."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from llmchat.checkpoints.checkpoint import Progress
from llmchat.checkpoints.stored_tensor import StoredTensor
from llmchat.errors import ModelLoadError
from llmchat.files import describe

_SAFE_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_INDEX_LIMIT = 64 * 2**20


def open_weights(path: Path, progress: Progress) -> tuple[dict[str, StoredTensor], list[mmap.mmap]]:
    """Every tensor of a directory by the file's name for it, and the mapped files in which they lie.

    safetensors files are preferred to those of `torch.save`.

    Raises:
        ModelLoadError: There are none, one is missing or damaged, or two hold the same tensor.
    """
    files = _listed(path, "model.safetensors") or _listed(path, "pytorch_model.bin")
    if not files:
        raise ModelLoadError(f"{path} has no weights: neither model.safetensors nor pytorch_model.bin is there.")
    tensors: dict[str, StoredTensor] = {}
    contents = []
    for file in files:
        found, content = _open_safetensors(file) if file.suffix == ".safetensors" else _open_torch(file, progress)
        if twice := tensors.keys() & found.keys():
            raise ModelLoadError(f"{path}: two files hold the tensor {min(twice)!r}.")
        tensors |= found
        contents.append(content)
    return tensors, contents


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


def _open_safetensors(file: Path) -> tuple[dict[str, StoredTensor], mmap.mmap]:
    try:
        # The package makes sure that every tensor lies inside the file.
        checked: Any = safetensors.safe_open(str(file), framework="np")
        names = list(checked.keys())
        with file.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(content[:8], "little")
        heads = json.loads(content[8:start])
        if unknown := [name for name in names if heads[name]["dtype"] not in _SAFE_DTYPES]:
            kind = heads[unknown[0]]["dtype"]
            raise ModelLoadError(f"{file}: the tensor {unknown[0]!r} is of type {kind}, which llmchat cannot read.")
        return {name: _stored(memoryview(content)[start:], heads[name]) for name in names}, content
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0][:120]
        raise ModelLoadError(f"{file} is damaged or cut short ({first}): fetch or copy it again.") from error


def _stored(content: memoryview, head: Mapping[str, Any]) -> StoredTensor:
    shape = tuple(head["shape"])
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    first, end = head["data_offsets"]
    return StoredTensor.view(content[first:end], _SAFE_DTYPES[head["dtype"]], 0, shape, strides)


def _open_torch(file: Path, progress: Progress) -> tuple[dict[str, StoredTensor], mmap.mmap]:
    from llmchat.checkpoints.torch_file import load_torch_file

    payload, content = load_torch_file(file, progress)
    if not isinstance(payload, Mapping):
        raise ModelLoadError(f"{file} holds no table of tensors.")
    tensors = {}
    for name, tensor in payload.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise ModelLoadError(f"{file} holds something that is no tensor: {str(name)[:80]!r}.")
        if tensor.repeats:
            raise ModelLoadError(f"{file}: {name[:80]!r} claims numbers that the file does not hold.")
        tensors[name] = tensor
    return tensors, content
