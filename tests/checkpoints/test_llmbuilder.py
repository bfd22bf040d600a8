"""Opening whole llmbuilder models: every layout, its tokenizer, its facts and its notes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint
from llmchat.checkpoints.llmbuilder import load_llmbuilder
from llmchat.engine.architectures.network import Network
from llmchat.errors import ModelLoadError
from llmchat.models.llmbuilder import llmbuilder_plan
from tests.conftest import DATA
from tests.engine.test_gpt import greedy

FORMATS = DATA / "llmbuilder-formats"
TOKENIZERS = FORMATS / "2.0.0/tokenizers"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FORMATS / "expected_logits.json").read_text())
SILENT = {
    "0.2.1/trainer/best_checkpoint.pt",
    "0.2.1/trainer/latest_checkpoint.pt",
    "2.0.0/checkpoint_manager/no_config.pt",
    "2.0.0/finetune/best_finetune_checkpoint.pt",
    "2.0.0/finetune/latest_finetune_checkpoint.pt",
    "2.0.0/finetune_lora/best_finetune_checkpoint.pt",
    "2.0.0/finetune_lora/latest_finetune_checkpoint.pt",
}
"""The files that say nowhere how many heads their model has."""


def ignore_progress(stage: str, fraction: float | None) -> None:
    """Progress that nobody watches."""


def open_file(path: Path, tokenizer: Path | None = TOKENIZERS / "sp_bpe", heads: int | None = None) -> Checkpoint:
    """Open a file as the engine does."""
    spec = ModelSpec(model=str(path), tokenizer=None if tokenizer is None else str(tokenizer), heads=heads)
    return load_llmbuilder(spec, ignore_progress)


@pytest.mark.parametrize("name", EXPECTED)
def test_dimensions_of_every_layout(name: str) -> None:
    """Dimensions are read from the shapes, heads from wherever the layout keeps them, or guessed aloud."""
    expected = EXPECTED[name]
    checkpoint = open_file(FORMATS / name)
    assert checkpoint.plan == llmbuilder_plan(
        vocab_size=expected["vocab"],
        context_length=expected["block"],
        n_layers=expected["layers"],
        n_heads=expected["heads"],
        dim=expected["dim"],
        tied=checkpoint.plan.tied,
    )
    guessed = [note for note in checkpoint.notes if "is a guess" in note]
    assert bool(guessed) == (name in SILENT)
    if guessed:
        assert guessed[0].endswith("try --heads with another of 1, 2, 4.")
    assert checkpoint.chat_template is None
    assert checkpoint.path == str(FORMATS / name)


@pytest.mark.parametrize(
    ("name", "weight_format"),
    [
        ("2.0.0/save_model/model.pt", "float32"),
        ("2.0.0/quant/fp16.pt", "float16"),
        ("2.0.0/quant/bf16.pt", "bfloat16"),
        ("2.0.0/quant/int8.pt", "int8"),
        ("2.0.0/quant/dynamic.pt", "int8"),
    ],
)
def test_weight_format_is_the_files(name: str, weight_format: str) -> None:
    """The header shows what the file holds, not what it becomes."""
    assert open_file(FORMATS / name).weight_format == weight_format


@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("2.0.0/trainer/best_checkpoint.pt", {"step": 8, "epoch": 1, "loss": 4.0970778465271}),
        ("0.2.1/trainer/latest_checkpoint.pt", {"step": 4, "epoch": 0, "loss": 4.127798557281494}),
        ("2.0.0/checkpoint_manager/with_config.pt", {"step": 5, "epoch": 1, "loss": 1.25}),
        ("2.0.0/finetune/latest_finetune_checkpoint.pt", {"epoch": 0, "loss": 4.024468898773193}),
        ("1.0.0/trainer/exports/checkpoints/latest_checkpoint.pt", {"step": 28, "epoch": 0, "loss": 4.122013092041016}),
        ("1.0.0/simple_transformer/latest.pt", {"epoch": 1, "loss": 2.5}),
        ("2.0.0/save_model_opt/model.pt", {"epoch": 3}),
        ("2.0.0/save_model/model.pt", {}),
    ],
)
def test_training_facts(name: str, training: dict[str, float]) -> None:
    """Step, epoch and loss are found under each writer's own names."""
    assert dict(open_file(FORMATS / name).training) == training


