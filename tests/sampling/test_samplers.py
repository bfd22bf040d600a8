"""The added samplers, each against its definition written out plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmchat.sampling.candidates import Candidates
from llmchat.sampling.history import TokenHistory
from llmchat.sampling.penalties import penalize_use
from llmchat.sampling.processors import (
    exclude_top_choices,
    keep_top_n_sigma,
    keep_typical,
    scale_temperature,
)
from tests.sampling.places import END, NEUTRAL, NEWLINE, VOCABULARY, at, left, logits_of, random_position


def candidates_of(seed: int, size: int = 200) -> Candidates:
    """Random candidates of which some are gone, one of them so unlikely that its probability is 0."""
    logits = logits_of(seed, size)
    logits[::7] = -np.inf
    logits[1] = -2000.0
    return Candidates.from_logits(logits)


# ── filters ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_typical_keeps_the_nearest_to_the_entropy(seed: int, p: float) -> None:
    """The shortest list, by nearness of surprise and entropy, that holds the mass; a probability of 0 does no harm."""
    candidates = candidates_of(seed)
    probabilities = candidates.probabilities().tolist()
    entropy = -sum(share * math.log(share) for share in probabilities if share)
    nearness = [abs(-math.log(share) - entropy) if share else math.inf for share in probabilities]
    kept, mass = [], 0.0
    for place in sorted(range(len(candidates)), key=nearness.__getitem__):
        kept.append(int(candidates.ids[place]))
        mass += probabilities[place]
        if mass >= p:
            break
    assert keep_typical(candidates, p).ids.tolist() == sorted(kept)
    assert keep_typical(candidates, 1.0) is candidates


def test_typical_is_the_same_on_large_vocabularies() -> None:
    """The partial selection agrees with a full sort, equal tokens included."""
    candidates = Candidates.from_logits(np.round(logits_of(3, 20_000), 1))
    log_probabilities = candidates.log_probabilities()
    strange = np.round(np.abs(log_probabilities - np.dot(np.exp(log_probabilities), log_probabilities)), 9)
    order = np.argsort(strange, kind="stable")
    for p in (0.01, 0.3, 0.95):
        count = int(np.argmax(np.cumsum(candidates.probabilities()[order]) >= p - 1e-9)) + 1
        assert keep_typical(candidates, p).ids.tolist() == np.sort(order[:count]).tolist()


@pytest.mark.parametrize("count", [0.01, 0.5, 1.0, 2.5])
def test_top_n_sigma_counts_deviations_of_the_candidates(count: float) -> None:
    """The deviation is that of the whole population of tokens that are left, whatever the temperature."""
    candidates = candidates_of(1).without([1])
    limit = candidates.logits.max() - count * math.sqrt(np.mean((candidates.logits - candidates.logits.mean()) ** 2))
    expected = candidates.ids[candidates.logits >= limit].tolist()
    assert keep_top_n_sigma(candidates, count).ids.tolist() == expected
    hot = candidates.with_logits(candidates.logits / 3)
    assert keep_top_n_sigma(hot, count).ids.tolist() == expected


def test_xtc_keeps_the_least_likely_of_the_top_unless_an_end_would_go() -> None:
    """Of equal tokens the last stays; where one of the stops would go, nothing does."""
    candidates = Candidates.from_logits(np.log([0.4, 0.3, 0.15, 0.15]))

    def kept(threshold: float, *stops: int) -> list[int]:
        ids: list[int] = exclude_top_choices(candidates, threshold, np.array(stops, dtype=np.int64)).ids.tolist()
        return ids

    assert kept(0.2) == [1, 2, 3]
    assert kept(0.1) == [3]
    assert kept(0.1, 3) == [3]
    assert kept(0.1, 0) == kept(0.1, 1, 2) == [0, 1, 2, 3]
    assert kept(0.31) == [0, 1, 2, 3]
    assert kept(0.0) == [3]


@pytest.mark.parametrize("stop", [NEWLINE, END])
def test_xtc_in_the_chain_acts_where_no_end_would_go(stop: int) -> None:
    """As in text-generation-webui; with xtc_spares_ends off it spares nothing, as in llama.cpp."""
    logits = np.full(VOCABULARY, -9.0, dtype=np.float32)
    logits[[2, 5, stop]] = 1.0, 1.0, 2.0
    config = NEUTRAL.changed(xtc_probability=1.0)
    whole = set(range(VOCABULARY))
    assert set(left(logits, config, random_position(1)).ids.tolist()) == whole
    bare = left(logits, config.changed(xtc_spares_ends=False), random_position(1))
    assert set(bare.ids.tolist()) == whole - {2, stop}
    logits[stop] = -9.0
    assert set(left(logits, config, random_position(1)).ids.tolist()) == whole - {2}


# ── temperature ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("temperature", "spread", "exponent"), [(1.0, 0.5, 1.0), (0.5, 2.0, 2.0), (0.8, 0.3, 0.0)])
def test_dynamic_temperature_follows_the_entropy(temperature: float, spread: float, exponent: float) -> None:
    """From T - r, at least 0, to T + r by the entropy's share of ln n, to the exponent."""
    candidates = candidates_of(2)
    probabilities = candidates.probabilities()
    entropy = -sum(share * math.log(share) for share in probabilities if share)
    low = max(temperature - spread, 0.0)
    expected = low + (temperature + spread - low) * (entropy / math.log(len(candidates))) ** exponent
    after = scale_temperature(candidates, temperature, spread, exponent)
    assert np.allclose(after.logits * expected, candidates.logits)


