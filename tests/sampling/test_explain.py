"""The panel's numbers: exact, consistent with the draw, and about the tokens that matter."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from tests.sampling.places import (
    END,
    NEUTRAL,
    VOCABULARY,
    at,
    explain_place,
    logits_of,
    random_config,
    random_position,
    sample,
)


def test_each_removed_token_names_its_stage() -> None:
    """The first stage that takes a token away is the one that is shown."""
    logits = np.log(np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04], dtype=np.float32))
    config = NEUTRAL.changed(banned_tokens=(0,), top_k=4, top_p=0.8, min_p=0.5)
    rows = explain_place(logits, config, at(), 6).rows
    assert [row.token_id for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row.removed_by for row in rows] == ["bans", None, None, "min_p", "top_p", "top_k"]
    assert [row.final_probability for row in rows] == pytest.approx([0, 0.625, 0.375, 0, 0, 0])
    assert [row.probability for row in rows] == pytest.approx([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])


@pytest.mark.parametrize(
    ("config", "stage"),
    [
        (NEUTRAL.changed(temperature=0.0), "greedy"),
        (NEUTRAL.changed(do_sample=False), "greedy"),
        (NEUTRAL.changed(top_k=1), "top_k"),
        (NEUTRAL.changed(top_n_sigma=0.1), "top_n_sigma"),
        (NEUTRAL.changed(mirostat_tau=0.1), "mirostat"),
        (NEUTRAL.changed(xtc_probability=1.0, xtc_threshold=0.0), "xtc"),
        (NEUTRAL.changed(typical_p=0.0), "typical_p"),
    ],
)
def test_every_stage_has_its_name(config: GenerationConfig, stage: str) -> None:
    """What the panel says is a name of the order that the person sees."""
    explained = explain_place(logits_of(3), config, at(), VOCABULARY)
    assert explained.survivors == 1
    assert sorted(str(row.removed_by) for row in explained.rows) == sorted(["None", *[stage] * (VOCABULARY - 1)])
    assert stage in config.stages
    assert (explained.entropy, explained.effective_choices) == (0.0, 1.0)


@pytest.mark.parametrize("seed", range(300))
def test_the_numbers_agree_with_each_other_and_with_the_draw(seed: int) -> None:
    """Over random logits, settings and places: probabilities sum to 1, and the draw records what the panel shows."""
    logits, config, position = logits_of(seed), random_config(seed), random_position(seed)
    explained = explain_place(logits, config, position, VOCABULARY, seed)
    finals = {row.token_id: row.final_probability for row in explained.rows}
    assert sorted(finals) == list(range(VOCABULARY))
    assert sum(finals.values()) == pytest.approx(1.0)
    assert sum(row.probability for row in explained.rows) == pytest.approx(1.0)
    held = [row for row in explained.rows if row.removed_by is None]
    assert all((row.final_probability == 0) == (row.removed_by is not None) for row in explained.rows)
    assert explained.survivors == len(held)
    assert explained.mass == pytest.approx(sum(row.probability for row in held), abs=1e-6)
    assert explained.entropy == pytest.approx(-sum(p * math.log(p) for p in finals.values() if p), abs=1e-9)
    assert explained.effective_choices == pytest.approx(math.exp(explained.entropy))
    drawn = sample(logits, config, position, seed)
    assert explained.drawn == drawn.token_id
    assert finals[drawn.token_id] == pytest.approx(math.exp(drawn.final_logprob))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_the_likeliest_before_and_after_are_shown(seed: int, count: int) -> None:
    """Few rows hold the best of both, by falling probability of the model, each once."""
    logits, config, position = logits_of(seed), random_config(seed), random_position(seed)
    explained = explain_place(logits, config, position, count)
    everything = explain_place(logits, config, position, VOCABULARY).rows
    ids = [row.token_id for row in explained.rows]
    assert len(ids) == len(set(ids)) == count
    assert [row for row in everything if row.token_id in ids] == list(explained.rows)
    half = (count + 1) // 2
    assert {row.token_id for row in everything[:half]} <= set(ids)
    after = sorted((row for row in everything if row.final_probability), key=lambda row: -row.final_probability)
    assert {row.token_id for row in after[: count // 2]} <= set(ids)
    assert explained.drawn is None


def test_tokens_that_the_model_does_not_have_are_no_rows() -> None:
    """Ids beyond the tokenizer have -inf and are not candidates."""
    logits = logits_of(1)
    logits[5:] = -np.inf
    explained = explain_place(logits, NEUTRAL, at(), 12, 3)
    assert sorted(row.token_id for row in explained.rows) == [0, 1, 2, 3, 4]
    assert explained.survivors == 5
    assert explained.mass == pytest.approx(1.0)


def test_raw_numbers_of_a_draw() -> None:
    """Rank, log-probability and entropy are the model's own, whatever the chain does."""
    logits = logits_of(6)
    exact = np.exp(logits.astype(np.float64))
    exact /= exact.sum()
    for config in (NEUTRAL, random_config(3), NEUTRAL.changed(temperature=0.0)):
        drawn = sample(logits, config, at(), 1)
        assert drawn.raw_logprob == pytest.approx(math.log(exact[drawn.token_id]), abs=1e-5)
        assert drawn.rank == int((exact > exact[drawn.token_id]).sum())
        assert drawn.entropy == pytest.approx(-float((exact * np.log(exact)).sum()), abs=1e-5)
    masked = logits.copy()
    masked[20:] = -np.inf
    kept = exact[:20] / exact[:20].sum()
    drawn = sample(masked, NEUTRAL, at(), 1)
    assert drawn.entropy == pytest.approx(-float((kept * np.log(kept)).sum()), abs=1e-5)


def test_a_chosen_token_that_the_chain_removed() -> None:
    """The person may take what the dice cannot: its final probability is 0."""
    position = random_position(1)
    drawn = sample(logits_of(1), NEUTRAL.changed(banned_tokens=(END,)), position, 1, chosen=END)
    assert drawn.token_id == END
    assert drawn.final_logprob == -math.inf
    assert drawn.raw_logprob > -math.inf


def test_the_drawn_token_and_those_asked_for_are_always_listed() -> None:
    """However unlikely they are, among as many rows as were asked for, in their place by probability."""
    logits = logits_of(5)
    by_rank = np.argsort(-logits)
    wanted = int(by_rank[-1])
    for seed in range(50):
        explained = explain_place(logits, NEUTRAL, at(), 4, seed, also=(wanted,))
        ids = [row.token_id for row in explained.rows]
        assert len(ids) == 4 and explained.drawn in ids and wanted in ids and int(by_rank[0]) in ids
        assert ids == sorted(ids, key=lambda token_id: -logits[token_id])
