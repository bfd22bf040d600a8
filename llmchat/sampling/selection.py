"""Choosing the highest of many scores without sorting them all.

Of equal scores the first goes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmchat.sampling.arrays import BoolArray, FloatArray, IntArray

_BINS = 1024
_LOWEST = -1e300
_FEW = 512
"""So many scores are sorted as quickly as they are counted."""


def smallest_set(scores: FloatArray, weights: FloatArray, goal: float) -> BoolArray:
    """The fewest highest scores whose weights sum to a goal; at least one, and all if they do not reach it.

    The scores are counted in bins of equal width. Bins above the goal are kept whole, and the one in
    which it is reached is divided anew until few enough are left to be sorted: linear time, whatever
    the weights.

    Args:
        scores: Shape (n,), finite.
        weights: Shape (n,), 0 or above.
        goal: What the weights must reach.

    Returns:
        Shape (n,), true for what is chosen.
    """
    places = np.arange(scores.size)
    found = scores
    while found.size > _FEW:
        low, high = found.min(), found.max()
        if low == high:
            break
        depths = high - found
        depths /= high - low
        depths *= _BINS
        bins = depths.astype(np.intp)
        reached = np.cumsum(np.bincount(bins, weights))
        last = min(int(np.searchsorted(reached, goal)), reached.size - 1)
        if last:
            goal -= reached[last - 1]
        inside = np.flatnonzero(bins == last)
        places, found, weights = places[inside], found[inside], weights[inside]
    order = np.argsort(-found, kind="stable")
    count = min(int(np.searchsorted(np.cumsum(weights[order]), goal)) + 1, order.size)
    least = found[order[count - 1]]
    chosen: BoolArray = scores >= least
    surplus = order[count:]
    chosen[places[surplus[found[surplus] == least]]] = False
    return chosen


def highest(scores: NDArray[np.floating], count: int) -> IntArray:
    """The positions, ascending, of the highest scores, -inf among them; all if there are no more than `count`."""
    if count >= scores.size:
        return np.arange(scores.size)
    places = _places_to_search(scores, count)
    # Ids that a vocabulary lacks are at -inf, from which no other score is a number of bins away.
    found = np.maximum(scores[places].astype(np.float64), _LOWEST)
    return places[np.flatnonzero(smallest_set(found, np.ones(found.size), count))]


def _places_to_search(scores: NDArray[np.floating], count: int) -> IntArray:
    """Positions, ascending and few, among which the `count` highest scores are, and all that equal them."""
    width = scores.size // (8 * count)
    if width <= 1:
        return np.arange(scores.size)
    # The count-th largest maximum of the blocks is reached by at least so many scores: few pass it.
    peaks = np.maximum.reduceat(scores, np.arange(0, scores.size, width))
    return np.flatnonzero(scores >= np.partition(peaks, -count)[-count])
