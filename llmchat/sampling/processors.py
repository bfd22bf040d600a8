"""The stages that scale and filter: pure functions from candidates to candidates.

Each keeps at least one token. Ties are settled by the lower id. Sums that reach
a limit up to rounding count as reaching it.
"""

from __future__ import annotations

import math

import numpy as np

from llmchat.sampling.arrays import IntArray
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.selection import highest, smallest_set

_ROUNDING = 1e-9

_COLDEST = 1e-9
"""Temperatures below it act like it, so that no logit leaves the finite numbers."""


def scale_temperature(
    candidates: Candidates, temperature: float, spread: float = 0.0, exponent: float = 1.0
) -> Candidates:
    """Divide the logits by the temperature; 0 keeps only the likeliest token.

    With a spread the temperature follows the entropy H of the n candidates, as llama.cpp's
    dynamic temperature does: from `temperature - spread`, at least 0, to `temperature + spread`
    by (H / ln n) ** exponent.

    Args:
        candidates: The tokens so far.
        temperature: 0 or above; 1 does nothing.
        spread: Half the width of the dynamic range; 0 keeps the temperature fixed.
        exponent: 0 or above; how the temperature follows the entropy.
    """
    if spread > 0.0 and len(candidates) > 1:
        log_probabilities = candidates.log_probabilities()
        entropy = -float(np.dot(np.exp(log_probabilities), log_probabilities))
        share = min(max(entropy, 0.0) / math.log(len(candidates)), 1.0)
        low, high = max(temperature - spread, 0.0), temperature + spread
        temperature = low + (high - low) * share**exponent
    if temperature == 0.0:
        return keep_likeliest(candidates)
    return candidates if temperature == 1.0 else candidates.with_logits(candidates.logits / max(temperature, _COLDEST))


def keep_likeliest(candidates: Candidates) -> Candidates:
    """Keep the one token with the highest logit."""
    return candidates.only(int(np.argmax(candidates.logits)))


def keep_top_k(candidates: Candidates, k: int) -> Candidates:
    """Keep exactly the `k` likeliest tokens (Fan et al. 2018); 0 keeps all."""
    return candidates.take(highest(candidates.logits, k)) if 0 < k < len(candidates) else candidates


def keep_top_p(candidates: Candidates, p: float) -> Candidates:
    """Keep the smallest set of likeliest tokens whose probabilities sum to `p` (Holtzman et al. 2020).

    Args:
        candidates: The tokens so far.
        p: Probability mass, 0 to 1; 1 keeps all, 0 keeps the likeliest.
    """
    if p >= 1.0:
        return candidates
    weights = np.exp(candidates.logits - candidates.logits.max())
    return candidates.keep(smallest_set(candidates.logits, weights, (p - _ROUNDING) * float(weights.sum())))


def keep_min_p(candidates: Candidates, share: float) -> Candidates:
    """Keep tokens at least `share` times as likely as the likeliest (Nguyen et al. 2024); 0 keeps all."""
    if share <= 0.0:
        return candidates
    peak = candidates.logits.max()
    return candidates.keep(candidates.logits >= peak + min(math.log(share), 0.0) - _ROUNDING)


def keep_typical(candidates: Candidates, p: float) -> Candidates:
    """Keep the smallest set of locally typical tokens that holds `p` (Meister et al. 2022); 1 keeps all.

    Typical is a token whose surprise -ln p is near the entropy: the likeliest may go.

    Args:
        candidates: The tokens so far.
        p: Probability mass, 0 to 1; 0 keeps the most typical token.
    """
    if p >= 1.0:
        return candidates
    log_probabilities = candidates.log_probabilities()
    weights = np.exp(log_probabilities)
    strangeness = np.abs(log_probabilities - np.dot(weights, log_probabilities))
    # Equal tokens must not be told apart by the last bits of the logarithms.
    return candidates.keep(smallest_set(-np.round(strangeness, 9), weights, p - _ROUNDING))


def keep_top_n_sigma(candidates: Candidates, count: float) -> Candidates:
    """Keep tokens whose logit is at most `count` standard deviations below the highest (Tang et al. 2024).

    The deviation is that of the whole population of candidates, as in llama.cpp; 0 keeps all.
    """
    if count <= 0.0:
        return candidates
    logits = candidates.logits
    return candidates.keep(logits >= logits.max() - count * logits.std() - _ROUNDING)


def exclude_top_choices(candidates: Candidates, threshold: float, stops: IntArray) -> Candidates:
    """Remove all tokens that reach a probability but the least likely of them (XTC, p-e-w 2024).

    llama.cpp spares nothing: without `stops` it is the same here. text-generation-webui does
    nothing where the newline or the end would go: there `stops` are their ids.

    Args:
        candidates: The tokens so far.
        threshold: The probability, 0 to 1; above 0.5 at most one token reaches it and none goes.
        stops: Ids, ascending; where one of them would go, nothing does.
    """
    is_top = candidates.probabilities() >= threshold - _ROUNDING
    top = np.flatnonzero(is_top)
    if top.size < 2:
        return candidates
    logits = candidates.logits[top]
    least = top[np.flatnonzero(logits == logits.min())[-1]]
    is_top[least] = False
    if is_top[candidates.positions(stops)].any():
        return candidates
    return candidates.keep(~is_top)
