"""The softmax of a whole vocabulary, or of what the chain leaves of it, at the price of its sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmchat.sampling.arrays import FloatArray, IntArray, log_total_and_entropy


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
        return cls(logits, *log_total_and_entropy(logits))

    def logprob(self, place: int) -> float:
        """Natural logarithm of the probability at a place."""
        return float(self.logits[place]) - self.log_total

    def probabilities(self, places: IntArray) -> FloatArray:
        """The probabilities at some places, shape as `places`."""
        return np.exp(self.logits[places].astype(np.float64) - self.log_total)

    def rank(self, place: int) -> int:
        """How many are likelier than the one at a place."""
        return int(np.count_nonzero(self.logits > self.logits[place]))
