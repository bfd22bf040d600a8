"""Directories of MLX: whole numbers of some bits, each group of them with a scale and a bias, or blocks of MXFP4.

weight = scale · number + bias. Numbers of 4 bits become blocks of Q4_1, others of AFFINE8, which is the same with
bytes: both hold all of it, where the scales and biases fit into 16-bit floats; where one does not, the weights become
16-bit floats. The layout is that of MLX's `quantize`: numbers lie one behind the other, the lowest bits first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.assembly import FileTensor
from llmchat.checkpoints.checkpoint import RawTensor
from llmchat.checkpoints.microscaled import mxfp4_blocks
from llmchat.checkpoints.stored_tensor import FLOATS, StoredTensor
from llmchat.errors import ModelLoadError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_WEIGHT, _SCALES, _BIASES = ".weight", ".scales", ".biases"
_BLOCK = 32
_BITS = (2, 3, 4, 5, 6, 8)
_MODES = ("affine", "mxfp4")


def take_affine(path: object, stored: dict[str, StoredTensor], described: Mapping[str, Any]) -> dict[str, FileTensor]:
    """Take the quantised weights out of a directory's tensors.

    Args:
        path: The directory, for messages.
        stored: By the file's names; loses what belongs to a quantised weight.
        described: The directory's config.json.

    Returns:
        Each under the name of its numbers, as a matrix of blocks like those of a GGUF file.

    Raises:
        ModelLoadError: They are quantised in a way that llmchat does not read.
    """
    settings = described.get("quantization")
    if not isinstance(settings, Mapping):
        return {}
    _mode(path, settings)
    found = {}
    for name in [name for name, tensor in stored.items() if name.endswith(_WEIGHT) and tensor.dtype == "uint32"]:
        module = name.removesuffix(_WEIGHT)
        own = settings.get(module)
        options = {**settings, **own} if isinstance(own, Mapping) else settings
        parts = [stored.pop(module + part, None) for part in (_WEIGHT, _SCALES, _BIASES)]
        found[name] = _tensor(path, name, options, *parts)
    return found


def _mode(path: object, options: Mapping[str, Any]) -> str:
    """In which way numbers are made."""
    mode = str(options.get("mode", "affine"))
    if mode not in _MODES:
        raise ModelLoadError(
            f"{path} is a directory of MLX quantised by {mode[:40]}, which llmchat cannot run: "
            "take the original model, or a GGUF file of it."
        )
    return mode


def _tensor(
    path: object,
    name: str,
    options: Mapping[str, Any],
    packed: StoredTensor | None,
    scales: StoredTensor | None,
    biases: StoredTensor | None,
) -> FileTensor:
    mode, group = _mode(path, options), options.get("group_size", 64)
    if packed is None or scales is None or (biases is not None) != (mode == "affine"):
        raise ModelLoadError(f"{path} is incomplete: {name[:80]!r} lacks its scales or biases. Fetch it again.")
    bits = _bits(packed, scales, biases, group) if type(group) is int else 0
    if bits not in _BITS or (biases is None and (bits, group) != (4, _BLOCK)):
        raise ModelLoadError(f"{path}: the parts of {name[:80]!r} do not fit together: fetch or copy it again.")
    shape = (*packed.shape[:-1], scales.shape[-1] * group)
    if biases is None:
        return FileTensor("MXFP4", shape, partial(_read_mxfp4, packed, scales, shape))
    kind = "Q4_1" if bits == 4 else "AFFINE8"
    return FileTensor(kind, shape, partial(_read_affine, packed, scales, biases, shape, bits))


def _bits(packed: StoredTensor, scales: StoredTensor, biases: StoredTensor | None, group: int) -> int:
    """How many bits a number has; 0 if the parts do not fit together."""
    floats = [scales] if biases is None else [scales, biases]
    kinds = ("uint8",) if biases is None else FLOATS
    is_matrix = len(packed.shape) > 1 and 0 not in packed.shape and packed.shape[:-1] == scales.shape[:-1]
    if not is_matrix or any(part.dtype not in kinds or part.shape != scales.shape for part in floats):
        return 0
    words, cols = packed.shape[-1], scales.shape[-1] * group
    return words * 32 // cols if group > 0 and group % _BLOCK == 0 and cols and words * 32 % cols == 0 else 0


def _read_mxfp4(packed: StoredTensor, scales: StoredTensor, shape: tuple[int, ...]) -> RawTensor:
    numbers = np.ascontiguousarray(packed.numbers).view(np.uint8)
    return mxfp4_blocks(numbers.reshape(*scales.shape, _BLOCK // 2), scales.numbers, shape)


def _read_affine(
    packed: StoredTensor, scales: StoredTensor, biases: StoredTensor, shape: tuple[int, ...], bits: int
) -> RawTensor:
    numbers = _unpacked(np.ascontiguousarray(packed.numbers).view(np.uint8), bits).reshape(scales.size, -1)
    factors, leasts = (part.as_float32().numbers.reshape(-1, 1) for part in (scales, biases))
    return _blocks(numbers, factors, leasts, shape, bits)


def _blocks(numbers: Bytes, scales: Floats, leasts: Floats, shape: tuple[int, ...], bits: int) -> RawTensor:
    """Blocks of Q4_1 or AFFINE8, or F16 where 16-bit floats do not hold a scale that is used, or a least.

    Args:
        numbers: Shape (groups, numbers of a group), which is a multiple of 32.
        scales: Shape (groups, 1).
        leasts: Likewise.
        shape: Of the whole.
        bits: Of each number.
    """
    with np.errstate(over="ignore"):
        halves = [part.astype("<f2") for part in (scales, leasts)]
    is_held = halves[0] == scales
    if not is_held.all():
        is_held |= ~numbers.any(axis=1, keepdims=True)
    if not is_held.all() or not np.array_equal(halves[1], leasts):
        with np.errstate(over="ignore"):
            values = (numbers * scales + leasts).astype("<f2")
        return RawTensor("F16", shape, values.reshape(shape).view(np.uint8))
    blocks = numbers.reshape(len(numbers), -1, _BLOCK)
    if bits == 4:
        blocks = blocks[..., : _BLOCK // 2] | blocks[..., _BLOCK // 2 :] << np.uint8(4)
    heads = np.concatenate(halves, axis=1).view(np.uint8)
    joined = np.concatenate([np.broadcast_to(heads[:, None], (*blocks.shape[:2], 4)), blocks], axis=2)
    return RawTensor("Q4_1" if bits == 4 else "AFFINE8", shape, joined.reshape(*shape[:-1], -1))


def _unpacked(data: Bytes, bits: int) -> Bytes:
    """Numbers that lie one behind the other, from the lowest bit."""
    if bits == 8:
        return data
    if bits == 4:
        return np.stack([data & 15, data >> 4], axis=-1)
    single = np.unpackbits(data.reshape(-1), bitorder="little").reshape(-1, bits)
    return np.packbits(single, axis=1, bitorder="little")
