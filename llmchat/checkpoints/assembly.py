"""A plan's parameters out of what a file holds: found, checked, and read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import RawTensor
from llmchat.checkpoints.lazy_tensors import RawTensors
from llmchat.errors import ModelLoadError
from llmchat.models.plan import ModelPlan, Shape
from llmchat.models.stored import Layout, Places, Stored

_NUMPY: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""Formats of single numbers; numpy has no bfloat16, whose bits do as well where they are only moved."""


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor of a file."""

    kind: str
    shape: Shape
    read: Callable[[], RawTensor]
    """Reads it anew each time. Raises ModelLoadError if it is not there any more."""


def assemble(path: object, plan: ModelPlan, layout: Layout, tensors: Mapping[str, FileTensor]) -> RawTensors:
    """The plan's parameters by our names, read from the file when they are asked for.

    Args:
        path: The file, for messages.
        plan: Which parameters there are, and their shapes; already checked.
        layout: How the file names them.
        tensors: The file's, by its own names.

    Raises:
        ModelLoadError: A tensor is missing, has another shape, or is one we do not know.
    """
    wanted, found = plan.tensors(), {}
    places = Places(layout, plan, {name: tensor.shape for name, tensor in tensors.items()})
    for name, stored in places.find():
        if stored is None:
            raise ModelLoadError(f"{path} is incomplete: the tensor {places.name_in_file(name)!r} is missing.")
        needed = stored.shape_in_file(wanted[name])
        for part in stored.names:
            if tensors[part].shape != needed:
                raise ModelLoadError(
                    f"{path}: the tensor {part[:80]!r} has shape {tensors[part].shape}, not {needed} as it should."
                )
        if stored.stacked and len(stored.names) != wanted[name][0]:
            raise ModelLoadError(f"{path} is incomplete: {name!r} has {len(stored.names)} of {wanted[name][0]} parts.")
        found[name] = stored
    if extra := places.superfluous(list(found.values())):
        raise ModelLoadError(f"{path} holds a tensor that llmchat has no place for: {extra[0][:80]!r}.")
    kinds = {name: "F32" if stored.added else tensors[stored.names[0]].kind for name, stored in found.items()}
    return RawTensors({name: partial(_read, tensors, stored) for name, stored in found.items()}, kinds)


def _read(tensors: Mapping[str, FileTensor], stored: Stored) -> RawTensor:
    parts = [_taken(tensors[name].read(), stored) for name in stored.names]
    if not stored.stacked:
        return parts[0]
    shape = (len(parts), *parts[0].shape)
    return RawTensor(parts[0].kind, shape, np.stack([part.data for part in parts]))


def _taken(tensor: RawTensor, stored: Stored) -> RawTensor:
    """What a parameter takes of one of the file's tensors."""
    if stored.transposed:
        tensor = _transposed(tensor)
    if stored.spread:
        tensor = RawTensor(
            tensor.kind, (*tensor.shape[:-2], tensor.shape[-1]), tensor.data.reshape(tensor.shape[0], -1)
        )
    if stored.group:
        tensor = rows_of(tensor, stored)
    if stored.added:
        values = dequantise(tensor.kind, tensor.data.reshape(1, -1)).reshape(tensor.shape) + np.float32(stored.added)
        tensor = RawTensor("F32", tensor.shape, values.view(np.uint8))
    return tensor


def _transposed(tensor: RawTensor) -> RawTensor:
    if tensor.kind not in _NUMPY:
        raise ModelLoadError(
            f"A matrix of the type {tensor.kind} lies with its columns first, which llmchat cannot read."
        )
    numbers = np.ascontiguousarray(tensor.data).view(_NUMPY[tensor.kind])
    turned = np.ascontiguousarray(numbers.swapaxes(-1, -2))
    return RawTensor(tensor.kind, turned.shape, turned.view(np.uint8))


def rows_of(tensor: RawTensor, stored: Stored) -> RawTensor:
    """A parameter's rows of a matrix or vector in which it is joined with others."""
    data = tensor.data
    if stored.is_bias:
        numbers = np.ascontiguousarray(data).view(_NUMPY[tensor.kind])
        groups = numbers.reshape(*numbers.shape[:-1], -1, stored.group)[..., stored.first : stored.first + stored.count]
        kept = np.ascontiguousarray(groups.reshape(*numbers.shape[:-1], -1))
        return RawTensor(tensor.kind, kept.shape, kept.view(np.uint8))
    rows = data.reshape(*data.shape[:-2], -1, stored.group, data.shape[-1])
    taken = np.ascontiguousarray(rows[..., stored.first : stored.first + stored.count, :])
    taken = taken.reshape(*data.shape[:-2], -1, data.shape[-1])
    return RawTensor(tensor.kind, (*tensor.shape[:-2], taken.shape[-2], tensor.shape[-1]), taken)
