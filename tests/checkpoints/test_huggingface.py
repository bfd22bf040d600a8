"""Opening Hugging Face directories, against what transformers computes from the same files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint
from llmchat.checkpoints.huggingface import load_huggingface
from llmchat.engine.architectures.network import Network
from llmchat.errors import ModelLoadError

DATA = Path(__file__).parents[1] / "data" / "huggingface"
NAMES = ("llama", "mistral", "qwen2", "qwen3")
IDS = [3, 17, 42, 5, 63, 0, 29, 29, 11, 50, 1, 8, 33, 60, 22, 7]
"""The ids whose logits are stored; see make_reference.py there."""


def load(path: Path, **spec: Any) -> Checkpoint:
    """Open a directory, unwatched."""
    return load_huggingface(ModelSpec(str(path), **spec), lambda stage, fraction: None)


@torch.inference_mode()
def logits(checkpoint: Checkpoint) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The logits of every one of `IDS`."""
    model = Network.build(checkpoint.plan, checkpoint.tensors)
    return model.all_logits(torch.tensor([IDS]), model.make_cache(16))[0].numpy()


def refused(path: Path, **spec: Any) -> str:
    """The one line with which a directory is refused."""
    with pytest.raises(ModelLoadError) as caught:
        checkpoint = load(path, **spec)
        Network.build(checkpoint.plan, checkpoint.tensors)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600
    return caught.value.message


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the qwen2 directory, to be damaged."""
    return Path(shutil.copytree(DATA / "qwen2", tmp_path / "Some-Model-0.1B"))


def describe(path: Path, **changes: Any) -> None:
    """Change entries of config.json; None removes one."""
    values = json.loads((path / "config.json").read_text()) | changes
    kept = {key: value for key, value in values.items() if value is not None}
    (path / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_transformers(name: str) -> None:
    """Each model type, sharded, in bfloat16, tied, with biases or norms, gives transformers' own logits."""
    np.testing.assert_allclose(logits(load(DATA / name)), np.load(DATA / name / "logits.npy"), rtol=1e-4, atol=1e-4)


def test_what_is_read_beside_the_weights(copy: Path) -> None:
    """Name, precision, dimensions, template and every end token come from where Hugging Face puts them."""
    (copy / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    checkpoint = load(copy)
    assert checkpoint.name == "Some-Model-0.1B"
    assert checkpoint.weight_format == "float32"
    assert checkpoint.end_ids == (2, 5, 0)
    assert checkpoint.chat_template is not None and "<|im_start|>" in checkpoint.chat_template
    assert checkpoint.plan.tied and checkpoint.plan.layers[0].attention.bias
    assert checkpoint.plan.context_length == 64
    assert checkpoint.notes == ()
    assert load(DATA / "mistral").weight_format == "bfloat16"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("one", "one"), ([{"name": "tool", "template": "no"}, {"name": "default", "template": "two"}], "two"), ([], None)],
)
def test_templates_in_the_tokenizer_settings(copy: Path, given: Any, expected: str | None) -> None:
    """An older directory's template is found in tokenizer_config.json, also as one of several."""
    (copy / "chat_template.jinja").unlink()
    (copy / "tokenizer_config.json").write_text(json.dumps({"chat_template": given}))
    assert load(copy).chat_template == expected


def test_the_older_names_of_rope_settings(copy: Path) -> None:
    """rope_theta and rope_scaling of older files mean the same as rope_parameters."""
    llama = Path(shutil.copytree(DATA / "llama", copy.parent / "llama"))
    rope = json.loads((llama / "config.json").read_text())["rope_parameters"]
    describe(llama, rope_parameters=None, rope_theta=rope.pop("rope_theta"), rope_scaling=rope)
    np.testing.assert_allclose(logits(load(llama)), np.load(llama / "logits.npy"), rtol=1e-4, atol=1e-4)


