"""What a top-k is sure to remove, found before the stages ahead of it have computed anything.

A vocabulary has hundreds of thousands of tokens, a top-k leaves some fifty. Where every stage ahead
of it keeps the order of the logits, but for some tokens that are known, only those and the k likeliest
of the others can be left: the rest need neither penalties nor a temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.arrays import IntArray
from llmchat.sampling.selection import highest

_KEEPS_ORDER: Mapping[str, Callable[[GenerationConfig], bool]] = {
    "bans": lambda config: True,
    "penalties": lambda config: True,
    "dry": lambda config: True,
    "top_n_sigma": lambda config: config.top_n_sigma <= 0.0,
    "temperature": lambda config: config.temperature > 0.0 and config.dynatemp_range <= 0.0,
    "top_p": lambda config: config.top_p >= 1.0,
    "min_p": lambda config: config.min_p <= 0.0,
    "typical_p": lambda config: config.typical_p >= 1.0,
    "xtc": lambda config: config.xtc_probability <= 0.0,
}
"""Whether a stage leaves the order of all tokens as it is, but for those of the history and those that are banned."""

_WORTH_IT = 8
"""Below this share of the vocabulary, as one in so many, the choice is quicker than what it saves."""


def preselect(
    logits: NDArray[np.floating], config: GenerationConfig, known_ids: Callable[[], IntArray]
) -> IntArray | None:
    """The ids, ascending, that top-k does not remove for certain.

    Args:
        logits: Shape (vocab_size,).
        config: The settings for this token.
        known_ids: The ids, ascending, that bans and penalties may act upon.

    Returns:
        None where nothing is certain, or where it would save nothing.
    """
    if not _top_k_goes_by_order(config):
        return None
    known = known_ids()
    if (config.top_k + known.size) * _WORTH_IT > logits.size:
        return None
    if not np.isfinite(logits.max()):
        return None
    others = logits.copy()
    others[known] = -np.inf
    return np.union1d(highest(others, config.top_k), known)


def _top_k_goes_by_order(config: GenerationConfig) -> bool:
    """Whether top-k acts, and no stage ahead of it changes the order."""
    stages = config.stages
    if config.top_k <= 0 or "top_k" not in stages:
        return False
    before = stages[: stages.index("top_k")]
    return all(name in _KEEPS_ORDER and _KEEPS_ORDER[name](config) for name in before)
