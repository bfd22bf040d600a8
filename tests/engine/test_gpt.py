"""The GPT against what llmbuilder itself computed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.llmbuilder import load_llmbuilder
from llmchat.engine.architectures.network import Network
from tests.conftest import DATA

FORMATS = DATA / "llmbuilder-formats"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FORMATS / "expected_logits.json").read_text())
SOUND = FORMATS / "2.0.0/save_model/model.pt"


def open_gpt(path: Path, tokenizer: Path, dtype: torch.dtype = torch.float32, heads: int | None = None) -> Network:
    """The model of a file, ready to run."""
    spec = ModelSpec(model=str(path), tokenizer=str(tokenizer), heads=heads)
    checkpoint = load_llmbuilder(spec, lambda stage, fraction: None)
    return Network.build(checkpoint.plan, checkpoint.tensors, dtype=dtype)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """Run as the engine does."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def tiny() -> Network:
    """The model that llmbuilder 2.0.0 trained."""
    directory = DATA / "llmbuilder-2.0.0-tiny"
    return open_gpt(directory / "model/model.pt", directory / "tokenizer")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """What llmbuilder itself gave for it."""
    loaded: dict[str, Any] = json.loads((DATA / "llmbuilder-2.0.0-tiny/reference.json").read_text())
    return loaded


def greedy(model: Network, prompt: list[int], count: int) -> list[int]:
    """Greedy ids as an engine makes them: cached up to the context's end, then by sliding window."""
    ids = list(prompt)
    cache = model.make_cache(model.plan.context_length)
    logits = model(torch.tensor([ids]), cache)
    while len(ids) < len(prompt) + count:
        ids.append(int(logits.argmax()))
        if len(ids) <= model.plan.context_length:
            logits = model(torch.tensor([ids[-1:]]), cache)
        else:
            logits = model.window_logits(torch.tensor([ids[-model.plan.context_length :]]))
    return ids[len(prompt) :]


def fresh_logits(model: Network, ids: list[int]) -> Tensor:
    """Logits at every position, shape (positions, vocab), with an empty cache."""
    return model.all_logits(torch.tensor([ids]), model.make_cache(len(ids)))[0]


