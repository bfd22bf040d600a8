"""Directories of gpt-oss in MXFP4: read as they are, and the same model as one in plain floats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import Checkpoint
from llmchat.checkpoints.huggingface import load_huggingface
from llmchat.engine.native import weight_loader
from llmchat.engine.opening import open_engine
from llmchat.errors import ModelLoadError
from tests.conftest import DATA

SMALL = DATA / "architectures"
TOKENIZER = str(SMALL / "tokenizer")
FOUR_BITS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""The numbers of a sign, two bits of exponent and one of mantissa."""
IDS = [5, 17, 400, 33, 8, 250, 91]


def random_pair(rows: int, cols: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of four experts' matrices, and their blocks and scales: each byte has two neighbours."""
    codes = rng.integers(0, 16, (4, rows, cols // 32, 32), dtype=np.uint8)
    scales = rng.integers(121, 125, (4, rows, cols // 32), dtype=np.uint8)
    values = FOUR_BITS[codes] * np.exp2(scales.astype(np.float32) - 127)[..., None]
    return values.reshape(4, rows, cols), codes[..., ::2] | codes[..., 1::2] << np.uint8(4), scales


@pytest.fixture(name="directories", scope="module")
def _directories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One model with its experts in floats, columns first, and in MXFP4."""
    rng = np.random.default_rng(7)
    floats, quantised = (
        Path(shutil.copytree(SMALL / "gpt_oss", tmp_path_factory.mktemp("gpt_oss") / name))
        for name in ("floats", "mxfp4")
    )
    in_floats = load_file(floats / "model.safetensors")
    in_blocks = dict(in_floats)
    for name in [name for name in in_floats if name.endswith(("gate_up_proj", "down_proj"))]:
        cols, rows = in_blocks.pop(name).shape[1:]
        values, in_blocks[f"{name}_blocks"], in_blocks[f"{name}_scales"] = random_pair(rows, cols, rng)
        in_floats[name] = np.ascontiguousarray(values.swapaxes(1, 2))
    save_file(in_floats, floats / "model.safetensors")
    save_file(in_blocks, quantised / "model.safetensors")
    describe(quantised, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    return floats, quantised


def describe(path: Path, quantisation: object) -> None:
    """Put how the weights are quantised into a directory's config.json."""
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": quantisation}))


def load(path: Path) -> Checkpoint:
    """The directory's checkpoint."""
    return load_huggingface(ModelSpec(str(path), tokenizer=TOKENIZER), lambda stage, fraction: None)


def test_numbers_are_those_of_the_floats(directories: tuple[Path, Path]) -> None:
    """Every parameter, to the bit; the experts are still blocks, of 17 bytes for 32 numbers."""
    floats, quantised = map(load, directories)
    assert quantised.weight_format == "MXFP4"
    for name in floats.raw:
        one, other = floats.raw[name], quantised.raw[name]
        if "experts" in name and name.endswith("weight"):
            assert (other.kind, other.data.shape[-1]) == ("MXFP4", one.shape[-1] // 32 * 17)
        expected, got = (dequantise(raw.kind, raw.data.reshape(-1, raw.data.shape[-1])) for raw in (one, other))
        assert one.shape == other.shape
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_it_runs_as_in_floats(directories: tuple[Path, Path], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The native step takes the blocks as they are, and torch their numbers."""
    monkeypatch.delattr(weight_loader, "_dense")
    rows = []
    for path, precision in zip(directories, ("float32", dtype), strict=True):
        engine = open_engine(ModelSpec(str(path), tokenizer=TOKENIZER, dtype=precision), lambda stage, fraction: None)
        logits = engine.prefill(IDS, lambda: False).logits
        assert logits is not None
        rows.append(logits)
    assert engine.info.dtype.startswith("native" if dtype == "auto" else "float32")
    assert np.abs(rows[0] - rows[1]).max() < (1e-3 if dtype == "auto" else 1e-6) * rows[0].std()


@pytest.mark.parametrize(
    ("family", "quantisation"),
    [("llama", {"quant_method": "mxfp4"}), ("gpt_oss", {"quant_method": "gptq"}), ("gpt_oss", ["mxfp4"])],
)
def test_other_quantisations_are_refused(family: str, quantisation: object, tmp_path: Path) -> None:
    """What was made by a method, or for a family, whose tensors have no place here."""
    path = Path(shutil.copytree(SMALL / family, tmp_path / family))
    describe(path, quantisation)
    with pytest.raises(ModelLoadError, match="weights quantised"):
        load(path)


def test_blocks_without_their_scales_are_refused(directories: tuple[Path, Path], tmp_path: Path) -> None:
    """Half of a pair is bytes that nothing says the meaning of."""
    path = Path(shutil.copytree(directories[1], tmp_path / "halved"))
    tensors = load_file(path / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.down_proj_scales"]
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(ModelLoadError, match="down_proj_blocks' is of type uint8"):
        load(path)
