"""What people take for a model: each mistake gets one sentence that says what the file is, and the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from llmchat.chat.model import ModelSpec
from llmchat.engine.opening import open_engine
from llmchat.errors import ModelLoadError
from tests.checkpoints.test_gguf import keys_of, tensors_of, write

DATA = Path(__file__).parent / "data" / "huggingface"

Make = Callable[[Path], Path]


def whole(directory: Path, name: str = "qwen2") -> Path:
    """A Hugging Face directory that opens."""
    return Path(shutil.copytree(DATA / name, directory / "model"))


def gguf(**keys: Any) -> Make:
    """A GGUF file that opens, but for some of its keys, whose dots are _ here."""

    def make(directory: Path) -> Path:
        named = {key.replace("_", ".", 1): value for key, value in keys.items()}
        return write(directory / "model.gguf", keys_of("qwen2") | named, tensors_of("qwen2"))

    return make


def described(**changes: Any) -> Make:
    """The same with other entries in its config.json."""

    def make(directory: Path) -> Path:
        path = whole(directory) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return path.parent

    return make


def quantised(method: str) -> Make:
    """The same, quantised in some way."""
    return described(quantization_config={"quant_method": method})


def awq(version: str) -> Make:
    """The same by AWQ, in one of its layouts."""
    return described(quantization_config={"quant_method": "awq", "bits": 4, "version": version})


def file(name: str, content: bytes | str) -> Make:
    """One file."""

    def make(directory: Path) -> Path:
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return directory / name

    return make


def without(name: str) -> Make:
    """A directory that lacks a file."""

    def make(directory: Path) -> Path:
        path = whole(directory, "llama" if "of" in name else "qwen2")
        (path / name).unlink()
        return path

    return make


def cut(name: str) -> Make:
    """A directory of which a file is not whole."""

    def make(directory: Path) -> Path:
        path = whole(directory)
        (path / name).write_bytes((path / name).read_bytes()[:-100])
        return path

    return make


def weights(name: str, **others: str) -> Make:
    """A file of weights, and small files beside it."""

    def make(directory: Path) -> Path:
        save_file({"weight": np.zeros(4, np.float32)}, directory / name)
        for other, text in others.items():
            (directory / other.replace("_json", ".json")).write_text(text)
        return directory / name

    return make


def own_layout(directory: Path) -> Path:
    """Llama as Meta gives it."""
    torch.save({"tok_embeddings.weight": torch.zeros(4, 4)}, directory / "consolidated.00.pth")
    (directory / "params.json").write_text("{}")
    return directory / "consolidated.00.pth"


def many(directory: Path) -> Path:
    """Several quantisations of one model."""
    for kind in ("Q4_K_M", "Q8_0"):
        (directory / f"some-{kind}.gguf").write_bytes(b"GGUF....")
    return directory


def collection(directory: Path) -> Path:
    """Models in directories of their own."""
    shutil.copytree(DATA / "qwen2", directory / "Qwen2-1B")
    shutil.copytree(DATA / "llama", directory / "Llama-1B")
    return directory


def directory_of(make: Make) -> Make:
    """The directory in which a file lies."""
    return lambda directory: make(directory).parent


ADAPTER = weights("adapter_model.safetensors", adapter_config_json='{"base_model_name_or_path": "Qwen/Qwen3-0.6B"}')
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"

MISTAKES: dict[str, tuple[Make, str]] = {
    "a LoRA directory": (
        directory_of(ADAPTER),
        "is a LoRA adapter of 'Qwen/Qwen3-0.6B', no model: give that model with",
    ),
    "a LoRA file": (ADAPTER, "no model: give that model with --model, and .* with --lora"),
    "safetensors alone": (
        weights("model.safetensors"),
        "holds weights alone: it needs the config.json and the tokenizer",
    ),
    "their directory": (directory_of(weights("a.safetensors")), "weights alone, without the config.json"),
    "Meta's layout": (own_layout, "maker's own layout .* take the model's safetensors directory or a GGUF file"),
    "its directory": (directory_of(own_layout), "maker's own layout"),
    "Mistral's layout": (weights("consolidated.safetensors", config_json="{}"), "maker's own layout"),
    "ONNX": (file("model.onnx", b"\x08\x07\x12\x07pytorch"), "is an ONNX model, .* take the model's safetensors"),
    "an ONNX directory": (directory_of(file("model.onnx", b"\x08\x07")), "is an ONNX model"),
    "llamafile": (file("some.llamafile", b"MZqFpD='\n"), r"is a llamafile, .* take the model out with unzip FILE"),
    "GGML": (file("ggml-model-q4_0.bin", b"tjgg\1\0\0\0"), "is a GGML file, of the time before GGUF"),
    "Modelfile": (
        file("Modelfile", "# mine\nFROM llama3.2\n"),
        "a recipe of Ollama, .* names after FROM, here 'llama3.2'",
    ),
    "TensorFlow": (file("tf_model.h5", b"\x89HDF\r\n\x1a\n"), "holds weights for TensorFlow or Flax"),
    "a pointer": (file("model.gguf", LFS), "is a pointer of Git LFS, not the file itself: run git lfs pull"),
    "a web page": (
        file("model.gguf", "<!DOCTYPE html><html>"),
        "is a web page, not the file itself: download the file",
    ),
    "a GGUF adapter": (
        gguf(general_type="adapter"),
        "is a LoRA adapter, no model: give that model with --model, and this file with --lora",
    ),
    "a GGUF file of vectors": (gguf(qwen2_pooling_type=1), "it gives vectors, not tokens. Give a model that writes"),
    "a GGUF file for pictures": (gguf(general_architecture="clip"), "turns pictures into its input: give the model it"),
    "a text named .gguf": (file("model.gguf", "Not found"), "is no GGUF file, .* fetch or copy it again"),
    "a text": (file("story.txt", "Once upon a time"), "is no model: it is neither a GGUF file nor"),
    "config.json": (lambda path: whole(path) / "config.json", "one of the files of a model: give the directory"),
    "several models": (many, "with several models. Name one with --model: some-Q4_K_M.gguf, some-Q8_0.gguf"),
    "a directory of models": (collection, "is a directory of models. Name one with --model: Llama-1B, Qwen2-1B"),
    "pictures": (
        described(model_type="qwen2_vl", vision_config={}),
        "'qwen2_vl', which reads pictures too and llmchat cannot run by itself",
    ),
    "a diffuser": (directory_of(file("model_index.json", "{}")), "makes pictures .* give one that writes text"),
    "an encoder": (
        described(architectures=["BertModel"], model_type="bert"),
        "is an embedding model .'BertModel'.: it gives",
    ),
    "a model without its head": (described(architectures=["Qwen2Model"]), "it gives vectors, not tokens"),
    "no output layer": (described(tie_word_embeddings=False), "has no output layer: it gives vectors, not tokens"),
    "a reward model": (described(architectures=["Qwen2ForSequenceClassification"]), "scores or sorts texts"),
    "bitsandbytes": (quantised("bitsandbytes"), "quantised by bitsandbytes, .* take the original model, or a GGUF"),
    "AWQ in another layout": (awq("gemv"), "quantised by awq in a way that llmchat cannot run .* take the original"),
    "GPTQ in 3 bits": (
        described(quantization_config={"quant_method": "gptq", "bits": 3}),
        "quantised by gptq in a way .*3 bits.*: take the original model, or a GGUF file of it",
    ),
    "MLX in another mode": (
        described(quantization={"bits": 4, "mode": "nvfp4"}, architectures=["Qwen2ForCausalLM"]),
        "a directory of MLX quantised by nvfp4, which llmchat cannot run: take the original model, or a GGUF",
    ),
    "FP8": (quantised("fp8"), "quantised by fp8, .* take the original model, or a GGUF"),
    "EXL2": (quantised("exl2"), "quantised by exl2, .* take the original model, or a GGUF"),
    "a cut file": (cut("model.safetensors"), r"model.safetensors is damaged or cut short .*: fetch or copy it again"),
    "a missing part": (
        without("model-00002-of-00003.safetensors"),
        "incomplete: model-00002-of-00003.safetensors is missing",
    ),
    "no weights": (without("model.safetensors"), "has a config.json but no weights: fetch its"),
    "no tokenizer": (without("tokenizer.json"), "no tokenizer in"),
    "another architecture": (described(model_type="rwkv7"), "'rwkv7', .* by itself. To run it .* pip install"),
}


@pytest.mark.parametrize(("make", "words"), MISTAKES.values(), ids=list(MISTAKES))
def test_mistakes_are_named_with_the_way_out(make: Make, words: str, tmp_path: Path) -> None:
    """Exactly what is refused is said in one short line that begins with its path."""
    path = make(tmp_path)
    with pytest.raises(ModelLoadError, match=words) as caught:
        open_engine(ModelSpec(str(path)), lambda stage, fraction: None)
    message = caught.value.message
    assert str(tmp_path) in message and "\n" not in message
    assert len(message) - len(str(path)) < 600
