"""The chain as a whole: determinism, neutral settings, bans, faults, and the draw's distribution."""

from __future__ import annotations

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.errors import GenerationError
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.chain import Position, Prospect, run_chain, take_branch
from llmchat.sampling.draw import draw, uniform_noise, xtc_number
from llmchat.sampling.explain import explain
from llmchat.sampling.history import TokenHistory
from llmchat.sampling.processors import keep_top_k, keep_top_p
from tests.sampling.places import NEUTRAL, VOCABULARY, at, explain_place, left, logits_of, sample


def test_neutral_settings_are_plain_softmax() -> None:
    """Nothing is changed when every parameter is at its neutral value."""
    logits = logits_of(1)
    exact = np.exp(logits.astype(np.float64))
    assert np.allclose(left(logits, NEUTRAL, at()).probabilities(), exact / exact.sum(), atol=1e-12)


@pytest.mark.parametrize(
    "config",
    [NEUTRAL.changed(temperature=0.0), NEUTRAL.changed(do_sample=False), NEUTRAL.changed(top_k=1)],
    ids=["temperature 0", "do_sample off", "top-k 1"],
)
def test_greedy_settings_take_the_lowest_id_of_the_highest_logit(config: GenerationConfig) -> None:
    """The three ways to say greedy agree, on ties too, whatever the seed."""
    logits = np.array([1.0, 3.0, 3.0, 2.0], dtype=np.float32)
    position = Position(0, TokenHistory(4))
    assert {sample(logits, config, position, seed).token_id for seed in range(50)} == {1}


def test_greedy_comes_after_penalties() -> None:
    """A repetition penalty can move the greedy choice."""
    logits = np.array([1.0, 3.0, 2.9], dtype=np.float32)
    position = Position(0, TokenHistory(3, [1]))
    assert sample(logits, NEUTRAL.changed(do_sample=False, repetition_penalty=1.3), position, 0).token_id == 2


def test_end_tokens_are_banned_before_min_new_tokens_only() -> None:
    """Every end token is out of reach while the reply is too short, and back after it."""
    logits = np.array([0.0, 9.0, 8.0], dtype=np.float32)
    config = NEUTRAL.changed(do_sample=False, min_new_tokens=2)
    assert sample(logits, config, Position(1, TokenHistory(3), (1, 2)), 0).token_id == 0
    assert sample(logits, config, Position(2, TokenHistory(3), (1, 2)), 0).token_id == 1


def test_end_tokens_are_not_penalised() -> None:
    """A chat prompt is full of end tokens; a penalty on them would keep replies from ending."""
    config = NEUTRAL.changed(repetition_penalty=2.0)
    logits = logits_of(2)
    position = at(history=(3, 3, 5), end_ids=(3,))
    kept = left(logits, config, position).logits
    assert kept[3] == logits[3]
    assert kept[5] != logits[5]


def test_masked_tokens_are_never_drawn() -> None:
    """Ids beyond the tokenizer have -inf and stay out at any temperature."""
    logits = logits_of(3)
    logits[20:] = -np.inf
    config = NEUTRAL.changed(temperature=5.0)
    assert max(sample(logits, config, at(index), 7).token_id for index in range(300)) < 20


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_stop_the_reply(bad: float) -> None:
    """A broken model gives an error in words, not token 0 for ever."""
    logits = logits_of(4)
    logits[7] = bad
    with pytest.raises(GenerationError, match="not finite"):
        run_chain(logits, NEUTRAL, at())


def test_all_tokens_masked_stops_the_reply() -> None:
    """No survivor at all is an error, not a crash."""
    with pytest.raises(GenerationError):
        run_chain(np.full(4, -np.inf, dtype=np.float32), NEUTRAL, Position(0, TokenHistory(4)))


def test_top_k_keeps_exactly_k_of_equal_tokens() -> None:
    """Ties go to the lower id, in small and in large vocabularies."""
    for size in (5, 50_000):
        kept = keep_top_k(Candidates.from_logits(np.zeros(size)), 3)
        assert kept.ids.tolist() == [0, 1, 2]


