"""Directories of AWQ and GPTQ: whole numbers of 4 or 8 bits, each group of them with a scale and a zero point.

weight = scale · (number - zero point). Where all zero points are in the middle that is Q4_0, otherwise the difference
goes into a byte of Q8_0: both hold all of it. GPTQ may give each column a group of its own choice (`g_idx`); such
weights become 16-bit floats, as its own programs compute them. The layouts are those of AutoAWQ's "gemm" and of
AutoGPTQ: columns first, eight numbers of 4 bits in 32, from the lowest; AWQ's stand in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.assembly import FileTensor
from llmchat.checkpoints.checkpoint import RawTensor
from llmchat.checkpoints.stored_tensor import FLOATS, StoredTensor
from llmchat.errors import ModelLoadError

METHODS = ("awq", "gptq")
"""The `quant_method`s that are read."""

_PARTS = (".qweight", ".qzeros", ".scales", ".g_idx")
_BLOCK = 32
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where the numbers of 32 bits lie in them, from the first."""


@dataclass(frozen=True, slots=True)
class _Packed:
    """The parts of one weight, and how they are packed."""

    numbers: StoredTensor
    zeros: StoredTensor
    scales: StoredTensor
    groups: StoredTensor | None
    """The group of each column."""
    bits: int
    is_awq: bool
    added: int
    """What is added to the stored zero points."""


def take_zero_points(
    path: object, stored: dict[str, StoredTensor], settings: Mapping[str, Any]
) -> dict[str, FileTensor]:
    """Take the quantised weights out of a directory's tensors.

    Args:
        path: The directory, for messages.
        stored: By the file's names; loses what belongs to a quantised weight.
        settings: `quantization_config` of config.json; its `quant_method` is one of `METHODS`.

    Returns:
        Each under the name that it would have unquantised, as a matrix of blocks like those of a GGUF file.

    Raises:
        ModelLoadError: They are packed in a way that llmchat does not read, or damaged.
    """
    method, bits = settings.get("quant_method"), settings.get("bits", settings.get("w_bit"))
    version = str(settings.get("version", "gemm")).lower()
    is_awq = method == "awq"
    if bits not in ((4,) if is_awq else (4, 8)) or (is_awq and version != "gemm"):
        kind = f"{str(bits)[:20]} bits" + (f", version {version[:20]!r}" if is_awq else "")
        raise ModelLoadError(
            f"{path} has weights quantised by {method} in a way that llmchat cannot run ({kind}): "
            "take the original model, or a GGUF file of it."
        )
    added = 0 if is_awq or settings.get("checkpoint_format") == "gptq_v2" else 1
    found = {}
    for name in [name for name in stored if name.endswith(_PARTS[0])]:
        module = name.removesuffix(_PARTS[0])
        numbers, zeros, scales, groups = (stored.pop(module + part, None) for part in _PARTS)
        if numbers is None or zeros is None or scales is None:
            raise ModelLoadError(f"{path} is incomplete: {module[:80]!r} lacks its scales or zero points.")
        packed = _Packed(numbers, zeros, scales, groups, bits, is_awq, added)
        shape = _shape(packed)
        if shape is None:
            raise ModelLoadError(f"{path}: the parts of {name[:80]!r} do not fit together: fetch or copy it again.")
        kind = "Q4_0" if bits == 4 and settings.get("sym") is True else "Q8_0"
        kind = "F16" if settings.get("desc_act") is True and groups is not None else kind
        found[f"{module}.weight"] = FileTensor(kind, shape, partial(_read, packed, shape))
    return found


def _shape(packed: _Packed) -> tuple[int, int] | None:
    """Rows and columns; None if the parts do not fit together."""
    parts, per_word = (packed.numbers, packed.zeros, packed.scales), 32 // packed.bits
    if any(len(part.shape) != 2 for part in parts) or any(part.dtype != "int32" for part in parts[:2]):
        return None
    groups, rows = packed.scales.shape
    cols = packed.numbers.shape[0] * (1 if packed.is_awq else per_word)
    wide = packed.numbers.shape[1] * (per_word if packed.is_awq else 1)
    fits = rows > 0 and wide == rows and packed.zeros.shape == (groups, rows // per_word) and rows % per_word == 0
    fits = fits and groups > 0 and cols % groups == 0 and cols // groups % _BLOCK == 0
    has_groups = packed.groups is None or (packed.groups.dtype, packed.groups.shape) == ("int32", (cols,))
    return (rows, cols) if fits and has_groups and packed.scales.dtype in FLOATS else None


def _read(packed: _Packed, shape: tuple[int, int]) -> RawTensor:
    rows, cols = shape
    numbers = _along_rows(packed, packed.numbers) if packed.is_awq else _along_columns(packed, packed.numbers)
    zeros = _along_rows(packed, packed.zeros) + np.int16(packed.added)
    scales = packed.scales.as_float32().numbers
    usual = np.arange(cols) // (cols // len(scales))
    groups = usual if packed.groups is None else packed.groups.numbers
    if groups.min() < 0 or groups.max() >= len(scales):
        raise ModelLoadError("A column of the model's weights belongs to no group: fetch or copy the files again.")
    differences = np.ascontiguousarray((numbers - zeros[groups]).T)
    halves = np.ascontiguousarray(scales.T.astype("<f2"))
    is_held = np.array_equal(halves, scales.T) and differences.min() >= -128 and differences.max() <= 127
    if not is_held or not np.array_equal(groups, usual):
        values = (differences * scales[groups].T).astype("<f2")
        return RawTensor("F16", shape, values.view(np.uint8))
    heads = np.repeat(halves, cols // len(scales) // _BLOCK, axis=1)[..., None].view(np.uint8)
    blocks = differences.reshape(rows, -1, _BLOCK)
    if packed.bits == 4 and (zeros == 8).all():
        stored = (blocks + np.int16(8)).astype(np.uint8)
        kind, body = "Q4_0", stored[..., : _BLOCK // 2] | stored[..., _BLOCK // 2 :] << np.uint8(4)
    else:
        kind, body = "Q8_0", blocks.astype(np.int8).view(np.uint8)
    return RawTensor(kind, shape, np.concatenate([heads, body], axis=2).reshape(rows, -1))


def _along_rows(packed: _Packed, tensor: StoredTensor) -> NDArray[np.int16]:
    """The numbers of a tensor of which those of one word lie side by side."""
    found = _numbers_of(packed, tensor.numbers.view(np.uint32)[..., None])
    return found[..., list(_AWQ_ORDER) if packed.is_awq else slice(None)].reshape(tensor.shape[0], -1)


def _along_columns(packed: _Packed, tensor: StoredTensor) -> NDArray[np.int16]:
    """The numbers of a tensor of which those of one word lie one below the other."""
    found = _numbers_of(packed, tensor.numbers.view(np.uint32)[..., None])
    return found.swapaxes(1, 2).reshape(-1, tensor.shape[1])


def _numbers_of(packed: _Packed, words: NDArray[np.uint32]) -> NDArray[np.int16]:
    """The numbers in some words, along the last dimension."""
    shifts = np.arange(0, 32, packed.bits, dtype=np.uint32)
    return (words >> shifts & np.uint32(2**packed.bits - 1)).astype(np.int16)
