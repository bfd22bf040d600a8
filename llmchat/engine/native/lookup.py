"""Formats that look numbers up in tables: kept by the library as codes of four bits, which lose nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.checkpoint import RawTensor
from llmchat.engine.native.interface import constants
from llmchat.errors import ModelLoadError

LOOKED_UP = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0")
"""Their names, which are also those of the library's numbers for them."""

CODED = ("LOW", "WIDE", "ODD")
"""What they become: 256 codes with 16 scales, which are signed bytes, and one float."""

_BECOMES = {"IQ3_XXS": "WIDE", "IQ3_S": "ODD"}
_NUMBERS = {
    "LOW": (0, 1, 2, 7, 8, 9, 25, 43),
    "WIDE": (4, 12, 20, 28, 36, 44, 52, 62),
    "ODD": (1, 3, 5, 7, 9, 11, 13, 15),
}
"""What codes without a sign stand for, as in decode.h."""

_SIGN = 8
_BLOCK = 256
_BLOCK_BYTES = 4 + 16 + _BLOCK // 2


def set_table(library: Any, model: int, kind: str) -> None:
    """Give a model what a format looks up, before its matrices.

    Args:
        library: The native step.
        model: The handle of the model.
        kind: One of `LOOKED_UP`.
    """
    table = _table(kind)
    library.llmchat_set_table(model, constants()[kind], table.ctypes.data, table.nbytes)


def unpack(library: Any, model: int, tensor: RawTensor) -> RawTensor:
    """A tensor of such a format as codes, for rows that are read one by one.

    Args:
        library: The native step.
        model: The handle of the model, which has the format's table, and whose threads do it.
        tensor: Its `kind` is one of `LOOKED_UP`.

    Raises:
        ModelLoadError: Its size is not that of its shape.
    """
    data = np.ascontiguousarray(tensor.data)
    *rows, cols = tensor.shape
    to = np.empty((*rows, cols // _BLOCK * _BLOCK_BYTES), np.uint8)
    blocks = to.nbytes // _BLOCK_BYTES
    kind = constants()[tensor.kind]
    if library.llmchat_look_up(model, kind, data.ctypes.data, data.nbytes, to.ctypes.data, blocks):
        raise ModelLoadError("The model's weights do not fit its dimensions: fetch or copy the file again.")
    return RawTensor(_BECOMES.get(tensor.kind, "LOW"), tensor.shape, to)


@cache
def _table(kind: str) -> NDArray[np.uint8]:
    """The codes of what a format looks up, from the package that the files were written with."""
    if kind.startswith("TQ"):
        return np.empty(0, np.uint8)
    from gguf import quants

    found = getattr(quants, kind)
    found.init_grid()
    numbers = found.grid.reshape(-1, found.grid.shape[-1]).astype(np.int32)
    if kind.startswith("IQ1"):
        # Eight times each number, with one more or one less.
        numbers = np.concatenate([8 * numbers + 1, 8 * numbers - 1])
    codes = np.searchsorted(_NUMBERS[_BECOMES.get(kind, "LOW")], np.abs(numbers)).astype(np.uint8)
    codes |= np.where(numbers < 0, _SIGN, 0).astype(np.uint8)
    return np.ascontiguousarray(codes)