def test_top_k_agrees_with_a_full_sort() -> None:
    """The partial selection is exact on large vocabularies with many ties."""
    rng = np.random.default_rng(5)
    for k in (1, 7, 50, 1000):
        logits = np.round(rng.standard_normal(30_000) * 3, 2)
        expected = np.sort(np.argsort(-logits, kind="stable")[:k])
        assert keep_top_k(Candidates.from_logits(logits), k).ids.tolist() == expected.tolist()


def test_top_p_agrees_with_a_full_sort_on_flat_distributions() -> None:
    """A nucleus larger than the ranked head is found all the same."""
    logits = np.random.default_rng(6).standard_normal(20_000) * 0.1
    order = np.argsort(-logits, kind="stable")
    cumulative = np.cumsum(np.exp(logits[order]) / np.exp(logits).sum())
    for p in (0.001, 0.1, 0.9, 0.9999):
        count = int(np.argmax(cumulative >= p - 1e-9)) + 1
        assert keep_top_p(Candidates.from_logits(logits), p).ids.tolist() == np.sort(order[:count]).tolist()


def test_a_shift_of_all_logits_changes_nothing() -> None:
    """Only differences of logits matter, for every stage but the repetition penalty."""
    config = GenerationConfig(repetition_penalty=1.0, min_p=0.02)
    for seed in range(20):
        logits = logits_of(seed)
        here, there = (left(row, config, at()) for row in (logits, logits + 64))
        assert here.ids.tolist() == there.ids.tolist()


def test_input_logits_are_left_alone() -> None:
    """No stage writes into the engine's logits."""
    logits = logits_of(8)
    before = logits.copy()
    run_chain(logits, GenerationConfig(repetition_penalty=1.5), at(history=(1, 2)))
    assert np.array_equal(logits, before)


DISTRIBUTIONS = {
    "plain": NEUTRAL,
    "temperature 0.3": NEUTRAL.changed(temperature=0.3),
    "temperature 1.5": NEUTRAL.changed(temperature=1.5),
    "top-k": NEUTRAL.changed(top_k=7),
    "top-p": NEUTRAL.changed(top_p=0.8),
    "min-p": NEUTRAL.changed(min_p=0.1),
    "repetition": NEUTRAL.changed(repetition_penalty=1.3),
    "frequency": NEUTRAL.changed(frequency_penalty=0.7),
    "presence": NEUTRAL.changed(presence_penalty=-1.0),
    "DRY": NEUTRAL.changed(dry_multiplier=1.0),
    "typical": NEUTRAL.changed(typical_p=0.7),
    "top-nσ": NEUTRAL.changed(top_n_sigma=1.0),
    "dynamic temperature": NEUTRAL.changed(dynatemp_range=0.8),
    "Mirostat": NEUTRAL.changed(mirostat_tau=1.5),
    "XTC": NEUTRAL.changed(xtc_probability=0.4),
    "XTC before the temperature": NEUTRAL.changed(xtc_probability=0.6, temperature=0.5, temperature_last=True),
    "combined": GenerationConfig(top_k=20, top_p=0.95),
}
# The 99.99 % points of chi-square by degrees of freedom come from the Wilson-Hilferty approximation.
NORMAL_QUANTILE = 3.719


# The dice know no settings, so that of the positions the plain draw, and the one that throws dice of its own, show all.
@pytest.mark.parametrize(
    ("vary", "config"),
    [
        pytest.param(vary, config, id=f"{vary}-{name}")
        for name, config in DISTRIBUTIONS.items()
        for vary in (("seed", "index") if name in ("plain", "XTC") else ("seed",))
    ],
)
def test_draws_follow_the_stated_distribution(vary: str, config: GenerationConfig) -> None:
    """Chi-square over 20,000 draws, along seeds and along positions of one reply."""
    logits, position = logits_of(11), at(history=(0, 4, 9, 3, 0, 4))
    branches = run_chain(logits, config, position)
    dice = [(seed, 3) if vary == "seed" else (42, seed) for seed in range(20_000)]
    draws = [draw(take_branch(branches, *throw).candidates, *throw) for throw in dice]
    explained = explain_place(logits, config, position, VOCABULARY)
    expected = np.zeros(VOCABULARY)
    for row in explained.rows:
        expected[row.token_id] = row.final_probability * 20_000
    observed = np.bincount(draws, minlength=VOCABULARY)
    assert observed[expected == 0].sum() == 0
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1e-9))
    freedom = max(len(expected) - 1, 1)
    limit = freedom * (1 - 2 / (9 * freedom) + NORMAL_QUANTILE * (2 / (9 * freedom)) ** 0.5) ** 3
    assert float(((observed - expected) ** 2 / expected).sum()) < limit