def test_unreadable_layout_is_refused_clearly() -> None:
    """1.0.x's own quantised files hold objects of its code; the way out is named."""
    with pytest.raises(ModelLoadError, match=r"llmbuilder 1\.0's `optimize quantize`.*Use the checkpoint"):
        open_file(FORMATS / "1.0.0/optimize/q8_0.pt")


def test_token_file_is_no_model() -> None:
    """1.0.x keeps tokens in .pt files too."""
    with pytest.raises(ModelLoadError, match=r"holds no llmbuilder model: there is no token_embedding\.weight in it"):
        open_file(FORMATS / "1.0.0/trainer/data/tokens/t.pt")


def test_missing_tokenizer_names_the_flag(tmp_path: Path) -> None:
    """A model without a tokenizer beside it says how to name one."""
    path = shutil.copy(FORMATS / "2.0.0/save_model/model.pt", tmp_path)
    with pytest.raises(ModelLoadError, match="--tokenizer DIR"):
        open_file(Path(path), tokenizer=None)


def test_tokenizer_is_found_beside_the_model(tiny_dir: Path) -> None:
    """The layout that llmbuilder makes, ./model/model.pt and ./tokenizer, needs no flag."""
    checkpoint = open_file(tiny_dir / "model/model.pt", tokenizer=None)
    assert Path(checkpoint.tokenizer_path).is_relative_to(tiny_dir / "tokenizer")
    assert checkpoint.tokenizer.encode("Alice was beginning to") == [88, 63, 607, 313, 23]
    assert checkpoint.end_ids == (3,)
    assert checkpoint.notes == ()
    assert checkpoint.name == "model"


def test_larger_model_vocabulary_is_noted(tiny_dir: Path) -> None:
    """Tokens that the tokenizer does not know are never drawn, and that is said."""
    checkpoint = open_file(tiny_dir / "model/model.pt", TOKENIZERS / "sp_char")
    size = checkpoint.tokenizer.vocab_size
    assert checkpoint.notes == (f"The model has 1000 tokens, the tokenizer {size}: the rest is never drawn.",)


def test_smaller_model_vocabulary_is_noted() -> None:
    """1.0.x makes models that are smaller than their tokenizer."""
    checkpoint = open_file(FORMATS / "2.0.0/save_model/model.pt")
    size = checkpoint.tokenizer.vocab_size
    assert checkpoint.notes == (
        f"The tokenizer has {size} tokens, the model 64: text that needs the rest is read as unknown.",
    )


def test_end_token_is_the_tokenizers(tiny_dir: Path) -> None:
    """1.0.x and 2.0.0 give the end token different ids."""
    assert open_file(tiny_dir / "model/model.pt", FORMATS / "1.0.0/tok_sp").end_ids == (2,)


def test_progress_is_told(tiny_dir: Path) -> None:
    """Each step of loading has its own words."""
    stages: list[str] = []
    load_llmbuilder(ModelSpec(model=str(tiny_dir / "model/model.pt")), lambda stage, fraction: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["checking the file", "reading weights", "reading the tokenizer"]


def test_built_in_model_tells_stories(tiny_dir: Path) -> None:
    """The small model inside the package opens by itself and generates what the full one does."""
    directory = Path(load_llmbuilder.__globals__["__file__"]).parents[1] / "data/tiny"
    checkpoint = open_file(directory / "tiny.pt", tokenizer=None)
    assert (checkpoint.name, checkpoint.weight_format, checkpoint.notes) == ("tiny", "float16", ())
    assert sum(file.stat().st_size for file in directory.iterdir()) < 2.5e6
    model = Network.build(checkpoint.plan, checkpoint.tensors)
    reference = json.loads((tiny_dir / "reference.json").read_text())
    equal = total = 0
    with torch.inference_mode():
        for prompt in reference["prompts"]:
            ids = greedy(model, prompt["ids"], len(prompt["greedy_new_ids"]))
            equal += sum(a == b for a, b in zip(ids, prompt["greedy_new_ids"], strict=True))
            total += len(ids)
    assert equal / total > 0.9
    first = reference["prompts"][0]
    story = checkpoint.tokenizer.decode(first["ids"] + greedy(model, first["ids"], 20))
    assert "alice was beginning to say" in story
