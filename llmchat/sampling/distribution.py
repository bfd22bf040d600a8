"""The softmax of a whole vocabulary, or of what the chain leaves of it, at the price of its sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmchat.sampling.candidates import FloatArray, IntArray

_LOWEST = np.float32(-1e4)
_NEAR = -10.0
"""A logit that is further below the highest weighs less than a twenty-thousandth of it."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """The softmax of some logits. Single probabilities are computed when they are asked for."""

    logits: NDArray[np.floating]
    """Shape (n,)."""
    log_total: float
    """ln Σ e^logit."""
    entropy: float
    """In nats."""

    @classmethod
    def of(cls, logits: NDArray[np.floating]) -> Self:
        """The distribution of finite logits; some, but not all, may be -inf. Right to 1e-9 in 32 bits too."""
        peak = float(logits.max())
        shifted = logits - peak
        if not np.isfinite(shifted.min()):
            # Far below what exp can tell from 0, so that 0 · -inf does not arise.
            np.maximum(shifted, _LOWEST, out=shifted)
        weights = np.exp(shifted)
        total = weighted = 0.0
        if logits.dtype != np.float64:
            # What weighs is summed in 64 bits; what many others lose in 32 is nothing, at a third of the price.
            near = np.flatnonzero(shifted > _NEAR)
            near_shifted = logits[near].astype(np.float64) - peak
            near_weights = np.exp(near_shifted)
            total, weighted = float(near_weights.sum()), _product(near_shifted, near_weights)
            weights[near] = 0.0
        total += float(np.einsum("i->", weights, dtype=np.float64))
        weighted += _product(shifted, weights)
        # With l the shifted logit, -Σ p ln p is ln Σ e^l - Σ l e^l / Σ e^l.
        log_total = math.log(total)
        return cls(logits, peak + log_total, max(log_total - weighted / total, 0.0))

    def logprob(self, place: int) -> float:
        """Natural logarithm of the probability at a place."""
        return float(self.logits[place]) - self.log_total

    def probabilities(self, places: IntArray) -> FloatArray:
        """The probabilities at some places, shape as `places`."""
        return np.exp(self.logits[places].astype(np.float64) - self.log_total)

    def rank(self, place: int) -> int:
        """How many are likelier than the one at a place."""
        return int(np.count_nonzero(self.logits > self.logits[place]))


def _product(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Their inner product, without BLAS: it waits for its threads, on a busy machine a hundred times as long."""
    return float(np.einsum("i,i->", one, other))
