"""MXFP4 as Hugging Face directories hold it: one tensor of 4-bit numbers, one of the scales of each 32 of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.assembly import FileTensor
from llmchat.checkpoints.checkpoint import RawTensor
from llmchat.checkpoints.stored_tensor import StoredTensor

_BLOCKS, _SCALES = "_blocks", "_scales"
_BLOCK_BYTES = 16
_VALUES = 32


def take_pairs(stored: dict[str, StoredTensor]) -> dict[str, FileTensor]:
    """Take the pairs out of a directory's tensors.

    Args:
        stored: By the file's names; loses those that are one half of a pair.

    Returns:
        Each pair under the name of its numbers, as a matrix of blocks like those of a GGUF file.
    """
    names = [name for name in stored if name.endswith(_BLOCKS) and _is_pair(stored, name)]
    pairs = {}
    for name in names:
        blocks, scales = stored.pop(name), stored.pop(_scales_of(name))
        shape = (*blocks.shape[:-2], blocks.shape[-2] * _VALUES)
        pairs[name] = FileTensor("MXFP4", shape, partial(_read, blocks, scales))
    return pairs


def _scales_of(name: str) -> str:
    return name.removesuffix(_BLOCKS) + _SCALES


def _is_pair(stored: Mapping[str, StoredTensor], name: str) -> bool:
    blocks, scales = stored[name], stored.get(_scales_of(name))
    if scales is None or (blocks.dtype, scales.dtype) != ("uint8", "uint8"):
        return False
    return blocks.shape == (*scales.shape, _BLOCK_BYTES) and len(scales.shape) > 1


def _read(blocks: StoredTensor, scales: StoredTensor) -> RawTensor:
    *rows, groups = scales.shape
    return mxfp4_blocks(blocks.numbers, scales.numbers, (*rows, groups * _VALUES))


def mxfp4_blocks(numbers: NDArray[np.uint8], scales: NDArray[np.uint8], shape: tuple[int, ...]) -> RawTensor:
    """Blocks as a GGUF file has them.

    Args:
        numbers: Neighbours in each byte, shape (…rows, groups, 16).
        scales: Shape (…rows, groups).
        shape: Of the whole.
    """
    joined = np.concatenate([scales[..., None], _halves_apart(numbers)], axis=-1)
    return RawTensor("MXFP4", shape, joined.reshape(*shape[:-1], -1))


def _halves_apart(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blocks whose bytes hold neighbours, brought into GGUF's order: a number of each half of the block in a byte."""
    first, second = blocks[..., : _BLOCK_BYTES // 2], blocks[..., _BLOCK_BYTES // 2 :]
    apart = np.empty_like(blocks)
    apart[..., ::2] = first & 15 | second << np.uint8(4)
    apart[..., 1::2] = first >> np.uint8(4) | second & 240
    return apart