def test_noise_is_a_pure_function_of_seed_index_and_id() -> None:
    """The dice are the same whichever other tokens are still in."""
    few = uniform_noise(9, 4, np.array([3, 17]))
    many = uniform_noise(9, 4, np.arange(50))
    assert few.tolist() == many[[3, 17]].tolist()
    assert not np.array_equal(many, uniform_noise(9, 5, np.arange(50)))
    assert not np.array_equal(many, uniform_noise(10, 4, np.arange(50)))


def test_largest_seed_and_index_work() -> None:
    """No overflow at the ends of the ranges."""
    noise = uniform_noise(2**63 - 1, 10**9, np.array([0, 2**31]))
    assert ((noise > 0) & (noise < 1)).all()


def test_noise_is_pinned() -> None:
    """Old transcripts replay only while these numbers stay as they are."""
    assert uniform_noise(8417, 3, np.array([0, 1, 49151])).tolist() == PINNED
    assert xtc_number(8417, 3) == PINNED_XTC


PINNED = [0.46351820712659625, 0.6188923876494405, 0.899467058806384]
PINNED_XTC = 0.8111422679671101


def test_a_filter_that_spares_the_drawn_token_does_not_change_it() -> None:
    """Gumbel noise per token: truncation acts only by removing the winner."""
    for seed in range(300):
        logits = logits_of(seed)
        free = sample(logits, NEUTRAL, at(seed), seed).token_id
        kept = left(logits, NEUTRAL.changed(top_k=10, top_p=0.9), at(seed))
        if free in kept.ids:
            assert draw(kept, seed, seed) == free


def test_a_lower_temperature_never_draws_a_less_likely_token() -> None:
    """The winner is the highest of logit / T + noise, so a smaller T favours the likelier."""
    for seed in range(300):
        logits = logits_of(seed)
        drawn = [sample(logits, NEUTRAL.changed(temperature=t), at(seed), seed).token_id for t in (2.0, 1.0, 0.7, 0.3)]
        likeliness = [float(logits[token]) for token in drawn]
        assert likeliness == sorted(likeliness)


@pytest.mark.parametrize("seed", range(40))
def test_what_a_top_k_is_sure_to_remove_changes_nothing_by_going_first(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Survivors, their logits and the stage that removed each token are those of the stages in their order."""
    dice = np.random.default_rng(seed)
    size = 3_000
    logits = np.round(dice.standard_normal(size) * 2, 1 if seed % 2 else 9).astype(np.float32)
    logits[dice.integers(0, size, 50 * (seed % 3))] = -np.inf
    if seed % 7 == 0:
        logits[30:] = -np.inf  # Fewer than top-k asks for.
    used = dice.choice(size, 60).tolist() + np.argsort(-logits)[:20].tolist()
    history = TokenHistory(size, used, exempt=(5,), reply_length=40)
    config = GenerationConfig(
        top_k=int(dice.integers(1, 80)),
        repetition_penalty=float(dice.choice([0.7, 1.0, 1.3])),
        presence_penalty=float(dice.choice([-1.0, 0.0, 1.0])),
        dry_multiplier=float(dice.choice([0.0, 0.8])),
        banned_tokens=tuple(np.argsort(-logits)[: int(dice.integers(0, 9))].tolist()),
        min_new_tokens=100 * (seed % 2),
    )
    position = Position(3, history, (5, int(np.argmax(logits))))
    prospect = Prospect.of(logits, config, position)
    assert prospect.branches[0].steps[0][0] == "top_k"
    with monkeypatch.context() as patch:
        patch.setattr("llmchat.sampling.chain.preselect", lambda *_: None)
        plain = Prospect.of(logits, config, position)
    for one, other in zip(prospect.branches, plain.branches, strict=True):
        assert one.candidates.ids.tolist() == other.candidates.ids.tolist()
        assert one.candidates.logits.tolist() == other.candidates.logits.tolist()
    assert explain(prospect, 40, seed) == explain(plain, 40, seed)
