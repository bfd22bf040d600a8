"""What a path is as a model: one table, which opening, the file browser and timelines ask."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints import formats
from llmchat.checkpoints.checkpoint import Checkpoint
from llmchat.checkpoints.formats import recognise
from llmchat.checkpoints.loading import load_checkpoint
from llmchat.checkpoints.timeline import Timeline
from llmchat.errors import ModelLoadError, UsageError
from llmchat.ui.model_files import check_model, is_model
from tests.checkpoints.test_gguf import write_model
from tests.checkpoints.test_huggingface import DATA, logits


def opened(path: Path) -> Checkpoint:
    """What `--model PATH` reads."""
    return load_checkpoint(ModelSpec(str(path)), lambda stage, fraction: None)


def qwen2(directory: Path) -> Path:
    """A whole Hugging Face directory."""
    return Path(shutil.copytree(DATA / "qwen2", directory / "model"))


def upper_case(directory: Path) -> Path:
    """A GGUF file from a system that writes names in capitals."""
    return write_model(directory / "MODEL.GGUF", "qwen2")


def alone(directory: Path) -> Path:
    """A directory with one model file, and with what turns pictures into input for it."""
    write_model(directory / "some.gguf", "qwen2")
    write_model(directory / "mmproj-some.gguf", "qwen2")
    return directory


def beside_its_config(directory: Path) -> Path:
    """A repository of GGUF files, which has the configuration of the original too."""
    (directory / "config.json").write_text('{"model_type": "qwen2"}')
    return alone(directory)


def torch_weights(directory: Path) -> Path:
    """The weights of a Hugging Face directory in the older format."""
    file = qwen2(directory) / "model.safetensors"
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()
    return file.with_name("pytorch_model.bin")


def checkpoint_under(name: str) -> Callable[[Path], Path]:
    """A checkpoint of llmbuilder under another name."""

    def make(directory: Path) -> Path:
        tiny = Path(formats.__file__).parents[1] / "data" / "tiny"
        shutil.copytree(tiny, directory, dirs_exist_ok=True)
        return (directory / "tiny.pt").rename(directory / name)

    return make


MODELS = {
    "directory": qwen2,
    "capitals": upper_case,
    "one file": alone,
    "one file and a config.json": beside_its_config,
    "pytorch_model.bin": torch_weights,
    ".bin": checkpoint_under("tiny.bin"),
    ".ckpt": checkpoint_under("tiny.ckpt"),
    ".PT": checkpoint_under("tiny.PT"),
    "no suffix": checkpoint_under("tiny"),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=list(MODELS))
def test_opening_and_the_picker_agree(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """What `--model` opens, the picker takes for a model, with its size and whether it brings a tokenizer."""
    path = make(tmp_path)
    checkpoint, found = opened(path), check_model(str(path))
    assert checkpoint.plan.vocab_size > 0
    assert found.size == sum(file.stat().st_size for file in recognise(path).weights) > 0
    assert found.has_tokenizer == (found.kind != "PyTorch checkpoint")
    assert path.is_dir() or not path.suffix or is_model(path)


def test_timelines_know_the_same_files(tmp_path: Path) -> None:
    """Checkpoints in capitals, of any suffix, are steps of a run."""
    for name in ("step_1.pt", "step_2.PT", "step_3.ckpt", "step_4.bin"):
        checkpoint_under(name)(tmp_path)
    timeline = Timeline(str(tmp_path / "step_*"))
    timeline.scan()
    assert [path.name for path in timeline.checkpoints] == ["step_1.pt", "step_2.PT", "step_3.ckpt", "step_4.bin"]


def test_the_named_file_is_the_one_that_runs(tmp_path: Path) -> None:
    """Weights under a name of their own are used, not another model that lies beside them."""
    path = qwen2(tmp_path)
    other = {name: tensor * 1.5 for name, tensor in load_file(path / "model.safetensors").items()}
    save_file(other, path / "mine.safetensors")
    write_model(path / "other.gguf", "llama")
    mine, usual = opened(path / "mine.safetensors"), opened(path / "model.safetensors")
    assert (mine.name, usual.name) == ("mine", "model")
    np.testing.assert_allclose(logits(usual), np.load(DATA / "qwen2" / "logits.npy"), rtol=1e-4, atol=1e-4)
    assert np.abs(logits(mine) - logits(usual)).max() > 0.1
    (path / "model.safetensors").unlink()
    np.testing.assert_array_equal(logits(opened(path)), logits(mine))


def test_any_part_stands_for_the_whole(tmp_path: Path) -> None:
    """One of several files of safetensors opens all of them; a part that is missing is named."""
    path = Path(shutil.copytree(DATA / "llama", tmp_path / "llama"))
    parts = sorted(path.glob("*.safetensors"))
    assert len(parts) > 1
    np.testing.assert_array_equal(logits(opened(parts[-1])), logits(opened(path)))
    (path / "model.safetensors.index.json").unlink()
    np.testing.assert_array_equal(logits(opened(path)), logits(opened(DATA / "llama")))
    parts[0].unlink()
    with pytest.raises(ModelLoadError, match=f"incomplete: {parts[0].name} is missing"):
        opened(path)
    with pytest.raises(UsageError, match=parts[0].name):
        check_model(str(path))


def test_judging_is_quick_enough_for_every_key(tmp_path: Path) -> None:
    """A directory of a thousand files is judged in the time of a frame or two."""
    for number in range(1000):
        (tmp_path / f"notes {number}.txt").touch()
    write_model(tmp_path / "some.gguf", "qwen2")
    took = []
    for _ in range(5):
        start = time.perf_counter()
        recognise(tmp_path)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.1
