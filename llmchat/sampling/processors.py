"""The stages of the sampling chain: pure functions from candidates to candidates.

Each keeps at least one token. Ties are settled by the lower id. Sums that reach
a limit up to rounding count as reaching it.
"""

from __future__ import annotations

import math

import numpy as np

from llmchat.sampling.candidates import Candidates, FloatArray
from llmchat.sampling.history import TokenHistory

_ROUNDING = 1e-9


def penalize_repetition(candidates: Candidates, history: TokenHistory, penalty: float) -> Candidates:
    """Make used tokens less likely: a positive logit is divided, a negative one multiplied.

    The definition of CTRL (Keskar et al. 2019), once per distinct token.

    Args:
        candidates: The tokens so far.
        history: Which tokens are used.
        penalty: Above 0; 1 does nothing.
    """
    if penalty == 1.0:
        return candidates
    used = candidates.positions(history.distinct())
    logits = candidates.logits.copy()
    logits[used] = np.where(logits[used] > 0, logits[used] / penalty, logits[used] * penalty)
    return candidates.with_logits(logits)


def scale_temperature(candidates: Candidates, temperature: float) -> Candidates:
    """Divide the logits by the temperature; 0 keeps only the likeliest token."""
    if temperature == 0.0:
        return keep_likeliest(candidates)
    return candidates if temperature == 1.0 else candidates.with_logits(candidates.logits / temperature)


def keep_likeliest(candidates: Candidates) -> Candidates:
    """Keep the one token with the highest logit."""
    return candidates.only(int(np.argmax(candidates.logits)))


def keep_top_k(candidates: Candidates, k: int) -> Candidates:
    """Keep exactly the `k` likeliest tokens (Fan et al. 2018); 0 keeps all."""
    if not 0 < k < len(candidates):
        return candidates
    logits = candidates.logits
    smallest_kept = _kth_largest(logits, k)
    mask = logits > smallest_kept
    ties = np.flatnonzero(logits == smallest_kept)
    mask[ties[: k - np.count_nonzero(mask)]] = True
    return candidates.keep(mask)


def _kth_largest(values: FloatArray, k: int) -> float:
    """The k-th largest of some values, without sorting them."""
    width = values.size // (8 * k)
    if width > 1:
        # The k-th largest maximum of the blocks is reached by at least k values: few pass it.
        blocks = values[: values.size // width * width].reshape(-1, width).max(axis=1)
        values = values[values >= np.partition(blocks, -k)[-k]]
    return float(np.partition(values, -k)[-k])


def keep_top_p(candidates: Candidates, p: float) -> Candidates:
    """Keep the smallest set of likeliest tokens whose probabilities sum to `p` (Holtzman et al. 2020).

    Args:
        candidates: The tokens so far.
        p: Probability mass, 0 to 1; 1 keeps all, 0 keeps the likeliest.
    """
    if p >= 1.0:
        return candidates
    peak = candidates.logits.max()
    total = np.exp(candidates.logits - peak).sum()
    # The nucleus is usually small, so a short head is ranked first and the whole only at need.
    for size in (256, 4096, len(candidates)):
        head = keep_top_k(candidates, size)
        order = head.ranked()
        reached = np.cumsum(np.exp(head.logits[order] - peak)) >= (p - _ROUNDING) * total
        if reached.any():
            break
    mask = np.zeros(len(head), dtype=bool)
    mask[order[: int(np.argmax(reached)) + 1]] = True
    return head.keep(mask)


def keep_min_p(candidates: Candidates, share: float) -> Candidates:
    """Keep tokens at least `share` times as likely as the likeliest (Nguyen et al. 2024); 0 keeps all."""
    if share <= 0.0:
        return candidates
    peak = candidates.logits.max()
    return candidates.keep(candidates.logits >= peak + min(math.log(share), 0.0) - _ROUNDING)