def test_torch_files_are_read_too(copy: Path) -> None:
    """A directory with pytorch_model.bin gives the same weights and logits as one with safetensors."""
    before = load(copy).raw
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(tensors, copy / "pytorch_model.bin")
    assert {name: (tensor.kind, tensor.shape, tensor.data.tobytes()) for name, tensor in load(copy).raw.items()} == {
        name: (tensor.kind, tensor.shape, tensor.data.tobytes()) for name, tensor in before.items()
    }
    np.testing.assert_allclose(logits(load(copy)), np.load(copy / "logits.npy"), rtol=1e-4, atol=1e-4)


def test_a_sliding_window_leaves_the_context(tmp_path: Path) -> None:
    """Where each token sees only the last 48, a text may be longer than that."""
    path = Path(shutil.copytree(DATA / "mistral", tmp_path / "mistral"))
    describe(path, sliding_window=48)
    checkpoint = load(path)
    assert checkpoint.plan.context_length == 64
    assert {layer.attention.window for layer in checkpoint.plan.layers} == {48}
    assert checkpoint.notes == ()


def test_a_tokenizer_of_ones_own(copy: Path, tiny_dir: Path) -> None:
    """A tokenizer that was asked for replaces the directory's."""
    checkpoint = load(copy, tokenizer=str(tiny_dir / "tokenizer"))
    assert checkpoint.tokenizer_path == str(tiny_dir / "tokenizer")
    assert checkpoint.tokenizer.vocab_size != 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model_type": "rwkv7"},
            "'rwkv7', which llmchat cannot run by itself. To run it with Hugging Face's transformers",
        ),
        ({"model_type": "gemma2"}, "'model.layers.0.pre_feedforward_layernorm.weight' is missing"),
        ({"model_type": None}, "without a model_type"),
        ({"quantization_config": {"bits": 4}}, "weights quantised"),
        ({"hidden_act": "sine"}, "the activation 'sine'"),
        ({"partial_rotary_factor": 0.3}, "the rotated part of each head is wrong"),
        ({"partial_rotary_factor": "half"}, "partial_rotary_factor should be a number"),
        ({"rope_scaling": {"type": "spiral", "factor": 4}, "rope_parameters": None}, "'spiral'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": -4.0}}, "rope scaling is wrong"),
        ({"rope_parameters": {"rope_type": "longrope", "short_factor": 4}}, "short_factor should be a list of numbers"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, "rope scaling is wrong"),
        ({"rope_parameters": [1]}, "should be a table"),
        ({"hidden_size": None}, "does not say its hidden_size"),
        ({"hidden_size": "16"}, "hidden_size should be a whole number"),
        ({"hidden_size": 10**400}, "hidden_size should be a whole number"),
        ({"num_attention_heads": 0}, "0 attention heads"),
        ({"num_key_value_heads": 3}, "n_kv_heads is wrong"),
        ({"num_hidden_layers": 10**9}, "claims 1000000000 layers"),
        ({"num_hidden_layers": 3}, "'model.layers.2.input_layernorm.weight' is missing"),
        ({"num_hidden_layers": 1}, "no place for: 'model.layers.1."),
        ({"intermediate_size": 2**30}, "has shape"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps should be a number"),
        ({"rms_norm_eps": -1.0}, "norm_eps is wrong"),
        ({"max_position_embeddings": -5}, "context_length is wrong"),
    ],
)
def test_descriptions_that_cannot_be_run(copy: Path, changes: dict[str, Any], words: str) -> None:
    """A model of another kind, or one whose description is damaged or hostile, is refused in one line."""
    describe(copy, **changes)
    assert words in refused(copy)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"model_type": NaN'])
def test_a_config_that_is_no_object(copy: Path, content: str) -> None:
    """A config.json that is damaged is named."""
    (copy / "config.json").write_text(content)
    assert "config.json is damaged" in refused(copy)


