"""The published test vectors of other engines, and llmbuilder's own distributions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling import processors
from llmchat.sampling.arrays import FloatArray
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.chain import Position
from llmchat.sampling.history import TokenHistory
from llmchat.sampling.penalties import penalize_repeats, penalize_use
from tests.conftest import DATA
from tests.sampling.places import explain_place, sample

Vector = dict[str, Any]
VECTORS: list[Vector] = json.loads((DATA / "sampling_vectors.json").read_text())


def _penalties(candidates: Candidates, vector: Vector) -> Candidates:
    params, history = vector["params"], vector["history"]
    return penalize_use(
        candidates,
        TokenHistory(64, history, reply_length=len(history)),
        params["repeat"],
        params.get("frequency", 0.0),
        params.get("presence", 0.0),
    )


def _dry(candidates: Candidates, vector: Vector) -> Candidates:
    params = vector["params"]
    return penalize_repeats(
        candidates,
        TokenHistory(64, vector["history"]),
        params["multiplier"],
        params["base"],
        params["allowed_length"],
        params["breakers"],
        params["last_n"],
    )


STAGES: dict[str, Callable[[Candidates, Vector], Candidates]] = {
    "temperature": lambda candidates, vector: processors.scale_temperature(candidates, vector["params"]["t"]),
    "top_k": lambda candidates, vector: processors.keep_top_k(candidates, vector["params"]["k"]),
    "top_p": lambda candidates, vector: processors.keep_top_p(candidates, vector["params"]["p"]),
    "min_p": lambda candidates, vector: processors.keep_min_p(candidates, vector["params"]["m"]),
    "typical": lambda candidates, vector: processors.keep_typical(candidates, vector["params"]["p"]),
    "top_n_sigma": lambda candidates, vector: processors.keep_top_n_sigma(candidates, vector["params"]["n"]),
    "xtc": lambda candidates, vector: processors.exclude_top_choices(
        candidates, vector["params"]["threshold"], np.array([], dtype=np.int64)
    ),
    "penalties": _penalties,
    "dry": _dry,
}


def _candidates(vector: Vector) -> Candidates:
    if vector.get("logits") is not None:
        return Candidates.from_logits(np.array(vector["logits"], dtype=np.float64))
    with np.errstate(divide="ignore"):
        return Candidates.from_logits(np.log(np.array(vector["probs"], dtype=np.float64)))


def _spread(candidates: Candidates, values: FloatArray, size: int) -> FloatArray:
    full = np.zeros(size)
    full[candidates.ids] = values
    return full


NOT_OURS = {"epsilon", "eta", "top_h"}


def _of(*samplers: str) -> list[Vector]:
    return [vector for vector in VECTORS if vector["sampler"] in samplers]


def _name(vector: Vector) -> str:
    return f"{vector['sampler']}-{vector['params']}-{vector.get('history', '')}"


def test_every_vector_is_used_but_those_of_samplers_that_are_not_here() -> None:
    """No published case is passed over unseen."""
    used = {*STAGES, "xtc_marginal", "penalties_logits", "repetition_logits", "dry_penalty", "chain"}
    assert {vector["sampler"] for vector in VECTORS} == used | NOT_OURS


@pytest.mark.parametrize("vector", _of(*STAGES), ids=_name)
def test_one_stage_gives_the_published_distribution(vector: Vector) -> None:
    """Each sampler agrees with the engine whose test the vector comes from."""
    result = STAGES[vector["sampler"]](_candidates(vector), vector)
    got = _spread(result, result.probabilities(), len(vector["expected"]))
    assert np.allclose(got, vector["expected"], atol=2e-6)


@pytest.mark.parametrize("vector", _of("repetition_logits", "penalties_logits"), ids=_name)
def test_penalties_give_the_published_logits(vector: Vector) -> None:
    """Repetition counts each distinct token once, frequency each use; negative logits go down too."""
    assert np.allclose(_penalties(_candidates(vector), vector).logits, vector["expected"], atol=1e-6)


@pytest.mark.parametrize("vector", _of("dry_penalty"), ids=_name)
def test_dry_takes_the_published_amounts(vector: Vector) -> None:
    """What is taken from each logit, to the last bit, and nothing from the others."""
    zeros = Candidates.from_logits(np.zeros(12))
    taken = -_dry(zeros, vector).logits
    assert taken.tolist() == [vector["expected"].get(str(token_id), 0) for token_id in range(12)]


@pytest.mark.parametrize("vector", _of("xtc_marginal"), ids=_name)
def test_the_marginal_of_xtc_is_the_published_one(vector: Vector) -> None:
    """The dice left open, each token has its exact probability; so it is shown, and so the draw records it."""
    params = vector["params"]
    config = GenerationConfig(
        temperature=1, top_k=0, top_p=1, repetition_penalty=1,
        xtc_probability=params["probability"], xtc_threshold=params["threshold"],
    )  # fmt: skip
    logits = np.log(np.array(vector["probs"], dtype=np.float64))
    position = Position(0, TokenHistory(logits.size))
    explained = explain_place(logits, config, position, logits.size)
    rows = {row.token_id: row.final_probability for row in explained.rows}
    assert np.allclose([rows[token_id] for token_id in range(logits.size)], vector["expected"], atol=2e-6)
    draw = sample(logits, config, position, 1, chosen=0)
    assert np.exp(draw.final_logprob) == pytest.approx(vector["expected"][0], abs=2e-6)


@pytest.mark.parametrize("vector", _of("chain"), ids=lambda v: str(v["params"]))
def test_order_of_stages_matters_as_published(vector: Vector) -> None:
    """Temperature before truncation and after it give the two published results."""
    result = _candidates(vector)
    for name in vector["params"]["order"]:
        result = STAGES[name](result, vector)
    got = _spread(result, result.probabilities(), len(vector["expected"]))
    assert np.allclose(got, vector["expected"], atol=2e-6)


def test_llmbuilder_filtered_distributions() -> None:
    """The five distributions that llmbuilder would sample from, within 1e-5."""
    folder = DATA / "llmbuilder-2.0.0-tiny"
    cases = json.loads((folder / "reference.json").read_text())["sampling_distribution_after_filters"]["cases"]
    assert len(cases) == 5
    for case in cases:
        logits = np.load(folder / "logits" / f"prompt{case['prompt_index']}_float32.npy")[-1]
        candidates = processors.scale_temperature(Candidates.from_logits(logits), case["temperature"])
        candidates = processors.keep_top_k(candidates, case.get("top_k") or 0)
        candidates = processors.keep_top_p(candidates, case.get("top_p") or 1.0)
        order = candidates.ranked()
        assert candidates.ids[order].tolist() == case["kept_ids_by_prob"]
        assert np.allclose(candidates.probabilities()[order], case["probs"], atol=1e-5)


@pytest.mark.parametrize(
    "order", ["k", "p", "m", "kp", "km", "pk", "pm", "mk", "mp", "kpm", "kmp", "pkm", "pmk", "mkp", "mpk"]
)
@pytest.mark.parametrize(
    ("k", "p", "m"), [(100, 0.8, 0.1), (100, 0.0003, 1e-12), (9999, 0.0, 9997.9 / 9999), (100, 0.8, 0.5)]
)
def test_sizes_in_every_order_have_their_closed_form(order: str, k: int, p: float, m: float) -> None:
    """With probabilities proportional to the id, whole-number arithmetic gives the size after each stage."""
    size = 10_000
    with np.errstate(divide="ignore"):
        candidates = Candidates.from_logits(np.log(np.arange(size, dtype=np.float64)))
    low = 1
    for stage in order:
        if stage == "k":
            candidates = processors.keep_top_k(candidates, k)
            low = max(low, size - k)
        elif stage == "p":
            candidates = processors.keep_top_p(candidates, p)
            goal, total, low_p = p * sum(range(low, size)), 0, size
            while total < goal - 1e-6 or low_p == size:
                low_p -= 1
                total += low_p
            low = max(low, low_p)
        else:
            candidates = processors.keep_min_p(candidates, m)
            low = max(low, int(np.ceil(m * (size - 1) - 1e-6)))
        assert candidates.ids.tolist() == list(range(low, size))
