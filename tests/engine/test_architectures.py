"""Every architecture, from its files to its logits, against transformers: on the native step and on torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llmchat.chat.model import ModelSpec
from llmchat.engine.engine import Engine, Logits
from llmchat.engine.opening import open_engine
from tests.conftest import DATA

SMALL, VARIANTS, CONVERTED = DATA / "architectures", DATA / "architecture-variants", DATA / "architectures-gguf"
TOKENIZER = str(SMALL / "tokenizer")
END_ID = 2
"""The end token, which was not to be drawn."""
SAME_WEIGHTS: dict[str, str] = json.loads((SMALL / "same_weights.json").read_text())
PATHS = {"native": "auto", "torch": "float32"}
"""How each of the two ways to run a model is asked for."""
ON_TORCH_ALONE = ("qwen3_5", "qwen3_next")
"""Models that the native step says it cannot run."""


def names_in(directory: Path) -> list[str]:
    """The models of a directory."""
    return sorted(path.parent.name for path in directory.glob("*/reference.npz"))


def directory_of(name: str, scratch: Path) -> Path:
    """A model's directory with its weights."""
    path = SMALL / name
    if name not in SAME_WEIGHTS:
        return path
    copy = scratch / name
    copy.mkdir()
    shutil.copyfile(path / "config.json", copy / "config.json")
    (copy / "model.safetensors").symlink_to(SMALL / SAME_WEIGHTS[name] / "model.safetensors")
    return copy


def opened(path: Path, way: str) -> Engine:
    """An engine as a person gets it."""
    spec = ModelSpec(str(path), tokenizer=TOKENIZER, dtype=PATHS[way], threads=1)
    engine = open_engine(spec, lambda stage, fraction: None)
    is_native = way == "native" and path.name not in ON_TORCH_ALONE
    assert engine.info.dtype.startswith("native" if is_native else "float32")
    return engine


def behind(engine: Engine, ids: list[int]) -> Logits:
    """The logits behind some ids, read at once."""
    logits = engine.prefill(ids, lambda: False).logits
    assert logits is not None
    return logits


def greedy_ids(engine: Engine, prompt: list[int]) -> Iterator[tuple[int, Logits]]:
    """The likeliest ids one after the other but the end token, and the logits that they are the highest of."""
    logits = behind(engine, prompt).copy()
    while True:
        logits[END_ID] = -np.inf
        token = int(logits.argmax())
        yield token, logits
        logits = engine.decode(token).copy()


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", names_in(SMALL))
def test_logits_and_greedy_ids_equal_transformers(name: str, way: str, tmp_path: Path) -> None:
    """Logits differ by rounding alone, and so 50 greedy ids are the same."""
    engine = opened(directory_of(name, tmp_path), way)
    with np.load(SMALL / name / "reference.npz") as reference:
        ids, positions, expected = reference["ids"].tolist(), reference["positions"].tolist(), reference["logits"]
        greedy = reference["greedy"].tolist()
    for position, row in zip(positions, expected, strict=True):
        assert np.abs(behind(engine, ids[: position + 1]) - row).max() < 1e-4
    for (token, logits), wanted in zip(greedy_ids(engine, ids[:12]), greedy, strict=False):
        assert token == wanted or logits[token] - logits[wanted] < 1e-4
        if token != wanted:
            break


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", names_in(VARIANTS))
def test_variants_equal_transformers(name: str, way: str) -> None:
    """What files of one architecture differ in, beyond windows and the original length of stretched positions too.

    Read at once, and token by token from where a window is not full yet.
    """
    engine = opened(VARIANTS / name, way)
    with np.load(VARIANTS / name / "reference.npz") as reference:
        ids, positions, expected = reference["ids"].tolist(), reference["positions"].tolist(), reference["logits"]
    for position, row in zip(positions, expected, strict=True):
        assert np.abs(behind(engine, ids[: position + 1]) - row).max() < 1e-4
    logits = behind(engine, ids[:10])
    for token in ids[10:]:
        logits = engine.decode(token)
    assert np.abs(logits - expected[-1]).max() < 1e-4


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("path", sorted(CONVERTED.glob("*.gguf")), ids=lambda path: path.stem)
def test_files_of_llama_cpps_converter_equal_transformers(path: Path, way: str) -> None:
    """GGUF files that llama.cpp's own converter made of the small models give the models' own logits."""
    engine = open_engine(ModelSpec(str(path), dtype=PATHS[way], threads=1), lambda stage, fraction: None)
    with np.load(SMALL / path.stem / "reference.npz") as reference:
        ids, positions, expected = reference["ids"].tolist(), reference["positions"].tolist(), reference["logits"]
    for position, row in zip(positions, expected, strict=True):
        assert np.abs(behind(engine, ids[: position + 1]) - row).max() < 1e-4
