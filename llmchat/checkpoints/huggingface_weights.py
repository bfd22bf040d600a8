"""The tensors of a Hugging Face directory, whichever files they are in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmchat.checkpoints.checkpoint import Progress
from llmchat.checkpoints.file_bytes import FileBytes, Span
from llmchat.checkpoints.stored_tensor import StoredTensor
from llmchat.errors import ModelLoadError
from llmchat.file_kinds import HEAD_BYTES, kind_words
from llmchat.files import describe

_SAFE_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "U8": "uint8",
    "U32": "uint32",
    "I32": "int32",
}
_HEADER_LIMIT = 100_000_000
"""Bytes, as the format's own reader allows."""


def open_weights(files: Sequence[Path], progress: Progress) -> tuple[dict[str, StoredTensor], list[FileBytes]]:
    """Every tensor of some files by their name for it, and what they lie in.

    Raises:
        ModelLoadError: One is damaged, or two hold the same tensor.
    """
    tensors: dict[str, StoredTensor] = {}
    contents = []
    for file in files:
        found, content = (
            _open_safetensors(file) if file.suffix.lower() == ".safetensors" else _open_torch(file, progress)
        )
        if twice := tensors.keys() & found.keys():
            raise ModelLoadError(f"{file.parent}: two files hold the tensor {min(twice)!r}.")
        tensors |= found
        contents.append(content)
    return tensors, contents


def _open_safetensors(file: Path) -> tuple[dict[str, StoredTensor], FileBytes]:
    try:
        with file.open("rb") as stream:
            content = FileBytes(file, stream)
    except OSError as error:
        raise ModelLoadError(f"{file} cannot be read: {describe(error)}.") from error
    heads, start = _header(file, content)
    try:
        _check_places([head["data_offsets"] for head in heads.values()], content.size - start)
        if unknown := [name for name, head in heads.items() if head["dtype"] not in _SAFE_DTYPES]:
            kind = str(heads[unknown[0]]["dtype"])[:40]
            raise ModelLoadError(
                f"{file}: the tensor {unknown[0][:80]!r} is of type {kind}, which llmchat cannot read."
            )
        body = Span(content, start, content.size - start)
        return {name: _stored(body, head) for name, head in heads.items()}, content
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise _damaged(file, "its header describes tensors that it cannot hold") from error


def _header(file: Path, content: FileBytes) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of each tensor, and where their bytes begin: 8 bytes of length, then JSON."""
    head = content.read(0, min(content.size, HEAD_BYTES)).tobytes()
    if words := kind_words(head):
        raise ModelLoadError(f"{file} {words}.")
    start = 8 + int.from_bytes(head[:8], "little")
    if len(head) < 8 or not 8 < start <= min(content.size, _HEADER_LIMIT):
        raise _damaged(file, "its header is not whole")
    try:
        heads = json.loads(content.read(8, start - 8).tobytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(file, "its header is no JSON") from error
    if not isinstance(heads, dict):
        raise _damaged(file, "its header lists no tensors")
    heads.pop("__metadata__", None)
    return heads, start


def _check_places(places: list[tuple[int, int]], size: int) -> None:
    """Make sure that the tensors lie one behind the other and fill the file.

    Raises:
        ValueError: There is a gap, or two share bytes, or they need more than there are, or less.
    """
    position = 0
    for first, end in sorted(places):
        if type(first) is not int or type(end) is not int or first != position or end < first:
            raise ValueError("a tensor is out of place")
        position = end
    if position != size:
        raise ValueError("the file has another length")


def _damaged(file: Path, what: str) -> ModelLoadError:
    return ModelLoadError(f"{file} is damaged or cut short ({what}): fetch or copy it again.")


def _stored(body: Span, head: Mapping[str, Any]) -> StoredTensor:
    shape, (first, end) = tuple(head["shape"]), head["data_offsets"]
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    tensor = StoredTensor.view(body.part(first, end - first), _SAFE_DTYPES[head["dtype"]], 0, shape, strides)
    if tensor.storage_bytes != tensor.bytes:
        raise ValueError("a tensor has another length than its shape")
    return tensor


def _open_torch(file: Path, progress: Progress) -> tuple[dict[str, StoredTensor], FileBytes]:
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
