"""Formats that look numbers up in tables, unpacked by the library into signed bytes, which lose nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.checkpoint import RawTensor
from llmchat.engine.native.interface import constants

LOOKED_UP = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0")
"""Their names, which are also those of the library's numbers for them."""

SIGNED = "SIGNED8"
"""What they become: 256 signed bytes with 16 scales, which are signed bytes too, and one float."""

_BLOCK = 256
_BLOCK_BYTES = 4 + 16 + _BLOCK


def unpack(library: Any, model: int, tensor: RawTensor) -> RawTensor | None:
    """A tensor of such a format as signed bytes.

    Args:
        library: The native step.
        model: The handle of the model whose threads do it.
        tensor: Its `kind` is one of `LOOKED_UP`.

    Returns:
        None where the library refuses it.
    """
    table, data = _table(tensor.kind), np.ascontiguousarray(tensor.data)
    *rows, cols = tensor.shape
    to = np.empty((*rows, cols // _BLOCK * _BLOCK_BYTES), np.uint8)
    result = library.llmchat_look_up(
        model,
        constants()[tensor.kind],
        data.ctypes.data,
        data.nbytes,
        table.ctypes.data,
        table.nbytes,
        to.ctypes.data,
        to.nbytes // _BLOCK_BYTES,
    )
    return None if result else RawTensor(SIGNED, tensor.shape, to)


@cache
def _table(kind: str) -> NDArray[np.int8]:
    """What a format looks up, from the package that the files were written with; of IQ1 eight times its numbers."""
    if kind.startswith("TQ"):
        return np.empty(0, np.int8)
    from gguf import quants

    found = getattr(quants, kind)
    found.init_grid()
    return np.ascontiguousarray(found.grid.reshape(-1) * (8 if kind.startswith("IQ1") else 1)).astype(np.int8)
