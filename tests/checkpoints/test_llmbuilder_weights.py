"""State dicts in every dress, and those that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmchat.checkpoints.llmbuilder_weights import Weights, check_shapes, dimensions, find_state, read_weights
from llmchat.checkpoints.torch_file import load_torch_file
from llmchat.errors import ModelLoadError
from llmchat.models.llmbuilder import llmbuilder_plan

PATH = Path("model.pt")
State = dict[str, Any]


@pytest.fixture
def state() -> State:
    """A sound model of 2 layers: vocabulary 10, 6 positions, width 8."""
    generator = torch.Generator().manual_seed(5)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    made: State = {"token_embedding.weight": numbers(10, 8), "position_embedding.weight": numbers(6, 8)}
    for layer in range(2):
        made |= {
            f"blocks.{layer}.ln1.weight": numbers(8),
            f"blocks.{layer}.ln1.bias": numbers(8),
            f"blocks.{layer}.attn.causal_mask": torch.ones(1, 1, 6, 6).tril(),
            f"blocks.{layer}.attn.qkv_proj.weight": numbers(24, 8),
            f"blocks.{layer}.attn.out_proj.weight": numbers(8, 8),
            f"blocks.{layer}.attn.out_proj.bias": numbers(8),
            f"blocks.{layer}.ln2.weight": numbers(8),
            f"blocks.{layer}.ln2.bias": numbers(8),
            f"blocks.{layer}.mlp.fc1.weight": numbers(32, 8),
            f"blocks.{layer}.mlp.fc1.bias": numbers(32),
            f"blocks.{layer}.mlp.fc2.weight": numbers(8, 32),
            f"blocks.{layer}.mlp.fc2.bias": numbers(8),
        }
    made |= {"ln_f.weight": numbers(8), "ln_f.bias": numbers(8)}
    made["lm_head.weight"] = made["token_embedding.weight"]
    return made


def stored(payload: object) -> object:
    """A payload as it comes back from a file of torch's."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model.pt"
        torch.save(payload, path)
        return load_torch_file(path, lambda stage, fraction: None).payload


def opened(payload: object) -> Weights:
    """Save a payload, read and check it as the loader does."""
    weights = read_weights(stored(payload), PATH)
    vocab_size, positions, layers, dim = dimensions(weights, PATH)
    check_shapes(
        weights,
        llmbuilder_plan(vocab_size=vocab_size, context_length=positions, n_layers=layers, n_heads=2, dim=dim),
        PATH,
    )
    return weights


def refusal(payload: object) -> str:
    """The one line that a payload is refused with."""
    with pytest.raises(ModelLoadError) as caught:
        opened(payload)
    assert len(caught.value.message) < 400
    return caught.value.message


