"""What holds for all logits and settings: the promises that make the sampler an instrument."""

from __future__ import annotations

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.chain import Position, run_chain, take_branch
from llmchat.sampling.history import TokenHistory
from llmchat.sampling.mirostat import limit_after
from tests.sampling.places import (
    END,
    NEUTRAL,
    NEWLINE,
    VOCABULARY,
    explain_place,
    logits_of,
    random_config,
    random_position,
    sample,
)

each_seed = pytest.mark.parametrize("seed", range(0, 400, 20))
UNFILTERED = {
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "typical_p": 1,
    "top_n_sigma": 0,
    "xtc_probability": 0,
    "mirostat_tau": 0,
    "dynatemp_range": 0,
}


@each_seed
def test_explaining_never_changes_a_token(seed: int) -> None:
    """Shown or hidden, whatever is explained in between: the same draw, the same history, the same logits."""
    for case in range(seed, seed + 20):
        logits, config, position = logits_of(case), random_config(case), random_position(case)
        before = sample(logits, config, position, case)
        for other in range(3):
            explain_place(logits, random_config(case + other), position, 5, case)
        assert sample(logits, config, position, case) == before
        assert logits.tolist() == logits_of(case).tolist()


@each_seed
def test_neutral_settings_are_plain_softmax(seed: int) -> None:
    """With every switch off, what belongs to the switches and the order of the stages have no effect."""
    for case in range(seed, seed + 20):
        neutral = random_config(case).changed(
            **UNFILTERED, temperature=1, repetition_penalty=1, frequency_penalty=0, presence_penalty=0,
            dry_multiplier=0, banned_tokens=(), min_new_tokens=0, do_sample=True,
        )  # fmt: skip
        logits = logits_of(case)
        (branch,) = run_chain(logits, neutral, random_position(case))
        exact = np.exp(logits.astype(np.float64))
        assert np.allclose(branch.candidates.probabilities(), exact / exact.sum(), atol=1e-12)


@each_seed
def test_a_filter_that_spares_the_drawn_token_does_not_change_it(seed: int) -> None:
    """In any order, with any of them: filters act only by removing the winner."""
    spared = 0
    for case in range(seed, seed + 20):
        config = random_config(case).changed(do_sample=True, dynatemp_range=0)
        logits, position = logits_of(case), random_position(case)
        free = sample(logits, config.changed(**UNFILTERED), position, case).token_id
        taken = take_branch(run_chain(logits, config, position), case, position.index)
        if free in taken.candidates.ids:
            spared += 1
            assert sample(logits, config, position, case).token_id == free
    assert spared > 0


@each_seed
def test_a_lower_temperature_never_draws_a_less_likely_token(seed: int) -> None:
    """With any penalties, and with filters that the temperature does not reach."""
    for case in range(seed, seed + 20):
        config = random_config(case).changed(
            do_sample=True, dynatemp_range=0, mirostat_tau=0, temperature_last=True, temperature=1
        )
        logits, position = logits_of(case), random_position(case)
        likeliness = {
            token: logit
            for branch in run_chain(logits, config, position)
            for token, logit in zip(branch.candidates.ids.tolist(), branch.candidates.logits.tolist(), strict=True)
        }
        heats = (5.0, 2.0, 1.0, 0.7, 0.3, 0.01)
        drawn = [sample(logits, config.changed(temperature=heat), position, case).token_id for heat in heats]
        found = [likeliness[token] for token in drawn]
        assert found == sorted(found)


@each_seed
def test_one_token_always_survives(seed: int) -> None:
    """No setting leaves nothing to draw, and no number leaves the finite ones."""
    for case in range(seed, seed + 20):
        for branch in run_chain(logits_of(case), random_config(case), random_position(case)):
            assert len(branch.candidates) >= 1
            assert np.isfinite(branch.candidates.logits).all()
            assert 0 < branch.share <= 1


@each_seed
def test_the_order_of_the_stages_is_kept(seed: int) -> None:
    """Each stage acts once, in the order of the settings; the shares of the branches sum to 1."""
    for case in range(seed, seed + 20):
        config = random_config(case)
        branches = run_chain(logits_of(case), config, random_position(case))
        assert sum(branch.share for branch in branches) == pytest.approx(1.0)
        names = [name for name, _ in branches[0].steps]
        if names[0] == "top_k":  # What it is sure to remove is gone before the others begin.
            names = names[1:]
        assert names == [name for name in config.stages if name != "xtc" or "xtc" in names]


def draw_on(ids: list[int], logprobs: list[float], config: GenerationConfig, length: int, seed: int) -> None:
    """Go on with a reply from what is stored of it: ids and final log-probabilities."""
    limit = limit_after(logprobs, lambda _: config)
    history = TokenHistory(
        VOCABULARY, [1, 2, 3, 1, 2, *ids], exempt=(END,), reply_length=len(ids), mirostat_limit=limit
    )
    while len(ids) < length:
        place = Position(len(ids), history, (END,), frozenset({4}), frozenset({NEWLINE}))
        drawn = sample(logits_of(len(ids) % 7), config, place, seed)
        history.add_drawn(drawn.token_id, drawn.final_logprob, config)
        ids.append(drawn.token_id)
        logprobs.append(drawn.final_logprob)


@each_seed
def test_a_branch_goes_on_as_the_run_did(seed: int) -> None:
    """Penalties, DRY and Mirostat stand at a branch where they stood in the run: two halves are one whole."""
    config = random_config(seed)
    whole: list[int] = []
    logprobs: list[float] = []
    draw_on(whole, logprobs, config, 40, seed)
    for start in (0, 1, 13, 39):
        again, numbers = whole[:start], logprobs[:start]
        draw_on(again, numbers, config, 40, seed)
        assert again == whole
        assert numbers == logprobs


def test_equal_settings_throw_equal_dice() -> None:
    """A comparison of a setting with itself shows no difference."""
    one, other = ([sample(logits_of(3), NEUTRAL, random_position(2), seed) for seed in range(50)] for _ in range(2))
    assert one == other
