"""The draw: Gumbel-max with counter-based noise.

The token drawn is the one with the highest log-probability plus noise, where
the noise depends on the seed, the token's index in the reply and the token id
alone. So the dice do not depend on the settings: a filter changes the drawn
token only if it removes it, and a lower temperature can only move the draw to
a likelier token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmchat.sampling.arrays import FloatArray, IntArray, blocks
from llmchat.sampling.candidates import Candidates

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64 - 1

_TOKEN_DOMAIN = 1
_XTC_DOMAIN = 2
"""What keeps the numbers for different uses apart."""


def draw(candidates: Candidates, seed: int, index: int) -> int:
    """The token to take, distributed as the candidates' softmax.

    Args:
        candidates: What the chain left.
        seed: The dice, 0 to 2**63 - 1.
        index: Which token of the reply this is, from 0.

    Returns:
        A token id.
    """
    best, drawn = -np.inf, int(candidates.ids[0])
    if len(candidates) == 1:
        return drawn
    for block in blocks(len(candidates)):
        ids = candidates.ids[block]
        scores = gumbel_noise(seed, index, ids)
        scores += candidates.logits[block]
        first = int(np.argmax(scores))
        if scores[first] > best:
            best, drawn = scores[first], int(ids[first])
    return drawn


def gumbel_noise(seed: int, index: int, token_ids: IntArray) -> FloatArray:
    """Standard Gumbel noise, a pure function of (seed, index, token id), shape as `token_ids`."""
    noise = uniform_noise(seed, index, token_ids)
    for _ in range(2):
        np.log(noise, out=noise)
        np.negative(noise, out=noise)
    return noise


def uniform_noise(seed: int, index: int, token_ids: IntArray) -> FloatArray:
    """Uniform numbers in (0, 1), a pure function of (seed, index, token id), shape as `token_ids`.

    Each is a SplitMix64 hash (Steele, Lea and Flood 2014) of the id under a key
    hashed from seed and index; the top 53 bits are taken, at the middle of their interval.
    """
    key = np.uint64(_key(seed, index, _TOKEN_DOMAIN))
    words = token_ids.astype(np.uint64)
    words *= np.uint64(_GOLDEN)
    words += key
    _mix_in_place(words)
    words += key
    _mix_in_place(words)
    words >>= np.uint64(11)
    noise: FloatArray = words.astype(np.float64)
    noise += 0.5
    noise *= 2.0**-53
    return noise


def xtc_number(seed: int, index: int) -> float:
    """A uniform number in (0, 1) of its own, a pure function of (seed, index)."""
    return ((_mix(_key(seed, index, _XTC_DOMAIN)) >> 11) + 0.5) * 2.0**-53


def _key(seed: int, index: int, domain: int) -> int:
    return _mix(_mix(seed * _GOLDEN + domain) + index * _GOLDEN)


def _mix(word: int) -> int:
    """The finaliser of SplitMix64 on one word."""
    word &= _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def _mix_in_place(words: NDArray[np.uint64]) -> None:
    """The finaliser of SplitMix64 on every word; products wrap at 64 bits."""
    shifted = np.empty_like(words)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        np.right_shift(words, np.uint64(shift), out=shifted)
        words ^= shifted
        if factor != 1:
            words *= np.uint64(factor)