@pytest.mark.parametrize(
    "dress",
    [
        lambda state: state,
        lambda state: {"model_state_dict": state},
        lambda state: {"state_dict": state, "config": {}},
        lambda state: {"model": state},
        lambda state: {"model": "a name", "state_dict": None, "model_state_dict": state},
        lambda state: {"model_state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"model_state_dict": {f"_orig_mod.module.{name}": value for name, value in state.items()}},
        lambda state: {"model_state_dict": {name: torch.nn.Parameter(value) for name, value in state.items()}},
    ],
    ids=["bare", "model_state_dict", "state_dict", "model", "distraction", "DDP", "compiled DDP", "parameters"],
)
def test_state_dict_is_found(state: State, dress: Callable[[State], object]) -> None:
    """Every envelope and every wrapper's prefix gives the same tensors, without masks and gradients."""
    tensors = opened(dress(state)).tensors
    assert set(tensors) == {name for name in state if "causal_mask" not in name and name != "lm_head.weight"}
    assert all(np.array_equal(tensor.numbers, state[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("payload", [None, 5, [], "x", {}, {"model_state_dict": {}}, {1: 2}, torch.zeros(3)])
def test_other_payloads_are_refused(payload: object) -> None:
    """Whatever else a file may hold is no model, and is no crash either."""
    assert find_state(payload) is None
    assert "holds no llmbuilder model" in refusal(payload)


def test_equal_output_layer_counts_as_tied(state: State) -> None:
    """Some writers lose the sharing but not the values; the copy is not kept."""
    state["lm_head.weight"] = state["lm_head.weight"].clone()
    assert "lm_head.weight" not in opened(state).tensors


def test_own_output_layer_is_kept(state: State) -> None:
    """SimpleTransformer's output layer is its own."""
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    assert np.array_equal(opened(state).tensors["lm_head.weight"].numbers, state["lm_head.weight"])
    state["lm_head.weight"] = torch.zeros(9, 8)
    assert "lm_head.weight has shape (9, 8), but (10, 8) is needed" in refusal(state)


def test_missing_tensors_are_counted(state: State) -> None:
    """The first missing tensor is named, and how many more there are."""
    del state["ln_f.bias"]
    assert refusal(state) == "model.pt is incomplete: it lacks ln_f.bias."
    del state["blocks.1.mlp.fc2.bias"]
    assert refusal(state) == "model.pt is incomplete: it lacks blocks.1.mlp.fc2.bias and 1 more."
    del state["position_embedding.weight"]
    assert refusal(state) == "model.pt is incomplete: it lacks position_embedding.weight."


def test_gap_in_the_layers(state: State) -> None:
    """A layer number far away does not make thousands of layers."""
    state["blocks.999999.ln1.weight"] = torch.zeros(8)
    assert "it lacks blocks.2.ln1.weight" in refusal(state)


def test_model_without_layers(state: State) -> None:
    """Embeddings alone are no model."""
    bare = {name: value for name, value in state.items() if not name.startswith("blocks.")}
    assert "it lacks blocks.0.ln1.weight" in refusal(bare)


def test_unknown_tensors_are_refused(state: State) -> None:
    """Weights that would be left out could change what the model says."""
    state["blocks.0.attn.qkv_proj.bias"] = torch.zeros(24)
    assert refusal(state).endswith("does not have: blocks.0.attn.qkv_proj.bias.")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("blocks.1.attn.qkv_proj.weight", (24, 7), "has shape (24, 7), but (24, 8) is needed"),
        ("blocks.0.mlp.fc1.bias", (31,), "has shape (31,), but (32,) is needed"),
        ("token_embedding.weight", (10,), "has shape (10,), but must be a matrix"),
        ("position_embedding.weight", (0, 8), "has shape (0, 8), but must be a matrix"),
        ("position_embedding.weight", (6, 9), "has shape (6, 9), but (6, 8) is needed"),
    ],
)
def test_wrong_shapes_are_named(state: State, name: str, shape: tuple[int, ...], message: str) -> None:
    """A shape that does not fit is reported with the tensor and both shapes."""
    state[name] = torch.zeros(shape)
    assert refusal(state) == f"model.pt: {name} {message}."


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_diverged_weights_are_refused(state: State, bad: float) -> None:
    """A model with NaN or infinity would answer nothing but noise."""
    state["blocks.1.mlp.fc1.weight"][3, 4] = bad
    assert refusal(state).startswith("model.pt: blocks.1.mlp.fc1.weight holds values that are no finite numbers")


@pytest.mark.parametrize(
    "value",
    [None, "text", 3.0, torch.zeros(24, 8, dtype=torch.int64)],
    ids=["None", "text", "number", "integers"],
)
def test_what_is_no_tensor_is_refused(state: State, value: object) -> None:
    """Only tensors of floating-point numbers are weights."""
    state["blocks.0.attn.qkv_proj.weight"] = value
    assert "blocks.0.attn.qkv_proj.weight is no tensor of floating-point numbers" in refusal(state)


def test_claimed_terabytes_are_refused(state: State) -> None:
    """A tensor that repeats one number along huge dimensions would take its claimed size when used."""
    state["token_embedding.weight"] = torch.zeros(1).expand(10**7, 10**7)
    assert "claims 100000000000000 numbers that the file does not hold" in refusal(state)


def test_hostile_names_stay_on_one_short_line(state: State) -> None:
    """Names from the file cannot write to the terminal."""
    state["\x1b[31m\n" + "x" * 1000] = torch.zeros(1)
    message = refusal(state)
    assert "\x1b" not in message
    assert "\\x1b[31m" in message


def with_lora(state: State) -> State:
    """The state with a LoRA pair of rank 2 on one layer."""
    weight = state.pop("blocks.0.attn.out_proj.weight")
    bias = state.pop("blocks.0.attn.out_proj.bias")
    return state | {
        "blocks.0.attn.out_proj.original_layer.weight": weight,
        "blocks.0.attn.out_proj.original_layer.bias": bias,
        "blocks.0.attn.out_proj.lora_A.weight": torch.ones(2, 8),
        "blocks.0.attn.out_proj.lora_B.weight": torch.full((8, 2), 0.5),
    }


@pytest.mark.parametrize(
    ("config", "scale", "notes"),
    [
        ({"fine_tuning_config": {"lora_alpha": 8.0, "lora_rank": 2}}, 4.0, 0),
        ({"config": {"lora_alpha": 3, "lora_rank": 4}}, 0.75, 0),
        ({"config": {"lora_alpha": 8.0}}, 4.0, 0),
        ({"config": {"lora_alpha": float("nan")}}, 16.0, 1),
        ({}, 16.0, 1),
    ],
)
def test_lora_is_folded_in(state: State, config: dict[str, object], scale: float, notes: int) -> None:
    """W + alpha / rank · B · A, with the scale from the file; one that is not said is noted."""
    before = state["blocks.0.attn.out_proj.weight"].clone()
    weights = opened({"model_state_dict": with_lora(state), **config})
    np.testing.assert_allclose(weights.tensors["blocks.0.attn.out_proj.weight"].numbers, before + scale, rtol=1e-6)
    assert len(weights.notes) == notes


def test_broken_lora_is_refused(state: State) -> None:
    """Pairs that do not fit, or lack a part, are named."""
    name = "blocks.0.attn.out_proj"
    good = with_lora(state)
    assert "do not fit its weight" in refusal(good | {f"{name}.lora_A.weight": torch.ones(2, 7)})
    assert "do not fit each other" in refusal(good | {f"{name}.lora_A.weight": torch.ones(3, 8)})
    assert "do not fit its weight" in refusal(good | {f"{name}.lora_B.weight": torch.ones(8)})
    del good[f"{name}.lora_B.weight"]
    assert refusal(good).endswith(f"it lacks {name}.lora_B.weight.")


@pytest.mark.parametrize("packed", [None, (), (1, 2), (torch.zeros(2), None, None)])
def test_broken_packing_is_refused(state: State, packed: object) -> None:
    """An int8 layer that is not packed as torch packs it is named."""
    del state["lm_head.weight"]
    state["lm_head._packed_params._packed_params"] = packed
    assert "lm_head is packed in a way that cannot be read" in refusal(state)
