"""The highest of many scores, found without a sort, are those that a sort finds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llmchat.sampling.selection import highest, smallest_set

SIZE = 20_000
SHAPES = ("normal", "flat", "tied", "equal", "outliers", "steep")


def scores_of(shape: str, seed: int) -> NDArray[np.float64]:
    """Scores as models give them, and as they should not."""
    normal = np.random.default_rng(seed).standard_normal(SIZE)
    match shape:
        case "flat":
            return normal * 1e-12
        case "tied":
            return np.round(normal, 1)
        case "equal":
            return np.full(SIZE, 0.25)
        case "outliers":
            return np.where(normal > 2.5, 1e30, np.where(normal < -2.5, -1e30, normal))
        case "steep":
            return np.exp(normal * 20)
    return normal


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 1e-9, 0.1, 0.5, 0.9, 0.999999])
def test_the_smallest_set_is_the_head_of_the_sorted_list(shape: str, share: float) -> None:
    """For every distribution and mass, weights of 0 among them; of equal scores the first are taken."""
    for seed in range(3):
        scores = scores_of(shape, seed)
        weights = np.random.default_rng(seed).integers(0, 4, SIZE).astype(np.float64)
        goal = share * weights.sum() - 0.5
        order = np.argsort(-scores, kind="stable")
        count = int(np.argmax(np.cumsum(weights[order]) >= goal)) + 1
        assert np.flatnonzero(smallest_set(scores, weights, goal)).tolist() == sorted(order[:count].tolist())


def test_a_goal_that_is_never_reached_takes_all() -> None:
    """Where rounding leaves the sum just short of it, nothing is lost."""
    assert smallest_set(scores_of("normal", 1), np.ones(SIZE), SIZE + 1.0).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 12, 50, 1000, SIZE // 3, SIZE - 1, SIZE, SIZE + 1])
def test_the_highest_are_exactly_so_many(shape: str, count: int) -> None:
    """Ties do not make them more, and the first of equal scores stay."""
    scores = scores_of(shape, 5)
    order = np.argsort(-scores, kind="stable")
    assert highest(scores, count).tolist() == sorted(order[:count].tolist())