def test_no_config(tmp_path: Path) -> None:
    """A directory that is no model says what was expected."""
    assert "has no config.json" in refused(tmp_path)


def test_no_tokenizer(copy: Path) -> None:
    """A directory without tokenizer says which files it looked for."""
    (copy / "tokenizer.json").unlink()
    assert "There is no tokenizer in" in refused(copy)


def test_no_weights(copy: Path) -> None:
    """A directory without weights says which files it lacks."""
    (copy / "model.safetensors").unlink()
    assert "no weights: fetch its model*.safetensors" in refused(copy)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
def test_files_that_are_something_else_are_named_as_what_they_are(copy: Path, name: str) -> None:
    """Pointers of Git LFS, which a clone without it leaves, and pages of a hub that refused a download."""
    (copy / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    assert f"{name} is a pointer of Git LFS" in refused(copy)
    (copy / name).write_text("<!DOCTYPE html><html>not found</html>")
    assert f"{name} is a web page" in refused(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_text_in_another_encoding(copy: Path, name: str) -> None:
    """UTF-16, as some editors write it, is named; the mark that others put before UTF-8 does no harm."""
    text = (copy / name).read_text()
    (copy / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    load(copy)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        (copy / name).write_text(text, encoding)
        assert f"{name} is text in UTF-16: save it as UTF-8" in refused(copy)


HEADERS = {
    "no JSON": b"{",
    "no object": b"[]",
    "nesting": b"[" * 100_000,
    "no tensor": b'{"a": 1}',
    "huge": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, ' + b"9" * 5000 + b"]}}",
    "nothing known": b'{"a": {}}',
    "turned": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
    "outside": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
    "another shape": b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}',
    "text as a shape": b'{"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}',
    "shared": b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]},'
    b' "b": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}',
    "dtype": b'{"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}',
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_hostile_headers_of_safetensors(copy: Path, header: bytes) -> None:
    """Whatever a header says, it is refused in one line."""
    (copy / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert "damaged or cut short" in refused(copy) or "is of type" in refused(copy)


@pytest.mark.parametrize("size", [0, 5, 8, 300, 20_000])
def test_weights_cut_short(copy: Path, size: int) -> None:
    """A download that broke off is noticed, wherever it broke."""
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert "model.safetensors is damaged or cut short" in refused(copy)


def test_a_hostile_safetensors_header(copy: Path) -> None:
    """Claims of huge headers and tensors outside the file are refused without memory."""
    file = copy / "model.safetensors"
    file.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    assert "damaged" in refused(copy)
    head = b'{"model.norm.weight":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,399999999996]}}'
    file.write_bytes(len(head).to_bytes(8, "little") + head)
    assert "damaged" in refused(copy)


def test_shards(tmp_path: Path) -> None:
    """A shard that is missing, or one outside the directory, is refused by name."""
    path = Path(shutil.copytree(DATA / "llama", tmp_path / "llama"))
    (path / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors is missing" in refused(path)
    (path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}')
    assert "'../../etc/passwd'" in refused(path)
    for name in ("é" * 200, "\\ud800", "a\\u0000b", ""):
        (path / "model.safetensors.index.json").write_text(f'{{"weight_map": {{"a": "{name}"}}}}')
        assert "names a file that is not beside it" in refused(path)
    (path / "model.safetensors.index.json").write_text('{"weight_map": 5}')
    assert "has no list of files" in refused(path)


def test_integers_are_no_weights(copy: Path) -> None:
    """Weights that were quantised in a way we do not know are refused, not run as nonsense."""
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    save_file(tensors, copy / "model.safetensors")
    assert "of type I8" in refused(copy)


def test_a_torch_file_with_strides_of_zero(copy: Path) -> None:
    """A tensor that claims more numbers than the file holds is refused."""
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    tensors["model.norm.weight"] = torch.zeros(1).expand(16)
    torch.save(tensors, copy / "pytorch_model.bin")
    assert "does not hold" in refused(copy)
