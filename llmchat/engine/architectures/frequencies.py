"""How fast each pair of channels turns with the position (RoPE, Su et al. 2021). numpy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.checkpoint import LlamaConfig, RopeScaling


def rope_frequencies(config: LlamaConfig) -> NDArray[np.float64]:
    """Radians per position of each pair of channels, shape (head_dim / 2,)."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    return _scaled(config.rope_theta**-exponents, config.rope_scaling)


def _scaled(frequencies: NDArray[np.float64], scaling: RopeScaling | None) -> NDArray[np.float64]:
    if scaling is None:
        return frequencies
    if scaling.kind == "factors":
        return frequencies / np.array(scaling.factors, dtype=np.float64)
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    # Llama 3: slow turns are stretched by `factor`, fast ones kept, those between blended.
    turns = scaling.original_context_length * frequencies / (2 * math.pi)
    spread = scaling.high_freq_factor - scaling.low_freq_factor
    kept = np.clip((turns - scaling.low_freq_factor) / spread, 0, 1)
    blended: NDArray[np.float64] = frequencies * (kept + (1 - kept) / scaling.factor)
    return blended
