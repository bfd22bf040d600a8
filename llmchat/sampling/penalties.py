"""The stages that make used tokens less likely: repetition, frequency, presence, and DRY."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from llmchat.sampling.candidates import Candidates
from llmchat.sampling.history import TokenHistory

_LARGEST_EXPONENT = 88.7228391
"""Logarithm of the largest 32-bit number, beyond which llama.cpp does not let the DRY penalty grow."""


def penalize_use(
    candidates: Candidates,
    history: TokenHistory,
    repetition: float = 1.0,
    frequency: float = 0.0,
    presence: float = 0.0,
    window: int = 0,
) -> Candidates:
    """Make used tokens less likely.

    Repetition is that of CTRL (Keskar et al. 2019): once for each distinct token of prompt and
    reply, a positive logit is divided, a negative one multiplied. Then frequency times its count
    and once presence are taken from each token of the reply alone, as OpenAI defines them: a
    prompt is not the model's doing.

    Args:
        candidates: The tokens so far.
        history: What is used.
        repetition: Above 0; 1 does nothing.
        frequency: 0 does nothing; below 0 invites repetition.
        presence: The same.
        window: How many of the last tokens count; 0 is all.
    """
    if repetition == 1.0 and not frequency and not presence:
        return candidates
    logits = candidates.logits.copy()
    if repetition != 1.0:
        used = candidates.positions(history.distinct(window))
        logits[used] = np.where(logits[used] > 0, logits[used] / repetition, logits[used] * repetition)
    if frequency or presence:
        ids, counts = history.reply_counts(window)
        places = candidates.positions(ids)
        counts = counts[np.searchsorted(ids, candidates.ids[places])]
        logits[places] -= frequency * counts + presence
    return candidates.with_logits(logits)


def penalize_repeats(
    candidates: Candidates,
    history: TokenHistory,
    multiplier: float,
    base: float,
    allowed_length: int,
    breakers: Collection[int] = (),
    window: int = 0,
) -> Candidates:
    """Make tokens less likely that would make a repetition longer (DRY, p-e-w 2024; as in llama.cpp).

    If the last L tokens have stood somewhere before, the token that followed there loses
    multiplier * base ** (L - allowed_length), for the longest L ≥ allowed_length.

    Args:
        candidates: The tokens so far.
        history: Prompt and reply.
        multiplier: 0 does nothing.
        base: 1 or above.
        allowed_length: What may repeat freely, 1 or more tokens.
        breakers: Ids at which a repetition ends; they are never penalised.
        window: How many of the last tokens are looked at; 0 is all.
    """
    lengths = next_repeats(history, allowed_length, breakers, window) if multiplier > 0.0 else {}
    if not lengths:
        return candidates
    highest = int(_LARGEST_EXPONENT / math.log(base)) if base > 1.000001 else 0
    return candidates.lower(
        {token_id: multiplier * base ** min(length - allowed_length, highest) for token_id, length in lengths.items()}
    )


def next_repeats(
    history: TokenHistory, allowed_length: int, breakers: Collection[int] = (), window: int = 0
) -> dict[int, int]:
    """For each token that would make a repetition longer, how long it already is.

    Args:
        history: Prompt and reply.
        allowed_length: The shortest repetition that counts.
        breakers: Ids at which a repetition ends; they are left out.
        window: How many of the last tokens are looked at; 0 is all.
    """
    start = max(len(history) - window, 0) if window else 0
    lengths = history.repeats()[start:-1]
    if start:
        # A repetition must lie in the window as a whole.
        lengths = np.minimum(lengths, np.arange(1, lengths.size + 1))
    longest = int(lengths.max(initial=0))
    if longest < allowed_length:
        return {}
    recent = history.ids[-longest:][::-1].tolist()
    limit = next((steps for steps, token_id in enumerate(recent) if token_id in breakers), longest)
    if limit < allowed_length:
        return {}
    places = np.flatnonzero(lengths >= allowed_length)
    found = np.minimum(lengths[places], limit)
    order = np.argsort(found, kind="stable")
    followers = history.ids[start + 1 + places[order]]
    # Of several places with the same follower the last, which is the longest, stays.
    best = dict(zip(followers.tolist(), found[order].tolist(), strict=True))
    return {token_id: length for token_id, length in best.items() if token_id not in breakers}
