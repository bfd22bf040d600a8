"""The tokens so far: as they are added one by one, at once, and looked at from earlier."""

from __future__ import annotations

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.history import TokenHistory

VOCABULARY = 12


def facts_of(history: TokenHistory) -> tuple[object, ...]:
    """All that the stages can know of a history."""
    counts = [part.tolist() for window in (0, 3, 10) for part in history.reply_counts(window)]
    distinct = [history.distinct(window).tolist() for window in (0, 3, 10)]
    return history.ids.tolist(), counts, distinct, history.repeats().tolist(), history.mirostat_limit


def test_one_by_one_is_the_same_as_at_once() -> None:
    """A reply that goes on from stored ids stands where the reply in one go stood, also beyond the first room."""
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, 3000).tolist()
    growing = TokenHistory(VOCABULARY, tokens[:10], exempt=(3,))
    for length in range(10, 3000):
        growing.add(tokens[length])
        if length % 250 == 0:
            whole = TokenHistory(VOCABULARY, tokens[: length + 1], exempt=(3,), reply_length=length - 9)
            assert facts_of(growing) == facts_of(whole)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_a_look_back_sees_the_earlier_state_and_changes_nothing(count: int) -> None:
    """The panel explains an earlier position: within, all is as it was there; after, all is as before."""
    rng = np.random.default_rng(2)
    config = GenerationConfig(mirostat_tau=3.0)
    history = TokenHistory(VOCABULARY, rng.integers(0, 4, 20).tolist(), exempt=(3,))
    states = [facts_of(history)]
    for token_id in rng.integers(0, 4, 7).tolist():
        history.add_drawn(token_id, -1.0, config)
        states.append(facts_of(history))
    with history.rewound(count):
        assert facts_of(history) == states[-1 - count]
    assert facts_of(history) == states[-1]
    history.add(2)
    with history.rewound(1):
        assert facts_of(history) == states[-1]


def test_an_error_in_a_look_back_leaves_the_history_whole() -> None:
    """A fault while explaining does not cost the reply its tokens."""
    history = TokenHistory(VOCABULARY, [1, 2, 3])
    with pytest.raises(ZeroDivisionError), history.rewound(2):
        _ = 1 / 0
    assert history.ids.tolist() == [1, 2, 3]
    assert history.distinct().tolist() == [1, 2, 3]
