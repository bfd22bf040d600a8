"""The stages that make used tokens less likely: repetition, frequency, presence, and DRY."""

from __future__ import annotations

import math
from collections.abc import Container

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
    breakers: Container[int] = (),
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
        breakers: Ids at which a repetition ends; they are never penalised, nor is what `history` exempts.
        window: How many of the last tokens are looked at; 0 is all.
    """
    if multiplier <= 0.0:
        return candidates
    highest = int(_LARGEST_EXPONENT / math.log(base)) if base > 1.000001 else 0
    lengths = next_repeats(history, allowed_length, allowed_length + highest, breakers, window)
    if not lengths:
        return candidates
    return candidates.lower(
        {token_id: multiplier * base ** (length - allowed_length) for token_id, length in lengths.items()}
    )


def next_repeats(
    history: TokenHistory, shortest: int, longest: int, breakers: Container[int] = (), window: int = 0
) -> dict[int, int]:
    """For each token that would make a repetition longer, how long it already is.

    Args:
        history: Prompt and reply.
        shortest: The least length that counts.
        longest: Above it, repetitions count as this long.
        breakers: Ids at which a repetition ends; they and what `history` exempts are left out.
        window: How many of the last tokens are looked at; 0 is all.
    """
    start = max(len(history) - window, 0) if window else 0
    lengths = history.repeats()[start:-1]
    if start:
        # A repetition must lie in the window as a whole.
        lengths = np.minimum(lengths, np.arange(1, lengths.size + 1))
    limit = min(int(lengths.max(initial=0)), longest)
    if limit < shortest:
        return {}
    for steps, token_id in enumerate(history.ids[: -limit - 1 : -1].tolist()):
        if token_id in breakers or token_id in history.exempt:
            limit = steps
            break
    if limit < shortest:
        return {}
    places = np.flatnonzero(lengths >= shortest)
    found = np.minimum(lengths[places], limit)
    falling = np.argsort(-found, kind="stable")
    followers, firsts = np.unique(history.ids[start + 1 + places[falling]], return_index=True)
    best = zip(followers.tolist(), found[falling[firsts]].tolist(), strict=True)
    return {token: length for token, length in best if token not in breakers and token not in history.exempt}
