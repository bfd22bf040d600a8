"""Where each candidate went: its probability before and after the chain, and the stage that removed it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmchat.sampling.arrays import BoolArray, IntArray
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.chain import Branch, Prospect
from llmchat.sampling.distribution import Distribution
from llmchat.sampling.selection import highest

_SMALLEST = np.finfo(np.float64).tiny
"""Probabilities below it act like it, so that their logarithms are finite."""


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """One candidate."""

    token_id: int
    probability: float
    """By the model alone."""
    final_probability: float
    """After the chain, XTC's dice left open; 0 if it was removed."""
    removed_by: str | None
    """The stage that removed it, as in `GenerationConfig.stages`; None if it may be drawn."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The candidates of one position, and what the chain leaves of them."""

    rows: tuple[ExplainedToken, ...]
    """The likeliest by the model and the likeliest after the chain, and the token that the dice take, by falling
    probability of the model."""
    survivors: int
    """How many tokens may be drawn."""
    mass: float
    """The probability that these hold by the model alone."""
    entropy: float
    """Of the final distribution, in nats."""
    effective_choices: float
    """e to the entropy: as many equally likely tokens would be as uncertain."""
    drawn: int | None
    """The token that the dice take under these settings."""


def explain(prospect: Prospect, count: int, seed: int | None = None, also: Sequence[int] = ()) -> Explanation:
    """Say what the chain does with the candidates of one position. It changes nothing.

    Args:
        prospect: The position.
        count: How many rows to give, 1 or more; fewer if the vocabulary is smaller.
        seed: The dice to throw; None throws none.
        also: Tokens to list however unlikely they are.
    """
    raw, branches = prospect.raw, prospect.branches
    final = _mixture(branches)
    spread = Distribution.of(final.logits)
    drawn = None if seed is None else prospect.throw(seed)
    shown = _shown(raw.logits, final, count, also if drawn is None else (drawn, *also))
    held = final.holds(shown)
    finals = np.zeros(shown.size)
    finals[held] = spread.probabilities(np.searchsorted(final.ids, shown[held]))
    columns = (shown.tolist(), raw.probabilities(shown).tolist(), finals.tolist(), _removers(branches, shown, held))
    return Explanation(
        rows=tuple(ExplainedToken(*row) for row in zip(*columns, strict=True)),
        survivors=len(final),
        mass=1.0 if len(final) == raw.logits.size else min(float(raw.probabilities(final.ids).sum()), 1.0),
        entropy=spread.entropy,
        effective_choices=math.exp(spread.entropy),
        drawn=drawn,
    )


def _mixture(branches: tuple[Branch, ...]) -> Candidates:
    """The tokens that may be drawn on any branch, with the exact probabilities as their logits' softmax."""
    if len(branches) == 1:
        return branches[0].candidates
    size = 1 + max(int(branch.candidates.ids[-1]) for branch in branches)
    is_left, probabilities = np.zeros(size, dtype=bool), np.zeros(size)
    for branch in branches:
        is_left[branch.candidates.ids] = True
        probabilities[branch.candidates.ids] += branch.share * branch.candidates.probabilities()
    ids = np.flatnonzero(is_left)
    return Candidates(ids, np.log(np.maximum(probabilities[ids], _SMALLEST)))


def _shown(logits: NDArray[np.floating], final: Candidates, count: int, first: Sequence[int]) -> IntArray:
    """Some tokens, then the likeliest before the chain and after it, taken in turn until there are enough."""
    before = highest(logits, count)
    before = before[np.argsort(-logits[before], kind="stable")]
    after = final.take(highest(final.logits, count))
    in_turn = itertools.chain(first, *itertools.zip_longest(before.tolist(), after.ids[after.ranked()].tolist()))
    known = (token_id for token_id in in_turn if token_id is not None and logits[token_id] > -np.inf)
    ids = np.array(sorted(itertools.islice(dict.fromkeys(known), count)), dtype=np.int64)
    return ids[np.argsort(-logits[ids], kind="stable")]


def _removers(branches: tuple[Branch, ...], shown: IntArray, held: BoolArray) -> list[str | None]:
    """For each token that is shown and not held to the end, the stage that removed it."""
    removers: list[str | None] = [None] * shown.size
    left = ~held
    size = -1
    for name, candidates in branches[-1].steps:
        if len(candidates) != size:
            gone = left & ~candidates.holds(shown)
            for place in np.flatnonzero(gone):
                removers[place] = name
            left &= ~gone
        size = len(candidates)
    return removers
