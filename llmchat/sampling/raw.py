"""What the model itself says of the next token, before any stage of the chain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmchat.sampling.candidates import FloatArray, IntArray

_LOWEST = np.float32(-1e4)


@dataclass(frozen=True, slots=True)
class RawDistribution:
    """The softmax of the raw logits; only its sums are computed over the whole vocabulary."""

    logits: NDArray[np.floating]
    """Shape (vocab_size,)."""
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

    def logprob(self, token_id: int) -> float:
        """Natural logarithm of a token's probability."""
        return float(self.logits[token_id]) - self.log_total

    def probabilities(self, token_ids: IntArray) -> FloatArray:
        """The probabilities of some tokens, shape as `token_ids`."""
        return np.exp(self.logits[token_ids].astype(np.float64) - self.log_total)

    def rank(self, token_id: int) -> int:
        """How many tokens are likelier."""
        return int(np.count_nonzero(self.logits > self.logits[token_id]))
