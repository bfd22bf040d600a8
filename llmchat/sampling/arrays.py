"""The arrays that the chain works on: their types, and what is asked of a whole vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_BLOCK = 32_768
"""So many numbers are worked on at a time: what lies between the steps then stays in the cache."""

_LOWEST = -1e4
"""Far below what exp can tell from 0, so that 0 · -inf does not arise."""


def blocks(size: int) -> Iterator[slice]:
    """The parts, in order, in which so many numbers are worked on."""
    return (slice(start, start + _BLOCK) for start in range(0, size, _BLOCK))


def holds(ascending: IntArray, asked: IntArray) -> BoolArray:
    """Which of some numbers are among others, of which there is one at least; shape as `asked`."""
    found = np.minimum(np.searchsorted(ascending, asked), ascending.size - 1)
    held: BoolArray = ascending[found] == asked
    return held


def log_total_and_entropy(logits: NDArray[np.floating]) -> tuple[float, float]:
    """Ln Σ e^logit, and the entropy of the softmax in nats.

    Args:
        logits: Shape (n,); some, but not all, may be -inf.
    """
    peak = float(logits.max())
    holds_lowest = not np.isfinite(logits.min())
    total = weighted = 0.0
    for block in blocks(logits.size):
        shifted = logits[block].astype(np.float64)
        shifted -= peak
        if holds_lowest:
            np.maximum(shifted, _LOWEST, out=shifted)
        weights = np.exp(shifted)
        total += float(weights.sum())
        shifted *= weights
        weighted += float(shifted.sum())
    # With l the shifted logit, -Σ p ln p is ln Σ e^l - Σ l e^l / Σ e^l.
    log_total = math.log(total)
    return peak + log_total, max(log_total - weighted / total, 0.0)
