"""Blocks of quantised numbers as float32: the layouts of ggml's reference quantisation.

Each function takes blocks of shape (n, bytes) and returns their numbers, shape (n, values).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_LEVELS_IQ4 = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)  # fmt: skip
"""The sixteen numbers that IQ4 takes its own from."""

_LEVELS_FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
"""Twice the sixteen numbers of four bits: a sign, two bits of exponent and one of mantissa."""


_BYTES = np.arange(256)
_SCALES_E4M3 = np.ldexp((_BYTES & 7) + 8.0 * (_BYTES & 120 > 0), np.maximum(_BYTES >> 3 & 15, 1) - 11).astype(
    np.float32
)
_SCALES_E4M3[127] = 0
"""Half of the number that a byte is: four bits of exponent, three of mantissa; the one that is no number is 0."""


def fields(data: Bytes, run: int, width: int) -> Bytes:
    """Fields of some bits: first the lowest of each of `run` bytes, then their next, and so on; then the next run."""
    runs = data.reshape(len(data), -1, 1, run)
    shifts = np.arange(0, 8, width, dtype=np.uint8).reshape(1, 1, -1, 1)
    found: Bytes = (runs >> shifts) & np.uint8((1 << width) - 1)
    return found.reshape(len(data), -1)


def half(blocks: Bytes, at: int) -> Floats:
    """The 16-bit float at one place of each block, shape (n, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _scaled(numbers: NDArray[np.integer] | Floats, scales: Floats, leasts: Floats | None = None) -> Floats:
    """Numbers times their group's scale, less its least; a row of scales for each block."""
    groups = numbers.astype(np.float32).reshape(len(numbers), scales.shape[1], -1)
    values: Floats = groups * scales[:, :, None]
    if leasts is not None:
        values -= leasts[:, :, None]
    return values.reshape(len(numbers), -1)


def _q4_0(blocks: Bytes) -> Floats:
    return (fields(blocks[:, 2:], 16, 4) - np.float32(8)) * half(blocks, 0)


def _q4_1(blocks: Bytes) -> Floats:
    return fields(blocks[:, 4:], 16, 4) * half(blocks, 0) + half(blocks, 2)


def _fifth_bits(data: Bytes) -> Bytes:
    """A bit for each of 32 numbers, as 16."""
    return np.unpackbits(data, axis=1, bitorder="little") << np.uint8(4)


def _q5_0(blocks: Bytes) -> Floats:
    return ((fields(blocks[:, 6:], 16, 4) | _fifth_bits(blocks[:, 2:6])) - np.float32(16)) * half(blocks, 0)


def _q5_1(blocks: Bytes) -> Floats:
    return (fields(blocks[:, 8:], 16, 4) | _fifth_bits(blocks[:, 4:8])) * half(blocks, 0) + half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return blocks[:, 2:].view(np.int8) * half(blocks, 0)


def _q2_k(blocks: Bytes) -> Floats:
    scales, leasts = half(blocks, 80) * (blocks[:, :16] & 15), half(blocks, 82) * (blocks[:, :16] >> 4)
    return _scaled(fields(blocks[:, 16:80], 32, 2), scales, leasts)


def _q3_k(blocks: Bytes) -> Floats:
    packed = fields(blocks[:, 96:104], 8, 4) | fields(blocks[:, 104:108], 4, 2) << np.uint8(4)
    scales = half(blocks, 108) * (packed.astype(np.float32) - 32)
    stored = fields(blocks[:, 32:96], 32, 2) | fields(blocks[:, :32], 32, 1) << np.uint8(2)
    return _scaled(stored - np.float32(4), scales)


def _six_bit_pairs(packed: Bytes) -> tuple[Bytes, Bytes]:
    """The eight scales and eight leasts of Q4_K and Q5_K, six bits each, of twelve bytes."""
    first, second, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (rest & 15) | (first >> 6) << np.uint8(4)], axis=1)
    leasts = np.concatenate([second & 63, (rest >> 4) | (second >> 6) << np.uint8(4)], axis=1)
    return scales, leasts


def _q4_k(blocks: Bytes) -> Floats:
    scales, leasts = _six_bit_pairs(blocks[:, 4:16])
    return _scaled(fields(blocks[:, 16:], 32, 4), half(blocks, 0) * scales, half(blocks, 2) * leasts)


def _q5_k(blocks: Bytes) -> Floats:
    scales, leasts = _six_bit_pairs(blocks[:, 4:16])
    stored = fields(blocks[:, 48:], 32, 4) | fields(blocks[:, 16:48], 32, 1) << np.uint8(4)
    return _scaled(stored, half(blocks, 0) * scales, half(blocks, 2) * leasts)


def _q6_k(blocks: Bytes) -> Floats:
    scales = half(blocks, 208) * blocks[:, 192:208].view(np.int8)
    stored = fields(blocks[:, :128], 64, 4) | fields(blocks[:, 128:192], 32, 2) << np.uint8(4)
    return _scaled(stored - np.float32(32), scales)


def _tq2_0(blocks: Bytes) -> Floats:
    return (fields(blocks[:, :64], 32, 2) - np.float32(1)) * half(blocks, 64)


def _iq4_nl(blocks: Bytes) -> Floats:
    return _LEVELS_IQ4[fields(blocks[:, 2:], 16, 4)] * half(blocks, 0)


def _iq4_xs(blocks: Bytes) -> Floats:
    high = fields(blocks[:, 2:4], 1, 2)
    scales = fields(blocks[:, 4:8], 1, 4) | high << np.uint8(4)
    return _scaled(_LEVELS_IQ4[fields(blocks[:, 8:], 16, 4)], half(blocks, 0) * (scales.astype(np.float32) - 32))


def _mxfp4(blocks: Bytes) -> Floats:
    scale = np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128)
    return _LEVELS_FP4[fields(blocks[:, 1:], 16, 4)] * scale


def _nvfp4(blocks: Bytes) -> Floats:
    return _scaled(_LEVELS_FP4[fields(blocks[:, 4:], 8, 4)], _SCALES_E4M3[blocks[:, :4]])


def _affine8(blocks: Bytes) -> Floats:
    return blocks[:, 4:] * half(blocks, 0) + half(blocks, 2)


READERS: Mapping[str, Callable[[Bytes], Floats]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "TQ2_0": _tq2_0,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "NVFP4": _nvfp4,
    "AFFINE8": _affine8,
}
"""By the name of the format."""
