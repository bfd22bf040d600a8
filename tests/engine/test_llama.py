"""The Llama family: against Hugging Face's values, and against itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.gguf import load_gguf
from llmchat.engine.architectures.frequencies import rope_frequencies
from llmchat.engine.architectures.network import Network
from llmchat.engine.architectures.rope import RotaryPositions, rotate
from llmchat.models.plan import RopeScaling
from tests.engine.plans import LlamaSizes

DATA = Path(__file__).parents[1] / "data" / "smollm2"
PROMPTS: list[dict[str, Any]] = json.loads((DATA / "reference.json").read_text("utf-8"))["prompts"]
SMALL = LlamaSizes(
    vocab_size=53,
    context_length=64,
    n_layers=2,
    n_heads=6,
    n_kv_heads=2,
    head_dim=8,
    dim=32,
    ffn_dim=40,
    norm_eps=1e-5,
    rope_theta=10000.0,
)
VARIANTS = {
    "llama": SMALL,
    "qwen2": replace(SMALL, attention_bias=True, tied=False),
    "qwen3": replace(SMALL, qk_norm=True, head_dim=16),
    "one head for all": replace(SMALL, n_kv_heads=1),
    "no sharing": replace(SMALL, n_kv_heads=6),
}


def random_tensors(config: LlamaSizes) -> dict[str, Tensor]:
    """Random weights of a model that is small enough to compute by hand."""
    noise = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=noise) * 0.3 for name, shape in config.plan().tensors().items()}


def make(config: LlamaSizes, tensors: dict[str, Tensor], **kind: Any) -> Network:
    """The module with these weights."""
    return Network.build(config.plan(), tensors, **kind)


def by_hand(config: LlamaSizes, tensors: dict[str, Tensor], ids: list[int]) -> Tensor:
    """The logits of every position in float64, written from the definition: one position, head and layer at a time."""
    weights = {name: tensor.double() for name, tensor in tensors.items()}
    group, size = config.n_heads // config.n_kv_heads, config.head_dim

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + config.norm_eps).sqrt() * weights[name]

    def turned(x: Tensor, position: int) -> Tensor:
        out = x.clone()
        for i in range(size // 2):
            angle = position * config.rope_theta ** (-2 * i / size)
            a, b = x[i], x[i + size // 2]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + size // 2] = a * math.sin(angle) + b * math.cos(angle)
        return out

    def heads(x: Tensor, name: str, position: int, turn: bool) -> Tensor:
        flat = weights[f"{name}_proj.weight"] @ x + weights.get(f"{name}_proj.bias", torch.zeros(1).double())
        split = list(flat.view(-1, size))
        if turn and config.qk_norm:
            split = [norm(head, f"{name}_norm.weight") for head in split]
        return torch.stack([turned(head, position) if turn else head for head in split])

    stream = [weights["embedding.weight"][token_id] for token_id in ids]
    for layer in range(config.n_layers):
        at = f"layers.{layer}."
        normed = [norm(x, at + "attention_norm.weight") for x in stream]
        q, k, v = (
            [heads(x, f"{at}attention.{part}", position, part != "v") for position, x in enumerate(normed)]
            for part in "qkv"
        )
        for position in range(len(ids)):
            mixed = []
            for number in range(config.n_heads):
                scores = torch.stack([q[position][number] @ k[p][number // group] for p in range(position + 1)])
                shares = (scores / math.sqrt(size)).softmax(0)
                values = torch.stack([v[p][number // group] for p in range(position + 1)])
                mixed.append(shares @ values)
            middle = stream[position] + weights[at + "attention.o_proj.weight"] @ torch.cat(mixed)
            y = norm(middle, at + "ffn_norm.weight")
            gate, up = (weights[f"{at}ffn.{part}_proj.weight"] @ y for part in ("gate", "up"))
            stream[position] = middle + weights[at + "ffn.down_proj.weight"] @ (gate * gate.sigmoid() * up)
    head = weights.get("head.weight", weights["embedding.weight"])
    return torch.stack([head @ norm(x, "norm.weight") for x in stream])


@pytest.fixture(scope="module")
def smollm2(default_model_path: Path) -> Network:
    """The default model in float32."""
    checkpoint = load_gguf(ModelSpec(str(default_model_path)), lambda stage, fraction: None)
    return Network.build(checkpoint.plan, checkpoint.tensors)


@pytest.fixture(scope="module")
def reference_logits() -> dict[str, npt.NDArray[np.float32]]:
    """The last position's logits of each prompt, as transformers computes them."""
    with np.load(DATA / "logits.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("prompt", PROMPTS, ids=[prompt["name"] for prompt in PROMPTS])
@torch.inference_mode()
def test_smollm2_equals_transformers(
    smollm2: Network, prompt: dict[str, Any], reference_logits: dict[str, npt.NDArray[np.float32]]
) -> None:
    """Logits of the same file are those of Hugging Face transformers, and so are 100 greedy tokens.

    Ten are drawn one by one. A greedy text is the one whose every token is the likeliest behind those before it,
    so that one pass over all hundred shows the rest.
    """
    ids, greedy = prompt["ids"], prompt["greedy_ids"]
    cache = smollm2.make_cache(len(ids) + 100)
    logits = smollm2(torch.tensor([ids]), cache)
    assert np.abs(logits[0].numpy() - reference_logits[prompt["name"]]).max() < 1e-3
    drawn = [int(logits.argmax())]
    while len(drawn) < 10:
        drawn.append(int(smollm2(torch.tensor([drawn[-1:]]), cache).argmax()))
    assert drawn == greedy[:10]
    whole = smollm2.all_logits(torch.tensor([ids + greedy[:-1]]), smollm2.make_cache(len(ids) + 100))
    assert len(greedy) == 100
    assert whole[0, len(ids) - 1 :].argmax(-1).tolist() == greedy


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
@torch.inference_mode()
def test_every_variant_equals_the_definition(config: LlamaSizes) -> None:
    """Biases, per-head norms, sharing of keys and an output layer of its own all do what they are defined to do."""
    tensors = random_tensors(config)
    ids = [7, 0, 52, 7, 31]
    model = make(config, tensors)
    logits = model.all_logits(torch.tensor([ids]), model.make_cache(8))
    torch.testing.assert_close(logits[0].double(), by_hand(config, tensors, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [[9], [1] * 9, [4, 1, 4], [1, 8], [8, 1]])
@torch.inference_mode()
def test_steps_through_the_cache_do_not_matter(steps: list[int]) -> None:
    """However a text is cut into prefills and single tokens, the last logits are the same."""
    model = make(SMALL, random_tensors(SMALL))
    ids = torch.arange(9)[None] * 5
    whole = model.all_logits(ids, model.make_cache(9))
    cache = model.make_cache(16)
    for part in torch.split(ids, steps, dim=1):
        logits = model(part, cache)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, whole[:, cache.length - 1], rtol=1e-4, atol=1e-5)
    assert cache.length == 9


@torch.inference_mode()
def test_going_back_in_the_cache() -> None:
    """After a truncation the positions that were forgotten leave no trace."""
    model = make(SMALL, random_tensors(SMALL))
    cache = model.make_cache(16)
    first = model(torch.tensor([[1, 2, 3, 4]]), cache)
    model(torch.tensor([[50, 51, 52]]), cache)
    cache.rewind(3)
    torch.testing.assert_close(model(torch.tensor([[4]]), cache), first, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_batch_is_its_rows() -> None:
    """Sequences side by side do not see one another."""
    model = make(SMALL, random_tensors(SMALL))
    rows = torch.tensor([[1, 2, 3], [9, 8, 7]])
    together = model(rows, model.make_cache(4, batch=2))
    alone = torch.cat([model(row[None], model.make_cache(4)) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_precision(dtype: torch.dtype) -> None:
    """Half precision runs, keeps its cache in half precision, and comes near the float32 logits."""
    tensors = random_tensors(VARIANTS["qwen2"])
    ids = torch.tensor([[1, 2, 3, 4]])
    model = make(VARIANTS["qwen2"], tensors, dtype=dtype)
    cache = model.make_cache(8)
    logits = model(ids, cache)
    exact = by_hand(VARIANTS["qwen2"], tensors, [1, 2, 3, 4])[-1]
    assert cache.dtype == dtype
    assert logits.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(logits[0].double(), exact, dim=0) > 0.99


def test_a_tied_output_layer_is_one_copy() -> None:
    """The embedding serves as output layer without a second copy, and the file's tensors can go."""
    tensors = random_tensors(SMALL)
    model = make(SMALL, tensors)
    own = sum(parameter.numel() for parameter in model.parameters())
    assert own == sum(tensor.numel() for tensor in tensors.values())
    pointers = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    assert all(parameter.untyped_storage().data_ptr() not in pointers for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_rotation_keeps_lengths_and_depends_on_distance_alone() -> None:
    """Turned queries and keys give the same score at the same distance, wherever they stand."""
    noise = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=noise)
    rope = RotaryPositions(SMALL.rope)

    def score(at: int, to: int) -> float:
        device = torch.device("cpu")
        turned = [rotate(x, *rope.between(p, p + 1, 64, device), SMALL.rope) for x, p in ((q, at), (k, to))]
        assert turned[0].norm() == pytest.approx(float(q.norm()), rel=1e-5)
        return float((turned[0] * turned[1]).sum())

    assert score(9, 4) == pytest.approx(score(40, 35), rel=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), rel=1e-3)


def test_position_tables_grow() -> None:
    """Positions past the first capacity get the values they would have had from the beginning."""
    device = torch.device("cpu")
    grown, large = RotaryPositions(SMALL.rope), RotaryPositions(SMALL.rope)
    grown.between(0, 4, 8, device)
    for one, other in zip(grown.between(20, 24, 8, device), large.between(20, 24, 64, device), strict=True):
        assert torch.equal(one, other)


def test_stretched_positions() -> None:
    """Linear, given factors and Llama 3's rule divide frequencies as they are defined to."""
    config = replace(SMALL, head_dim=64, rope_theta=500000.0)
    plain = rope_frequencies(config.rope)
    assert plain[0] == 1.0
    linear = RopeScaling(kind="linear", factor=4.0)
    assert np.array_equal(rope_frequencies(replace(config, rope_scaling=linear).rope), plain / 4)
    factors = RopeScaling(kind="factors", factor=1.0, factors=tuple(range(1, 33)))
    assert np.allclose(rope_frequencies(replace(config, rope_scaling=factors).rope) * np.arange(1, 33), plain)
    llama3 = RopeScaling("llama3", 8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8192)
    ratio = rope_frequencies(replace(config, rope_scaling=llama3).rope) / plain
    wavelengths = 2 * math.pi / plain
    assert np.all(ratio[wavelengths < 8192 / 4] == 1)
    assert np.allclose(ratio[wavelengths > 8192], 0.125)
    between = ratio[(wavelengths > 8192 / 4) & (wavelengths < 8192)]
    assert len(between) > 0
    assert np.all((between > 0.125) & (between < 1))
