"""The formats that weights lie in: the sizes of their blocks, and their numbers as float32.

The usual ones are read here and in `quantised`. Those that look their numbers up in large tables
are left to the `gguf` package, where it is installed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.quantised import READERS


class BlockFormat(NamedTuple):
    """How the numbers of a row are grouped."""

    name: str
    values: int
    """Numbers of a block."""
    bytes: int
    """Bytes of a block."""


FORMATS = {
    0: BlockFormat("F32", 1, 4),
    1: BlockFormat("F16", 1, 2),
    2: BlockFormat("Q4_0", 32, 18),
    3: BlockFormat("Q4_1", 32, 20),
    6: BlockFormat("Q5_0", 32, 22),
    7: BlockFormat("Q5_1", 32, 24),
    8: BlockFormat("Q8_0", 32, 34),
    9: BlockFormat("Q8_1", 32, 40),
    10: BlockFormat("Q2_K", 256, 84),
    11: BlockFormat("Q3_K", 256, 110),
    12: BlockFormat("Q4_K", 256, 144),
    13: BlockFormat("Q5_K", 256, 176),
    14: BlockFormat("Q6_K", 256, 210),
    15: BlockFormat("Q8_K", 256, 292),
    16: BlockFormat("IQ2_XXS", 256, 66),
    17: BlockFormat("IQ2_XS", 256, 74),
    18: BlockFormat("IQ3_XXS", 256, 98),
    19: BlockFormat("IQ1_S", 256, 50),
    20: BlockFormat("IQ4_NL", 32, 18),
    21: BlockFormat("IQ3_S", 256, 110),
    22: BlockFormat("IQ2_S", 256, 82),
    23: BlockFormat("IQ4_XS", 256, 136),
    24: BlockFormat("I8", 1, 1),
    25: BlockFormat("I16", 1, 2),
    26: BlockFormat("I32", 1, 4),
    27: BlockFormat("I64", 1, 8),
    28: BlockFormat("F64", 1, 8),
    29: BlockFormat("IQ1_M", 256, 56),
    30: BlockFormat("BF16", 1, 2),
    34: BlockFormat("TQ1_0", 256, 54),
    35: BlockFormat("TQ2_0", 256, 66),
    39: BlockFormat("MXFP4", 32, 17),
    40: BlockFormat("NVFP4", 64, 36),
}
"""Every format by its number in a GGUF file."""

_AFFINE8 = BlockFormat("AFFINE8", 32, 36)
"""No format of GGUF: Q4_1 with a byte for each number, see `affine`."""

_BLOCK_BYTES = {form.name: form.bytes for form in (*FORMATS.values(), _AFFINE8)}
_NEED_GGUF = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0")


def dequantise(kind: str, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The numbers of some rows.

    Args:
        kind: The name of their format.
        rows: Whole blocks, shape (rows, bytes per row).

    Returns:
        Shape (rows, values per row).

    Raises:
        NotImplementedError: The format cannot be read; its words say what it takes, if anything does.
    """
    values: NDArray[np.float32]
    match kind:
        case "F32":
            values = np.ascontiguousarray(rows).view(np.float32)
        case "F16":
            values = np.ascontiguousarray(rows).view(np.float16).astype(np.float32)
        case "BF16":
            halves = np.ascontiguousarray(rows).view(np.uint16).astype(np.uint32)
            values = (halves << 16).view(np.float32)
        case _ if reader := READERS.get(kind):
            with np.errstate(all="ignore"):
                values = reader(np.ascontiguousarray(rows).reshape(-1, _BLOCK_BYTES[kind]))
        case _:
            values = _dequantised_by_gguf(kind, rows)
    return values.reshape(len(rows), -1)


def _dequantised_by_gguf(kind: str, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    if kind not in _NEED_GGUF:
        raise NotImplementedError(kind)
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError:
        raise NotImplementedError("python -m pip install gguf") from None
    if kind not in GGMLQuantizationType.__members__:
        raise NotImplementedError("python -m pip install --upgrade gguf")
    values: NDArray[np.float32] = dequantize(rows, GGMLQuantizationType[kind])
    return values
