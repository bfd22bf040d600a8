"""Gated delta nets: a state of fixed size that cannot be taken back, so that texts go on from where it was kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.huggingface import load_huggingface
from llmchat.engine.architectures.network import Network
from llmchat.engine.native.shapes import supports
from llmchat.engine.torch_engine import TorchEngine
from llmchat.errors import ModelLoadError
from tests.engine.test_architectures import SMALL, TOKENIZER, opened
from tests.engine.test_windows import near, read

MODELS = ("qwen3_5", "qwen3_next")
TEXT = [int(token) for token in np.random.default_rng(7).integers(3, 90, 420)]


def torch_engine(name: str) -> TorchEngine:
    """The engine of a small model."""
    engine = opened(SMALL / name, "torch")
    assert isinstance(engine, TorchEngine)
    return engine


def reference(model: Network, ids: list[int]) -> np.ndarray:
    """Logits of every position of a text, read token by token."""
    cache = model.make_cache(len(ids))
    with torch.inference_mode():
        rows = [model(torch.tensor([[token]]), cache)[0].numpy().copy() for token in ids]
    return np.stack(rows)


@pytest.mark.parametrize("name", MODELS)
def test_texts_go_back_and_forth(name: str) -> None:
    """Wherever a text is cut, gone back to or gone on with, its logits are those of reading it token by token."""
    engine = torch_engine(name)
    expected = reference(engine.model, TEXT)
    for end, decoded in (
        (300, 20),
        (300, 0),
        (299, 3),
        (110, 10),
        (64, 1),
        (65, 0),
        (129, 0),
        (3, 0),
        (419, 1),
        (256, 2),
    ):
        assert near(read(engine, TEXT[:end])[0], expected[end - 1])
        for place in range(end, end + decoded):
            assert near(engine.decode(TEXT[place]), expected[place])


def test_borders_of_turns_are_gone_back_to() -> None:
    """A reply again, the next prompt and an edited one of the last few read nothing before where they part."""
    engine = torch_engine("qwen3_5")
    for end in (100, 160, 220):
        read(engine, TEXT[:end])
        for token in TEXT[end : end + 30]:
            engine.decode(token)
    assert read(engine, TEXT[:300])[1] == 250
    assert read(engine, TEXT[:300])[1] == 299
    assert read(engine, [*TEXT[:160], 5, 6, 7])[1] == 159
    assert read(engine, [*TEXT[:100], 8, 9])[1] == 99
    assert read(engine, [9, *TEXT[:100]])[1] == 0


def test_lanes_part() -> None:
    """Texts side by side, one of them doubled on the way, have the logits that each has alone."""
    engine = torch_engine("qwen3_next")
    ends = [TEXT[k : k + 20] for k in (0, 100, 200)]
    expected = [reference(engine.model, TEXT[:50] + end) for end in ends]
    read(engine, TEXT[:50])
    fork = engine.fork(3)
    for place in range(10):
        rows = fork.decode([end[place] for end in ends])
        assert all(near(row, whole[50 + place]) for row, whole in zip(rows, expected, strict=True))
    fork.keep([2, 0, 0])
    for place in range(10, 20):
        rows = fork.decode([ends[lane][place] for lane in (2, 0, 0)])
        assert all(near(row, expected[lane][50 + place]) for row, lane in zip(rows, (2, 0, 0), strict=True))
    assert near(engine.decode(ends[0][0]), expected[0][50])


def test_the_native_step_says_why_it_is_not_used() -> None:
    """In words, and it is what the model's contract says: no token can be taken back."""
    plan = torch_engine("qwen3_5").model.plan
    assert "gated delta nets" in supports(plan)
    assert not plan.goes_back
    assert plan.forgets


def test_layers_that_guess_further_tokens_are_passed_over(tmp_path: Path) -> None:
    """Directories as they are given away have them; the text depends on none."""
    copy = Path(shutil.copytree(SMALL / "qwen3_5", tmp_path / "model"))
    weights = load_file(copy / "model.safetensors")
    save_file({**weights, "mtp.fc.weight": np.ones((4, 8), np.float32)}, copy / "model.safetensors")
    with_them, without = (read(engine, TEXT[:9])[0] for engine in (opened(copy, "torch"), torch_engine("qwen3_5")))
    assert with_them is not None
    assert without is not None
    assert np.array_equal(with_them, without)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linear_num_value_heads": 3}, "the heads of its delta nets is wrong"),
        ({"linear_num_key_heads": 0}, "the size of its delta nets is wrong"),
        ({"linear_key_head_dim": -16}, "the size of its delta nets is wrong"),
        ({"linear_value_head_dim": 2**31 - 1}, "the size of its delta nets is wrong"),
        ({"linear_conv_kernel_dim": 2**20}, "the size of its delta nets is wrong"),
        ({"linear_conv_kernel_dim": 3}, "has shape"),
        ({"linear_num_key_heads": "two"}, "linear_num_key_heads should be a whole number"),
        ({"layer_types": ["full_attention"] * 4}, "is missing"),
        ({"layer_types": ["spiral"] * 4}, "layers of the kind 'spiral'"),
        ({"layer_types": []}, "should have an item for each layer"),
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_descriptions_that_cannot_be_run(name: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Each is refused in one line, before memory is taken for it."""
    copy = Path(shutil.copytree(SMALL / name, tmp_path / "model"))
    described = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(described | changes))
    with pytest.raises(ModelLoadError) as refused:
        load_huggingface(ModelSpec(str(copy), TOKENIZER), lambda stage, fraction: None)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