def test_dynamic_temperature_at_its_ends() -> None:
    """A single token stays; of equal ones the temperature is the highest; certainty gives no NaN."""
    single = Candidates(np.array([4]), np.array([2.0]))
    assert scale_temperature(single, 1.0, 0.5).logits.tolist() == [2.0]
    equal = Candidates.from_logits(np.full(8, 3.0))
    assert np.allclose(scale_temperature(equal, 1.0, 0.5).logits, 3.0 / 1.5)
    certain = scale_temperature(Candidates.from_logits(np.array([900.0, 0.0])), 0.5, 0.5)
    assert certain.ids[np.argmax(certain.logits)] == 0
    assert np.isfinite(certain.probabilities()).all()


@pytest.mark.parametrize("temperature", [1e-320, 1e-300, 1e-12])
def test_the_coldest_temperatures_stay_finite(temperature: float) -> None:
    """A temperature next to nothing takes the likeliest token, and makes no NaN."""
    after = scale_temperature(Candidates.from_logits(logits_of(3)), temperature)
    assert np.isfinite(after.logits).all()
    assert after.probabilities()[np.argmax(logits_of(3))] == 1.0


# ── penalties ────────────────────────────────────────────────────────────────


def test_frequency_and_presence_count_the_reply_alone() -> None:
    """A prompt is not the model's doing; repetition counts it all the same."""
    history = TokenHistory(VOCABULARY, [1, 1, 2], exempt=(9,))
    for token_id in (2, 3, 3, 9):
        history.add(token_id)
    zeros = Candidates.from_logits(np.ones(VOCABULARY))
    logits = penalize_use(zeros, history, frequency=0.5, presence=0.25).logits
    assert {token: 1 - float(logits[token]) for token in np.flatnonzero(logits != 1)} == {2: 0.75, 3: 1.25}
    repeated = penalize_use(zeros, history, repetition=2.0).logits
    assert np.flatnonzero(repeated != 1).tolist() == [1, 2, 3]


@pytest.mark.parametrize("window", [1, 2, 3, 5, 7, 100])
def test_the_window_is_the_last_tokens_of_all(window: int) -> None:
    """What lies before it is forgotten by all three penalties."""
    prompt, reply = [1, 2, 3], [4, 1, 4, 2]
    history = TokenHistory(VOCABULARY, prompt + reply, reply_length=len(reply))
    seen = (prompt + reply)[-window:]
    seen_of_reply = reply[-window:]
    assert history.distinct(window).tolist() == sorted(set(seen))
    ids, counts = history.reply_counts(window)
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == {
        token: seen_of_reply.count(token) for token in set(seen_of_reply)
    }


@pytest.mark.parametrize("window", [0, 4])
def test_penalties_on_what_is_left_are_those_on_all(window: int) -> None:
    """Moved behind a filter, a penalty finds its tokens among the survivors."""
    history = at(history=(0, 4, 9, 4, 30, 4)).history
    whole = Candidates.from_logits(logits_of(4))
    some = whole.without([0, 5, 6, 7, 39])
    for amounts in ((1.3, 0.0, 0.0), (1.0, 0.4, 0.2), (0.8, -0.4, 1.0)):
        expected = penalize_use(whole, history, *amounts, window=window).without([0, 5, 6, 7, 39])
        assert penalize_use(some, history, *amounts, window=window).logits.tolist() == expected.logits.tolist()


def test_banned_tokens_are_never_left() -> None:
    """A ban holds under every setting, and with end tokens that come too early."""
    config = NEUTRAL.changed(banned_tokens=(1, 2, 999_999), min_new_tokens=5)
    kept = left(logits_of(5), config, at(2, end_ids=(7,)))
    assert set(range(VOCABULARY)) - set(kept.ids.tolist()) == {1, 2, 7}
