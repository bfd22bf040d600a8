"""The published test vectors of other engines, and llmbuilder's own distributions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llmchat.sampling import processors
from llmchat.sampling.candidates import Candidates, FloatArray
from llmchat.sampling.history import TokenHistory
from tests.conftest import DATA

Vector = dict[str, Any]
VECTORS: list[Vector] = json.loads((DATA / "sampling_vectors.json").read_text())


def _penalties(candidates: Candidates, vector: Vector) -> Candidates:
    history = TokenHistory(64, vector["history"])
    return processors.penalize_repetition(candidates, history, vector["params"]["repeat"])


STAGES: dict[str, Callable[[Candidates, Vector], Candidates]] = {
    "temperature": lambda candidates, vector: processors.scale_temperature(candidates, vector["params"]["t"]),
    "top_k": lambda candidates, vector: processors.keep_top_k(candidates, vector["params"]["k"]),
    "top_p": lambda candidates, vector: processors.keep_top_p(candidates, vector["params"]["p"]),
    "min_p": lambda candidates, vector: processors.keep_min_p(candidates, vector["params"]["m"]),
    "repetition_logits": _penalties,
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


def _is_repetition_only(vector: Vector) -> bool:
    params = vector["params"]
    return bool(vector["sampler"] == "penalties" and params["frequency"] == 0 and params["presence"] == 0)


SINGLE = [v for v in VECTORS if v["sampler"] in ("temperature", "top_k", "top_p", "min_p")]


@pytest.mark.parametrize("vector", SINGLE, ids=lambda v: f"{v['sampler']}-{v['params']}")
def test_one_stage_gives_the_published_distribution(vector: Vector) -> None:
    """Each sampler agrees with the engine whose test the vector comes from."""
    result = STAGES[vector["sampler"]](_candidates(vector), vector)
    got = _spread(result, result.probabilities(), len(vector["expected"]))
    assert np.allclose(got, vector["expected"], atol=2e-6)


@pytest.mark.parametrize("vector", [v for v in VECTORS if _is_repetition_only(v)], ids=lambda v: str(v["history"]))
def test_repetition_penalty_gives_the_published_distribution(vector: Vector) -> None:
    """The penalty counts each distinct token once and moves negative logits down."""
    result = _penalties(_candidates(vector), vector)
    got = _spread(result, result.probabilities(), len(vector["expected"]))
    assert np.allclose(got, vector["expected"], atol=2e-6)


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["sampler"] == "repetition_logits"], ids=str)
def test_repetition_penalty_on_logits(vector: Vector) -> None:
    """The logits themselves are those of the published vector."""
    assert _penalties(_candidates(vector), vector).logits.tolist() == vector["expected"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["sampler"] == "chain"], ids=lambda v: str(v["params"]))
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
