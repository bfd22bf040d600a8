"""The whole chain against a plain one over the whole vocabulary, on logits of real models and random settings."""

from __future__ import annotations

import math
import os
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from llmchat.chat.generation_config import SAMPLER_ORDER, GenerationConfig
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.chain import Position, Prospect
from llmchat.sampling.explain import explain
from llmchat.sampling.history import TokenHistory
from tests.conftest import DATA
from tests.sampling import dense

SETS = ("smollm2", "qwen2")
"""Vocabularies of 49,152 and 151,936 tokens."""


class Real(NamedTuple):
    """Positions of a real text under a real model."""

    logits: NDArray[np.float16]
    """Shape (positions, vocab_size). Halves of floats have ties, as quantised models have them."""
    text: list[int]
    """The ids before and behind them."""
    ends: frozenset[int]
    newlines: frozenset[int]
    breakers: frozenset[int]


@cache
def real(name: str) -> Real:
    """Stored by `tests/data/make_real_logits.py`."""
    with np.load(DATA / "real-logits" / f"{name}.npz") as stored:
        sets = (frozenset(stored[part].tolist()) for part in ("ends", "newlines", "breakers"))
        return Real(stored["logits"], stored["text"].tolist(), *sets)


class Case(NamedTuple):
    """A place in a reply, and its settings."""

    logits: NDArray[np.float32]
    config: GenerationConfig
    place: dense.Place
    seed: int


def random_case(number: int) -> Case:
    """Settings of every kind, orders, bans and histories of all lengths."""
    dice = np.random.default_rng(number)
    source = real(SETS[int(dice.integers(len(SETS)))])
    logits = source.logits[int(dice.integers(len(source.logits)))].astype(np.float32)
    vocabulary = logits.size
    if dice.random() < 0.2:
        logits = logits + dice.standard_normal(vocabulary).astype(np.float32) / 8  # No ties.
    likely = np.argsort(-logits)[: int(dice.integers(1, 200))]

    def maybe(value: float, neutral: float, chance: float = 0.5) -> float:
        return value if dice.random() < chance else neutral

    def some_ids(most: int) -> list[int]:
        near = dice.choice(likely, int(dice.integers(0, min(most, likely.size) + 1)), replace=False)
        return [*near.tolist(), *dice.integers(0, vocabulary, int(dice.integers(0, most + 1))).tolist()]

    order = list(SAMPLER_ORDER)
    if dice.random() < 0.5:
        dice.shuffle(order)
    bans = some_ids(int(dice.choice([0, 3, 60, 2000]))) if dice.random() < 0.4 else []
    config = GenerationConfig(
        temperature=float(maybe(dice.choice([0.0, 0.2, 0.7, 1.3, 2.5, 5.0]), 1.0)),
        top_k=int(maybe(dice.choice([1, 2, 10, 50, 400, 30_000]), 0)),
        top_p=float(maybe(dice.choice([0.0, 0.3, 0.9, 0.95, 0.999]), 1.0)),
        min_p=float(maybe(dice.choice([0.001, 0.05, 0.3, 1.0]), 0.0, 0.3)),
        typical_p=float(maybe(dice.choice([0.0, 0.2, 0.7, 0.95]), 1.0, 0.2)),
        top_n_sigma=float(maybe(dice.choice([0.3, 1.0, 2.5]), 0.0, 0.2)),
        xtc_probability=float(maybe(dice.choice([0.3, 0.5, 1.0]), 0.0)),
        xtc_threshold=float(dice.choice([0.0, 0.02, 0.1, 0.3])),
        xtc_spares_ends=bool(dice.integers(2)),
        repetition_penalty=float(maybe(dice.choice([0.7, 1.1, 2.0]), 1.0)),
        frequency_penalty=float(maybe(dice.choice([-0.5, 0.3, 2.0]), 0.0, 0.3)),
        presence_penalty=float(maybe(dice.choice([-0.5, 0.3, 2.0]), 0.0, 0.3)),
        penalty_window=int(maybe(dice.choice([1, 7, 64, 900]), 0, 0.4)),
        dry_multiplier=float(maybe(dice.choice([0.4, 0.8, 3.0]), 0.0, 0.4)),
        dry_base=float(dice.choice([1.0, 1.2, 1.75, 3.0])),
        dry_allowed_length=int(dice.choice([1, 2, 4])),
        dynatemp_range=float(maybe(dice.choice([0.2, 1.0]), 0.0, 0.2)),
        dynatemp_exponent=float(dice.choice([0.5, 1.0, 2.0])),
        mirostat_tau=float(maybe(dice.choice([1.0, 3.0, 6.0]), 0.0, 0.15)),
        min_new_tokens=int(maybe(20, 0, 0.3)),
        do_sample=dice.random() > 0.05,
        banned_tokens=tuple(sorted(set(bans))),
        temperature_last=bool(dice.integers(2)),
        sampler_order=tuple(order),
    )
    prompt, reply = history(dice, source, likely)
    limit = float(dice.uniform(0.1, 10)) if config.mirostat_tau and dice.random() < 0.7 else None
    place = dense.Place(len(reply), prompt, reply, source.ends, source.breakers, source.newlines, limit)
    return Case(logits, config, place, int(dice.integers(2**40)))


