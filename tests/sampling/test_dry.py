"""DRY against its definition by brute force, its bounds, and what ends a repetition."""

from __future__ import annotations

import numpy as np
import pytest

from llmchat.sampling.candidates import Candidates
from llmchat.sampling.history import TokenHistory
from llmchat.sampling.penalties import next_repeats, penalize_repeats
from llmchat.sampling.repeats import repeat_lengths, repeat_lengths_after

VOCABULARY = 8


def amounts_by_definition(
    ids: list[int], multiplier: float, base: float, allowed: int, breakers: set[int], window: int
) -> dict[int, float]:
    """What is taken from each token, tried out token by token: the longest match before each place."""
    ids = ids[-window:] if window else ids
    amounts: dict[int, float] = {}
    for place in range(len(ids) - 1):
        length = 0
        while length <= place and ids[place - length] == ids[-1 - length] and ids[-1 - length] not in breakers:
            length += 1
        token = ids[place + 1]
        if length >= allowed and token not in breakers:
            amounts[token] = max(amounts.get(token, 0.0), multiplier * base ** (length - allowed))
    return amounts


@pytest.mark.parametrize("seed", range(300))
def test_it_is_what_its_definition_says(seed: int) -> None:
    """On random repetitive texts, with and without breakers and window, each logit loses its amount."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, int(rng.integers(1, VOCABULARY)), int(rng.integers(0, 40))).tolist()
    breakers = set(rng.integers(0, VOCABULARY, int(rng.integers(0, 3))).tolist())
    multiplier, base = float(rng.uniform(0.1, 3)), float(rng.uniform(1, 3))
    allowed, window = int(rng.integers(1, 5)), int(rng.choice([0, 0, 1, 5, 20, 100]))
    zeros = Candidates.from_logits(np.zeros(VOCABULARY))
    history = TokenHistory(VOCABULARY, ids)
    taken = -penalize_repeats(zeros, history, multiplier, base, allowed, breakers, window).logits
    amounts = amounts_by_definition(ids, multiplier, base, allowed, breakers, window)
    assert np.allclose(taken, [amounts.get(token, 0.0) for token in range(VOCABULARY)])


@pytest.mark.parametrize("seed", range(50))
def test_lengths_token_by_token_are_those_of_the_whole(seed: int) -> None:
    """The cheap step gives what the whole computation gives, which is the definition's."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, 60)
    lengths = repeat_lengths(ids[:1])
    for end in range(2, 61):
        lengths = repeat_lengths_after(lengths, ids[:end])
        assert lengths.tolist() == repeat_lengths(ids[:end]).tolist()
    for place in range(59):
        same = 0
        while same <= place and ids[place - same] == ids[59 - same]:
            same += 1
        assert lengths[place] == same


def test_the_penalty_stays_finite() -> None:
    """A token repeated for ever is penalised up to the largest 32-bit number, and no further."""
    history = TokenHistory(4, [1] * 5000)
    taken = -penalize_repeats(Candidates.from_logits(np.zeros(4)), history, 2.0, 1.75, 2).logits
    assert 1e38 < taken[1] < 7e38
    assert taken.tolist() == [0, taken[1], 0, 0]
    steady = -penalize_repeats(Candidates.from_logits(np.zeros(4)), history, 2.0, 1.0, 2).logits
    assert steady[1] == 2.0


def test_exempt_tokens_break_a_repetition() -> None:
    """A chat prompt repeats what stands between its turns; an end token is neither penalised nor matched across."""
    tokens = [1, 2, 5, 3, 1, 2, 5, 3]
    assert next_repeats(TokenHistory(8, tokens), 2, 99) == {1: 4}
    assert next_repeats(TokenHistory(8, tokens, exempt=(5,)), 1, 99) == {1: 1}
    assert next_repeats(TokenHistory(8, [1, 2, 5, 1, 2], exempt=(5,)), 2, 99) == {}


def test_only_candidates_are_touched() -> None:
    """A token that another stage removed stays away."""
    candidates = Candidates(np.array([0, 3]), np.array([1.0, 1.0]))
    after = penalize_repeats(candidates, TokenHistory(8, [1, 2, 1]), 1.0, 1.75, 1)
    assert after.ids.tolist() == [0, 3]
    assert after.logits.tolist() == [1.0, 1.0]


def test_histories_that_are_too_short() -> None:
    """No token and one token repeat nothing."""
    for tokens in ([], [1]):
        assert next_repeats(TokenHistory(8, tokens), 1, 99) == {}
