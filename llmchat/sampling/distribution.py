"""The softmax of a whole vocabulary, or of what the chain leaves of it, at the price of its sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmchat.sampling.candidates import FloatArray, IntArray

_LOWEST = np.float32(-1e4)


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
        """The distribution of finite logits; some, but not all, may be -inf."""
        peak = logits.max()
        shifted = logits - peak
        # Far below what exp can tell from 0, so that 0 · -inf does not arise.
        np.maximum(shifted, _LOWEST, out=shifted)
        weights = np.exp(shifted)
        total = float(weights.sum())
        # With l the shifted logit, -Σ p ln p is ln Σ e^l - Σ l e^l / Σ e^l.
        entropy = math.log(total) - float(np.dot(shifted, weights)) / total
        return cls(logits, float(peak) + math.log(total), max(entropy, 0.0))

    def logprob(self, place: int) -> float:
        """Natural logarithm of the probability at a place."""
        return float(self.logits[place]) - self.log_total

    def probabilities(self, places: IntArray) -> FloatArray:
        """The probabilities at some places, shape as `places`."""
        return np.exp(self.logits[places].astype(np.float64) - self.log_total)

    def rank(self, place: int) -> int:
        """How many are likelier than the one at a place."""
        return int(np.count_nonzero(self.logits > self.logits[place]))