def history(dice: np.random.Generator, source: Real, likely: NDArray[np.intp]) -> tuple[list[int], list[int]]:
    """A prompt and a reply of real text, with repeats, and with tokens that are likely next."""
    length = int(dice.choice([1, 2, 5, 40, 300, 1500]))
    start = int(dice.integers(0, max(len(source.text) - length, 1)))
    said = source.text[start : start + length]
    if dice.random() < 0.5:
        said = said + likely[: int(dice.integers(1, 30))].tolist() + said[-int(dice.integers(1, 12)) :]
    if dice.random() < 0.3:
        said = [*said, int(dice.choice(sorted(source.ends)))]
    cut = int(dice.integers(0, len(said) + 1))
    return said[:cut], said[cut:]


def check(case: Case) -> None:
    """No survivor, probability, removing stage or drawn id differs."""
    place, logits = case.place, case.logits
    known = TokenHistory(
        logits.size,
        [*place.prompt, *place.reply],
        exempt=place.ends,
        reply_length=len(place.reply),
        mirostat_limit=place.limit,
    )
    position = Position(place.index, known, tuple(sorted(place.ends)), place.breakers, place.newlines)
    prospect = Prospect.of(logits, case.config, position)
    expected = dense.ways(logits, case.config, place)
    assert len(prospect.branches) == len(expected)
    for branch, way in zip(prospect.branches, expected, strict=True):
        assert branch.share == pytest.approx(way.share, abs=1e-12)
        there = np.flatnonzero(way.scores > dense.GONE)
        assert np.array_equal(branch.candidates.ids, there)
        assert np.abs(branch.candidates.probabilities() - dense.softmax(way.scores)[there]).max() <= 1e-9
    check_explanation(prospect, expected, dense.softmax(logits.astype(np.float64)), case.seed)
    check_draw(prospect, expected, logits.astype(np.float64), case.seed)
    assert prospect.throw(case.seed) == dense.drawn(expected, case.seed, place.index)


def check_draw(prospect: Prospect, expected: list[dense.Way], scores: dense.Scores, seed: int) -> None:
    """What is kept of a token, drawn or chosen: its probabilities, its rank, the entropy."""
    raw = dense.softmax(scores)
    mixture = np.sum([way.share * dense.softmax(way.scores) for way in expected], axis=0)
    entropy = -float((raw * np.log(np.maximum(raw, 1e-300))).sum())
    for chosen in (None, int(np.argsort(-scores)[7])):
        draw = prospect.draw(seed, chosen)
        assert math.exp(draw.raw_logprob) == pytest.approx(raw[draw.token_id], abs=1e-9)
        assert math.exp(draw.final_logprob) == pytest.approx(mixture[draw.token_id], abs=1e-9)
        assert draw.rank == int((scores > scores[draw.token_id]).sum())
        assert draw.entropy == pytest.approx(entropy, abs=1e-6)


def check_explanation(prospect: Prospect, expected: list[dense.Way], raw: dense.Scores, seed: int) -> None:
    """What the panel says: probabilities before and after the chain, and the stage that removed each token."""
    mixture = np.sum([way.share * dense.softmax(way.scores) for way in expected], axis=0)
    explanation = explain(prospect, 12, seed)
    last = expected[-1]
    held = np.any([way.scores > dense.GONE for way in expected], axis=0)
    assert explanation.mass == pytest.approx(raw[held].sum(), abs=1e-9)
    for row in explanation.rows:
        assert row.probability == pytest.approx(raw[row.token_id], abs=1e-9)
        assert row.final_probability == pytest.approx(mixture[row.token_id], abs=1e-9)
        removers = [stage for stage, gone in last.removed.items() if row.token_id in gone]
        assert row.removed_by == (removers[0] if removers and not mixture[row.token_id] else None)


CASES = 200
SHARES = 8


@pytest.mark.parametrize("share", range(SHARES))
def test_the_chain_equals_its_definitions_on_real_vocabularies(share: int) -> None:
    """Whatever was removed, banned or said before; LLMCHAT_DENSE_CASES asks for more of them."""
    count = int(os.environ.get("LLMCHAT_DENSE_CASES", CASES))
    for number in range(share, count, SHARES):
        try:
            check(random_case(number))
        except AssertionError as error:
            raise AssertionError(f"case {number}: {error}") from None


@pytest.mark.parametrize("name", SETS)
def test_a_candidate_is_found_at_its_own_place_whatever_was_removed(name: str) -> None:
    """50 of a real vocabulary are left and 120 ids asked for, of which most are not there."""
    dice = np.random.default_rng(5)
    size = real(name).logits.shape[1]
    for _ in range(100):
        ids = np.sort(dice.choice(size, 50, replace=False))
        asked = np.unique(np.concatenate([dice.choice(size, 100, replace=False), dice.choice(ids, 20, replace=False)]))
        places = Candidates(ids, np.zeros(50)).positions(asked)
        assert ids[places].tolist() == sorted(set(ids.tolist()) & set(asked.tolist()))
