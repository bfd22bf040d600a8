"""How fast each pair of channels turns with the position (RoPE, Su et al. 2021). numpy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llmchat.models.plan import Rope, RopeScaling


def rope_frequencies(rope: Rope, *, is_long: bool = False) -> NDArray[np.float64]:
    """Radians per position of each pair of channels, shape (rope.dim / 2,).

    Args:
        rope: Which positions.
        is_long: Whether the text is longer than the original context, for scalings that ask.
    """
    exponents = np.arange(0, rope.dim, 2, dtype=np.float64) / rope.dim
    frequencies: NDArray[np.float64] = rope.theta**-exponents
    return frequencies if rope.scaling is None else _scaled(frequencies, rope, rope.scaling, is_long)


def rope_magnitude(rope: Rope) -> float:
    """What cosines and sines are multiplied by."""
    return 1.0 if rope.scaling is None else rope.scaling.magnitude


def _scaled(frequencies: NDArray[np.float64], rope: Rope, scaling: RopeScaling, is_long: bool) -> NDArray[np.float64]:
    match scaling.kind:
        case "factors":
            factors = scaling.long_factors if is_long and scaling.long_factors else scaling.factors
            return frequencies / np.array(factors, dtype=np.float64)
        case "linear":
            return frequencies / scaling.factor
        case "yarn":
            kept = 1.0 - _ramp(rope, scaling)
        case "llama3":
            # Slow turns are stretched by `factor`, fast ones kept, those between blended.
            turns = scaling.original_context_length * frequencies / (2 * math.pi)
            spread = scaling.high_freq_factor - scaling.low_freq_factor
            kept = np.clip((turns - scaling.low_freq_factor) / spread, 0, 1)
    blended: NDArray[np.float64] = frequencies * (kept + (1 - kept) / scaling.factor)
    return blended


def _ramp(rope: Rope, scaling: RopeScaling) -> NDArray[np.float64]:
    """YaRN's share of interpolation for each pair, 0 to 1 (Peng et al. 2023)."""

    def pair_that_turns(count: float) -> float:
        turned = scaling.original_context_length / (count * 2 * math.pi)
        return rope.dim * math.log(turned) / (2 * math.log(rope.theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    high = high if high != low else high + 0.001
    return np.clip((np.arange(rope.dim // 2, dtype=np.float64) - low) / (high - low), 0, 1)
