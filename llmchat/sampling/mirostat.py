"""Mirostat 2 (Basu et al. 2021): keep the surprise of a text near a goal.

A limit μ on the surprise of a token, in bits, begins at twice the goal τ. Tokens
above it are removed; after a token of surprise s is drawn, μ goes down by η (s - τ).
So μ is a pure function of the final probabilities of the tokens drawn and the
settings under which they were, and can be found again at any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.candidates import Candidates


def keep_mirostat(candidates: Candidates, limit: float) -> Candidates:
    """Keep the tokens whose surprise is at most `limit` bits, or else the likeliest."""
    surprise = candidates.log_probabilities() / -math.log(2)
    mask = surprise <= limit
    return candidates.keep(mask) if mask.any() else candidates.only(int(np.argmax(candidates.logits)))


def first_limit(goal: float) -> float:
    """The limit for the first token, in bits."""
    return 2.0 * goal


def next_limit(limit: float | None, final_logprob: float, goal: float, rate: float) -> float | None:
    """The limit after a token was drawn.

    Args:
        limit: The one before, in bits; None if Mirostat was off.
        final_logprob: Natural logarithm of the token's probability after the chain.
            -inf, for a token that a person took against the chain, teaches nothing.
        goal: τ in bits, above 0; 0 switches Mirostat off.
        rate: η.

    Returns:
        None while it is off, so that it begins anew.
    """
    if not goal:
        return None
    before = first_limit(goal) if limit is None else limit
    return before if math.isinf(final_logprob) else before - rate * (final_logprob / -math.log(2) - goal)


def limit_after(final_logprobs: Sequence[float], config_at: Callable[[int], GenerationConfig]) -> float | None:
    """The limit after a part of a reply, for a branch there.

    Args:
        final_logprobs: Of the reply's tokens up to there.
        config_at: The settings under which the token with this index was drawn.
    """
    limit = None
    for index, logprob in enumerate(final_logprobs):
        config = config_at(index)
        limit = next_limit(limit, logprob, config.mirostat_tau, config.mirostat_eta)
    return limit