@pytest.mark.parametrize("index", range(5))
def test_logits_equal_llmbuilders(
    tiny: Network, reference: dict[str, Any], tiny_dir: Path, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each position's logits are llmbuilder's within 1e-4, and so is the last one's from `forward`."""
    ids = reference["prompts"][index]["ids"]
    expected = torch.from_numpy(np.load(tiny_dir / f"logits/prompt{index}_float32.npy"))
    torch.testing.assert_close(fresh_logits(tiny, ids), expected, atol=1e-4, rtol=0)
    last = tiny(torch.tensor([ids]), tiny.make_cache(len(ids)))
    assert last.dtype == torch.float32
    torch.testing.assert_close(last[0], expected[-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("index", range(5))
def test_greedy_ids_equal_llmbuilders(tiny: Network, reference: dict[str, Any], index: int) -> None:
    """The cached decode takes the same tokens as llmbuilder, which runs everything anew for each."""
    prompt = reference["prompts"][index]
    assert greedy(tiny, prompt["ids"], len(prompt["greedy_new_ids"])) == prompt["greedy_new_ids"]


def test_greedy_ids_equal_past_the_context(tiny: Network, reference: dict[str, Any]) -> None:
    """Past block_size the window slides as llmbuilder's does: the last ids, at positions from 0."""
    assert len(reference["prompts"][0]["ids"]) + 168 > tiny.plan.context_length
    assert greedy(tiny, reference["prompts"][0]["ids"], 168) == reference["long_greedy"]["new_ids"]


@pytest.mark.parametrize("cuts", [(1, 2, 3), (1,), (5, 6, 7, 17), (12,)])
def test_cached_equals_uncached(tiny: Network, cuts: tuple[int, ...]) -> None:
    """It does not matter in which pieces the ids arrive."""
    ids = [88, 63, 607, 313, 23, 314, 30, 969, 983, 980, 117, 6, 156, 277, 115, 30, 969, 983, 980, 117]
    cache = tiny.make_cache(len(ids))
    pieces = [ids[start:end] for start, end in zip((0, *cuts), (*cuts, len(ids)), strict=True)]
    parts = [tiny.all_logits(torch.tensor([piece]), cache)[0] for piece in pieces]
    assert cache.length == len(ids)
    torch.testing.assert_close(torch.cat(parts), fresh_logits(tiny, ids), atol=1e-4, rtol=0)


def test_forward_in_pieces_gives_the_last_position(tiny: Network) -> None:
    """A prompt that continues a cache gets the same logits as one that starts anew."""
    ids = [88, 63, 607, 313, 23, 314, 30, 969]
    cache = tiny.make_cache(16)
    tiny(torch.tensor([ids[:3]]), cache)
    last = tiny(torch.tensor([ids[3:]]), cache)
    torch.testing.assert_close(last[0], fresh_logits(tiny, ids)[-1], atol=1e-4, rtol=0)


def test_going_back_forgets(tiny: Network) -> None:
    """After a truncation the cache is as if the dropped tokens had never been."""
    cache = tiny.make_cache(16)
    tiny(torch.tensor([[88, 63, 607, 5, 6, 7]]), cache)
    cache.rewind(3)
    last = tiny(torch.tensor([[313, 23]]), cache)
    torch.testing.assert_close(last[0], fresh_logits(tiny, [88, 63, 607, 313, 23])[-1], atol=1e-4, rtol=0)


def test_batch_rows_do_not_mix(tiny: Network) -> None:
    """Two sequences in one batch get what each gets alone."""
    rows = torch.tensor([[88, 63, 607, 313], [23, 314, 30, 969]])
    cache = tiny.make_cache(8, batch=2)
    together = tiny(rows, cache)
    for row, logits in zip(rows.tolist(), together, strict=True):
        torch.testing.assert_close(logits, fresh_logits(tiny, row)[-1], atol=1e-4, rtol=0)


def test_window_equals_plain_forward(tiny: Network) -> None:
    """The window leaves out only work that does not reach its result."""
    ids = [(7 * place + 3) % 1000 for place in range(tiny.plan.context_length)]
    window = tiny.window_logits(torch.tensor([ids]))
    torch.testing.assert_close(window[0], fresh_logits(tiny, ids)[-1], atol=1e-4, rtol=0)
    one = tiny.window_logits(torch.tensor([[5]]))
    torch.testing.assert_close(one[0], fresh_logits(tiny, [5])[-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_layout_computes_the_same(name: str) -> None:
    """Each layout's logits are llmbuilder's within 1e-4: float32 as run, int8 as the dequantised weights."""
    expected = EXPECTED[name]
    path = FORMATS / name
    model = open_gpt(path, FORMATS / "2.0.0/tokenizers/sp_bpe", heads=expected["heads"])
    logits = fresh_logits(model, expected["ids"])[-1]
    exact = torch.tensor(expected["float64_merged_or_dequantised_first8"])
    torch.testing.assert_close(logits[:8], exact, atol=1e-4, rtol=0)
    as_run = torch.tensor(expected["last_logits_first8"])
    # torch's own int8 run also rounds its activations, so it differs by more.
    tolerance = 6e-3 if "int8" in expected["kind"] else 1e-4
    torch.testing.assert_close(logits[:8], as_run, atol=tolerance, rtol=0)
    assert float(logits.double().logsumexp(0)) == pytest.approx(expected["float64_logsumexp"], abs=1e-4)
    assert int(logits.argmax()) == expected["float64_argmax"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tiny: Network, tiny_dir: Path, dtype: torch.dtype) -> None:
    """Weights and cache are held in the asked precision; logits come as float32 all the same."""
    model = open_gpt(tiny_dir / "model/model.pt", tiny_dir / "tokenizer", dtype)
    ids = [88, 63, 607, 313, 23]
    cache = model.make_cache(8)
    assert cache.dtype == model.embedding.weight.dtype == dtype
    logits = model(torch.tensor([ids]), cache)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[0], fresh_logits(tiny, ids)[-1], atol=0.2, rtol=0)


def test_weights_outlive_the_file(tmp_path: Path) -> None:
    """A file that training overwrites while its model runs changes nothing and crashes nothing."""
    path = tmp_path / "model.pt"
    path.write_bytes(SOUND.read_bytes())
    model = open_gpt(path, FORMATS / "2.0.0/tokenizers/sp_bpe")
    before = fresh_logits(model, [1, 5, 9])
    with path.open("r+b") as file:
        file.truncate(0)
    assert torch.equal(fresh_logits(model, [1, 5, 9]), before)


def test_tied_output_layer_takes_no_memory(tiny: Network) -> None:
    """Models of llmbuilder use the embedding as output layer; SimpleTransformer has its own."""
    assert tiny.head is None
    untied = open_gpt(FORMATS / "1.0.0/simple_transformer/latest.pt", FORMATS / "2.0.0/tokenizers/sp_bpe")
    assert untied.head is not None
    assert not any(parameter.requires_grad for parameter in untied.parameters())


def test_cache_is_no_longer_than_the_context(tiny: Network) -> None:
    """There are no positions past the context, so no memory is taken for them."""
    assert tiny.make_cache(10**6).capacity == tiny.plan.context_length
