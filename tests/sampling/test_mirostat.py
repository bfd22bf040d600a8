"""Mirostat 2 against its definition: the filter, the limit, and the same limit at a branch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.chain import Position
from llmchat.sampling.history import TokenHistory
from llmchat.sampling.mirostat import keep_mirostat, limit_after, next_limit
from tests.sampling.places import NEUTRAL, VOCABULARY, logits_of, sample

ON = NEUTRAL.changed(mirostat_tau=2.0, mirostat_eta=0.3)


def run(config: GenerationConfig, length: int) -> tuple[TokenHistory, list[float], list[int]]:
    """Draw a reply; gives its history, final log-probabilities and ids."""
    history = TokenHistory(VOCABULARY)
    logprobs, ids = [], []
    for index in range(length):
        drawn = sample(logits_of(index), config, Position(index, history), 7)
        history.add_drawn(drawn.token_id, drawn.final_logprob, config)
        logprobs.append(drawn.final_logprob)
        ids.append(drawn.token_id)
    return history, logprobs, ids


@pytest.mark.parametrize("limit", [0.0, 0.9, 1.0, 1.9, 2.0, 3.5, -4.0])
def test_tokens_above_the_limit_are_removed(limit: float) -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8 have 1, 2, 3 and 3 bits; the likeliest stays in any case."""
    candidates = Candidates.from_logits(np.log([0.25, 0.5, 0.125, 0.125]))
    bits = [2, 1, 3, 3]
    expected = [token for token in range(4) if bits[token] <= limit] or [1]
    assert keep_mirostat(candidates, limit + 1e-12).ids.tolist() == expected


def test_the_limit_follows_its_definition() -> None:
    """It begins at 2 τ and goes down by η (s - τ) with each token of s bits."""
    limit = next_limit(None, math.log(0.25), 5.0, 0.1)
    assert limit is not None and limit == pytest.approx(10.0 - 0.1 * (2.0 - 5.0))
    assert next_limit(limit, math.log(0.5), 5.0, 0.1) == pytest.approx(limit - 0.1 * (1.0 - 5.0))
    assert next_limit(limit, -math.inf, 5.0, 0.1) == limit
    assert next_limit(limit, math.log(0.5), 0.0, 0.1) is None


def test_the_limit_at_a_branch_is_that_of_the_run() -> None:
    """It can be found again from the probabilities and settings alone, sliders moved or not."""
    history, logprobs, ids = run(ON, 30)
    settings = [ON] * 10 + [ON.changed(mirostat_tau=0)] * 5 + [ON.changed(mirostat_tau=3)] * 15
    moved = TokenHistory(VOCABULARY)
    seen = []
    for token_id, logprob, config in zip(ids, logprobs, settings, strict=True):
        seen.append(moved.mirostat_limit)
        moved.add_drawn(token_id, logprob, config)
    for index, limit in enumerate(seen):
        assert limit_after(logprobs[:index], settings.__getitem__) == limit
        branch = TokenHistory(VOCABULARY, ids[:index], reply_length=index, mirostat_limit=limit)
        with moved.rewound(len(ids) - index):
            assert branch.mirostat_limit == moved.mirostat_limit
    assert seen[10] is not None and seen[11:16] == [None] * 5
    assert limit_after(logprobs, lambda _: ON) == pytest.approx(history.mirostat_limit)
    mean = sum(logprobs) / -math.log(2)
    assert history.mirostat_limit == pytest.approx(4.0 - 0.3 * (mean - 2.0 * len(ids)))


def test_it_steers_the_surprise_to_the_goal() -> None:
    """Over a long reply the mean surprise comes near τ, where the filters are off and have no say."""
    for goal in (1.0, 2.0):
        config = ON.changed(mirostat_tau=goal, top_k=1, min_p=1.0)
        _, logprobs, _ = run(config, 400)
        assert sum(logprobs) / len(logprobs) / -math.log(2) == pytest.approx(goal, abs=0.15)
