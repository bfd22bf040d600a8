"""Where a sequence already had what it ends with."""

from __future__ import annotations

import numpy as np

from llmchat.sampling.arrays import IntArray


def repeat_lengths(ids: IntArray) -> IntArray:
    """How many tokens up to each place are the same as the last tokens of all.

    The Z function (Gusfield 1997) of the reversed sequence, in linear time.

    Args:
        ids: Shape (n,).

    Returns:
        Shape (n,); 0 at the last place, which is not compared with itself.
    """
    values = ids[::-1].tolist()
    count = len(values)
    lengths = [0] * count
    left = right = 0
    for place in range(1, count):
        length = min(right - place, lengths[place - left]) if place < right else 0
        while place + length < count and values[length] == values[place + length]:
            length += 1
        lengths[place] = length
        if place + length > right:
            left, right = place, place + length
    return np.array(lengths[::-1], dtype=np.int64)


def repeat_lengths_after(lengths: IntArray, ids: IntArray) -> IntArray:
    """The same after one more token.

    Args:
        lengths: Those of all ids but the last, shape (n - 1,).
        ids: Shape (n,), n ≥ 1.
    """
    longer = np.zeros(ids.size, dtype=np.int64)
    longer[1:-1] = lengths[:-1]
    longer[:-1] += 1
    longer[:-1] *= ids[:-1] == ids[-1]
    return longer
