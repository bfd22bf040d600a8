"""Matrices in ggml's formats made of random bits, for those that the gguf package cannot quantise to."""

from __future__ import annotations

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

from llmchat.checkpoints.checkpoint import RawTensor

_FLOATS: dict[str, tuple[tuple[int, float], ...]] = {
    "Q5_0": ((0, 1 / 9),),
    "Q5_1": ((0, 1 / 9), (2, -1.7)),
    "Q2_K": ((80, 1 / 10), (82, 1.5 / 10)),
    "Q3_K": ((108, 1 / 42),),
    "Q4_K": ((0, 1 / 170), (2, 7.5 / 170)),
    "Q5_K": ((0, 1 / 340), (2, 15.5 / 340)),
    "Q6_K": ((208, 1 / 1350),),
    "IQ4_NL": ((0, 1 / 70),),
    "IQ4_XS": ((0, 1 / 1300),),
    "MXFP4": (),
    "AFFINE8": ((0, 1 / 75), (2, -1.7)),
}
"""Where a block has its 16-bit floats, and what makes its weights of about unit size around zero."""

KINDS = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", *_FLOATS)
"""The formats that the native step keeps as they are."""


def random_matrix(kind: str, rows: int, cols: int, rng: np.random.Generator, size: float) -> RawTensor:
    """Weights of about the given size; all bits of the blocks are used."""
    if kind not in _FLOATS:
        values = (rng.standard_normal((rows, cols)) * size).astype(np.float32)
        data = quantize(values, GGMLQuantizationType[kind])
        return RawTensor(kind, (rows, cols), data.view(np.uint8).reshape(rows, -1))
    columns, block_bytes = (32, 36) if kind == "AFFINE8" else GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    blocks = rng.integers(0, 256, (rows * cols // columns, block_bytes), dtype=np.uint8)
    factors = rng.uniform(0.5, 1.5, len(blocks)) * size
    for start, unit in _FLOATS[kind]:
        blocks[:, start : start + 2] = (factors * unit).astype(np.float16).view(np.uint8).reshape(-1, 2)
    if kind == "MXFP4":
        # One byte for the exponent: twice the levels have a size of about 6.
        blocks[:, 0] = np.rint(np.log2(factors / 3)) + 127
    return RawTensor(kind, (rows, cols), blocks.reshape(rows, -1))


def values_of(tensor: RawTensor) -> np.ndarray:
    """The numbers as the gguf package reads them; of what it does not know by the definition."""
    if tensor.kind == "AFFINE8":
        blocks = tensor.data.reshape(-1, 36)
        scales, leasts = (np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(float) for at in (0, 2))
        affine: np.ndarray = (blocks[:, 4:] * scales + leasts).astype(np.float32).reshape(tensor.shape)
        return affine
    values: np.ndarray = dequantize(tensor.data, GGMLQuantizationType[tensor.kind]).reshape(tensor.shape)
    return values
