"""Opening GGUF files: the container, the architectures, and files that are damaged or hostile."""

from __future__ import annotations

import math
import random
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint
from llmchat.checkpoints.gguf import load_gguf
from llmchat.checkpoints.gguf_file import GGUFFile
from llmchat.engine.architectures.network import Network
from llmchat.errors import ModelLoadError
from tests.checkpoints.test_huggingface import DATA, logits

Types = gguf.GGMLQuantizationType
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def tensors_of(name: str) -> dict[str, Tensor]:
    """A reference model's tensors by GGUF's names, as llama.cpp's converter would write them."""
    tensors: dict[str, Tensor] = {}
    for file in sorted((DATA / name).glob("*.safetensors")):
        for long_name, values in load_file(file).items():
            heads = {"q_proj": 4, "k_proj": 2}.get(long_name.split(".")[-2], 0) if name in ("llama", "mistral") else 0
            if heads:
                values = values.view(heads, 2, -1, *values.shape[1:]).transpose(1, 2).reshape(values.shape)
            for old, short in NAMES.items():
                long_name = long_name.replace(old, short)
            tensors[long_name] = values.float()
    return tensors


def keys_of(name: str) -> dict[str, Any]:
    """The keys that describe a reference model."""
    arch = "llama" if name == "mistral" else name
    head_dim = {"llama": 8, "mistral": 4, "qwen2": 4, "qwen3": 12}[name]
    return {
        "general.architecture": arch,
        f"{arch}.block_count": 2,
        f"{arch}.context_length": 64,
        f"{arch}.embedding_length": 16,
        f"{arch}.feed_forward_length": 24,
        f"{arch}.attention.head_count": 4,
        f"{arch}.attention.head_count_kv": 2,
        f"{arch}.attention.key_length": head_dim,
        f"{arch}.attention.value_length": head_dim,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{arch}.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"<{i}>" for i in range(60)] + ["b", "<|im_end|>", "c", "bc"],
        "tokenizer.ggml.token_type": [1] * 61 + [3, 1, 1],
        "tokenizer.ggml.merges": ["b c"],
        "tokenizer.ggml.eos_token_id": 61,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }


def write(path: Path, keys: dict[str, Any], tensors: dict[str, Tensor], kind: Types = Types.F32) -> Path:
    """A GGUF file, by the gguf package's own writer; matrices are of type `kind` where their rows allow."""
    writer = gguf.GGUFWriter(path, keys.get("general.architecture", ""))
    adders: dict[type, Callable[[str, Any], object]] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    for name, value in keys.items():
        if name != "general.architecture" and value is not None:
            adders[type(value)](name, value)
    for name, values in tensors.items():
        fits = values.dim() == 2 and values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        used = kind if fits else Types.F32
        writer.add_tensor(name, gguf.quantize(values.numpy(), used), raw_dtype=used)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def load(path: Path, **spec: Any) -> Checkpoint:
    """Open a file, unwatched."""
    return load_gguf(ModelSpec(str(path), **spec), lambda stage, fraction: None)


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ModelLoadError) as caught:
        checkpoint = load(path)
        Network.build(checkpoint.plan, checkpoint.tensors)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600
    return caught.value.message


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A sound file, to be damaged."""
    return write(tmp_path / "Small-1B.F32.gguf", keys_of("qwen2"), tensors_of("qwen2"))


@pytest.mark.parametrize("name", ["mistral", "qwen2", "qwen3"])
def test_logits_equal_transformers(tmp_path: Path, name: str) -> None:
    """Each architecture gives the logits of the Hugging Face model that was converted."""
    path = write(tmp_path / "model.gguf", keys_of(name), tensors_of(name))
    np.testing.assert_allclose(logits(load(path)), np.load(DATA / name / "logits.npy"), rtol=1e-4, atol=1e-4)


def test_llama3_factors(tmp_path: Path) -> None:
    """Rotary factors, which converters write for Llama 3.1 and later, are applied."""
    factors = []
    for i in range(4):
        wavelength = 2 * math.pi * 10000 ** (2 * i / 8)
        blend = (32 / wavelength - 1) / (4 - 1)
        factors.append(1 / (blend + (1 - blend) / 8) if 8 < wavelength < 32 else 1.0 if wavelength <= 8 else 8.0)
    tensors = tensors_of("llama") | {"rope_freqs.weight": torch.tensor(factors)}
    path = write(tmp_path / "model.gguf", keys_of("llama"), tensors)
    np.testing.assert_allclose(logits(load(path)), np.load(DATA / "llama" / "logits.npy"), rtol=1e-4, atol=1e-4)


def test_linear_stretching(tmp_path: Path) -> None:
    """Linearly stretched positions are applied."""
    stretched = {"qwen2.rope.scaling.type": "linear", "qwen2.rope.scaling.factor": 2.0}
    path = write(tmp_path / "model.gguf", keys_of("qwen2") | stretched, tensors_of("qwen2"))
    plain = np.load(DATA / "qwen2" / "logits.npy")
    assert np.abs(logits(load(path))[0] - plain[0]).max() < 1e-4
    assert np.abs(logits(load(path))[-1] - plain[-1]).max() > 1e-2


@pytest.mark.parametrize(
    "kind", [Types.Q4_0, Types.Q4_1, Types.Q5_1, Types.Q8_0, Types.F16, Types.BF16], ids=lambda kind: kind.name
)
def test_weight_formats(tmp_path: Path, kind: Types) -> None:
    """Weights of every usual format come out as the gguf package dequantises them, whatever the size."""
    keys = keys_of("qwen2") | {"qwen2.embedding_length": 32, "qwen2.attention.key_length": 8}
    keys |= {"qwen2.attention.value_length": 8, "qwen2.feed_forward_length": 64}
    noise = torch.Generator().manual_seed(2)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (5000, 32), "output_norm.weight": (32,)}
    for i in range(2):
        names = {"attn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "ffn_norm": (32,)}
        names |= {"attn_output": (32, 32), "ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64)}
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in names.items()}
    tensors = {name: torch.randn(shape, generator=noise) for name, shape in shapes.items()}
    checkpoint = load(write(tmp_path / "model.gguf", keys, tensors, kind))
    assert checkpoint.weight_format == kind.name
    assert checkpoint.plan.vocab_size == 5000
    for ours, theirs in (("embedding", "token_embd"), ("layers.1.ffn.down_proj", "blk.1.ffn_down")):
        original = tensors[f"{theirs}.weight"].numpy()
        expected = gguf.dequantize(gguf.quantize(original, kind), kind)
        np.testing.assert_array_equal(checkpoint.tensors[f"{ours}.weight"].float().numpy(), expected)


def test_what_the_file_says_of_itself(small: Path) -> None:
    """Name, precision, dimensions, template and end tokens come from the file."""
    checkpoint = load(small)
    assert (checkpoint.name, checkpoint.weight_format) == ("Small-1B", "F32")
    assert checkpoint.chat_template == "{{ messages[0].content }}"
    assert checkpoint.end_ids == (61,)
    assert checkpoint.tokenizer.vocab_size == 64
    assert checkpoint.tokenizer_path == str(small)
    assert (checkpoint.plan.context_length, checkpoint.plan.tied) == (64, True)


@pytest.mark.parametrize(
    ("file", "stated", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1", "Smollm2 135M 8k", "SmolLM2-135M-Instruct"),
        ("qwen2.5-0.5b-instruct-q4_k_m", "x", "qwen2.5-0.5b-instruct"),
        ("Llama-3.2-1B-Instruct-IQ4_XS", "x", "Llama-3.2-1B-Instruct"),
        ("model", "Good Name", "Good Name"),
        ("ggml-model-f16", None, "ggml-model"),
    ],
)
def test_names(tmp_path: Path, file: str, stated: str | None, name: str) -> None:
    """A model goes by its file's name without the precision, or by its own where the file's says nothing."""
    keys = keys_of("qwen2") | {"general.name": stated}
    assert load(write(tmp_path / f"{file}.gguf", keys, tensors_of("qwen2"))).name == name


def test_progress_reaches_the_end(small: Path) -> None:
    """The weights' progress runs from above 0 to 1 while the model is built, one step a tensor."""
    seen: list[tuple[str, float | None]] = []
    checkpoint = load_gguf(ModelSpec(str(small)), lambda stage, fraction: seen.append((stage, fraction)))
    assert [stage for stage, _ in seen] == ["opening the file", "reading the tokenizer"]
    Network.build(checkpoint.plan, checkpoint.tensors)
    fractions = [fraction for stage, fraction in seen if stage == "reading weights" and fraction is not None]
    assert len(fractions) == len(checkpoint.tensors)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_tokenizer_of_ones_own(small: Path, tiny_dir: Path) -> None:
    """A tokenizer that was asked for replaces the file's."""
    checkpoint = load(small, tokenizer=str(tiny_dir / "tokenizer"))
    assert checkpoint.tokenizer_path == str(tiny_dir / "tokenizer")
    assert checkpoint.tokenizer.vocab_size != 64


def test_the_container_is_read_as_the_gguf_package_reads_it(default_model_path: Path) -> None:
    """Every key and every tensor's blocks of the real model are what the gguf package finds, and much sooner."""
    begun = time.process_time()
    file = GGUFFile.open(default_model_path)
    ours = time.process_time() - begun
    begun = time.process_time()
    reader = gguf.GGUFReader(default_model_path)
    theirs = time.process_time() - begun
    assert ours < theirs / 3
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert file.metadata == {name: value for name, value in fields.items() if not name.startswith("GGUF.")}
    for listed in reader.tensors:
        found = file.tensors[listed.name]
        assert (found.kind, found.span.start) == (listed.tensor_type.name, listed.data_offset)
        assert found.shape == tuple(int(size) for size in reversed(listed.shape))
        assert np.array_equal(found.read().ravel(), listed.data.view(np.uint8).ravel())
    assert len(file.tensors) == len(reader.tensors)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qwen2.pooling_type": 1}, "is an embedding model ('qwen2'): it gives vectors, not tokens"),
        ({"qwen2.pooling_type": 4}, "scores or sorts texts: it gives numbers"),
        ({"qwen2.attention.causal": False}, "is an embedding model"),
        ({"general.architecture": "bert"}, "is an embedding model ('bert')"),
        ({"general.type": "adapter", "general.base_model.0.name": "Qwen2"}, "a LoRA adapter of 'Qwen2', no model"),
        ({"general.architecture": "clip"}, "turns pictures into its input: give the model itself"),
        (
            {"general.architecture": "rwkv7"},
            "'rwkv7', which llmchat cannot run by itself. To run it with llama.cpp: pip",
        ),
        ({"qwen2.expert_count": 8}, "does not say its qwen2.expert_used_count"),
        ({"qwen2.expert_count": 8, "qwen2.expert_used_count": 9}, "expert_count is wrong"),
        ({"qwen2.expert_count": 8, "qwen2.expert_used_count": 2}, "'blk.0.ffn_gate_inp.weight' is missing"),
        ({"qwen2.attention.value_length": 5}, "keys and values of different sizes"),
        ({"qwen2.rope.dimension_count": 3}, "the rotated part of each head is wrong"),
        ({"qwen2.rope.dimension_count": 6}, "the rotated part of each head is wrong"),
        ({"qwen2.rope.scaling.type": "spiral"}, "'spiral'"),
        ({"qwen2.rope.scaling.type": "yarn"}, "does not say its qwen2.rope.scaling.factor"),
        ({"qwen2.rope.scaling.type": "yarn", "qwen2.rope.scaling.factor": 0.0}, "rope scaling is wrong"),
        ({"qwen2.block_count": None}, "does not say its qwen2.block_count"),
        ({"qwen2.block_count": "two"}, "should be a whole number, not 'two'"),
        ({"qwen2.block_count": 2**31 - 1}, "claims 2147483647 layers"),
        ({"qwen2.block_count": 2**32 - 1}, "should be a whole number"),
        ({"qwen2.block_count": 3}, "'blk.2.attn_norm.weight' is missing"),
        ({"qwen2.block_count": 1}, "no place for: 'blk.1."),
        ({"qwen2.attention.head_count": 0}, "0 attention heads"),
        ({"qwen2.attention.head_count": [4, 2]}, "should be a whole number"),
        ({"qwen2.attention.head_count_kv": 3}, "n_kv_heads is wrong"),
        ({"qwen2.feed_forward_length": 2**30}, "has shape"),
        ({"qwen2.context_length": 0}, "context_length is wrong"),
        ({"qwen2.attention.layer_norm_rms_epsilon": math.nan}, "layer_norm_rms_epsilon should be a number"),
        ({"qwen2.rope.freq_base": -1.0}, "rope_theta is wrong"),
        ({"tokenizer.ggml.tokens": None}, "holds no tokenizer"),
    ],
)
def test_models_that_cannot_be_run(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """A model of another kind, or one whose description is damaged or hostile, is refused in one line."""
    assert words in refused(write(tmp_path / "model.gguf", keys_of("qwen2") | changes, tensors_of("qwen2")))


def test_tensors_that_are_missing_or_unknown(tmp_path: Path) -> None:
    """A tensor too few or too many is named: running without it would give nonsense."""
    tensors = tensors_of("qwen2")
    bias = tensors.pop("blk.1.attn_k.bias")
    assert "'blk.1.attn_k.bias' is missing" in refused(write(tmp_path / "few.gguf", keys_of("qwen2"), tensors))
    tensors |= {"blk.1.attn_k.bias": bias, "blk.1.attn_output.bias": torch.zeros(16)}
    many = write(tmp_path / "many.gguf", keys_of("qwen2"), tensors)
    assert "no place for: 'blk.1.attn_output.bias'" in refused(many)
    del tensors["token_embd.weight"]
    assert "'token_embd.weight' is missing" in refused(write(tmp_path / "none.gguf", keys_of("qwen2"), tensors))


def text(value: str | bytes) -> bytes:
    """A string as GGUF writes it."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def crafted(keys: Iterable[bytes] = (), tensors: Iterable[bytes] = (), **head: Any) -> bytes:
    """The bytes of a GGUF file, with counts that may be lies."""
    keys, tensors = list(keys), list(tensors)
    counts = struct.pack("<QQ", head.get("tensor_count", len(tensors)), head.get("key_count", len(keys)))
    version = struct.pack(head.get("order", "<") + "I", head.get("version", 3))
    return b"GGUF" + version + counts + b"".join(keys) + b"".join(tensors)


def key(name: str, kind: int, value: bytes) -> bytes:
    """One key."""
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: str, sizes: list[int], kind: int = 0, offset: int = 0) -> bytes:
    """One tensor's entry; sizes are in the file's order, row length first."""
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


HUGE = 2**63
NESTED = struct.pack("<IQ", 9, 1) * 50
HOSTILE = {
    "nothing": (b"", "does not begin with GGUF"),
    "another format": (b"PK\x03\x04" + bytes(100), "is a zip file, as torch.save writes it"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
    "web page": (b"<!DOCTYPE html><html>", "is a web page"),
    "magic alone": (b"GGUF", "ends inside its header"),
    "old version": (crafted(version=1), "another kind (version 1)"),
    "new version": (crafted(version=99), "another kind (version 99)"),
    "big-endian": (crafted(order=">"), "big-endian, version 3"),
    "tensor count": (crafted(tensor_count=HUGE), f"it claims {HUGE} tensors"),
    "key count": (crafted(key_count=HUGE), f"it claims {HUGE} keys"),
    "key length": (crafted([struct.pack("<Q", HUGE) + bytes(20)]), "characters in a string"),
    "string length": (crafted([key("a", 8, struct.pack("<Q", 10**6))]), "it claims 1000000 characters"),
    "list length": (crafted([key("a", 9, struct.pack("<IQ", 4, HUGE))]), "numbers in a list"),
    "list of strings": (crafted([key("a", 9, struct.pack("<IQ", 8, 2**40))]), "items in a list"),
    "nesting": (crafted([key("a", 9, NESTED)]), "unknown type 9"),
    "type of a value": (crafted([key("a", 77, bytes(30))]), "unknown type 77"),
    "key twice": (crafted([key("a", 4, bytes(4)), key("a", 4, bytes(4))]), "comes twice"),
    "alignment": (crafted([key("general.alignment", 4, bytes(4))]), "alignment is wrong"),
    "alignment of text": (crafted([key("general.alignment", 8, text("x"))]), "alignment is wrong"),
    "dimensions": (crafted(tensors=[tensor("t", [1] * 5)]), "has 5 dimensions"),
    "no dimensions": (crafted(tensors=[tensor("t", []) + bytes(64)]), "has 0 dimensions"),
    "type of a tensor": (crafted(tensors=[tensor("t", [4], kind=9999)]), "of type 9999"),
    "size": (crafted(tensors=[tensor("t", [HUGE, HUGE, HUGE])]) + bytes(64), "does not fit"),
    "empty": (crafted(tensors=[tensor("t", [0, 4])]) + bytes(64), "does not fit"),
    "offset": (crafted(tensors=[tensor("t", [4], offset=HUGE)]) + bytes(64), "does not fit"),
    "half a block": (crafted(tensors=[tensor("t", [17], kind=8)]) + bytes(64), "does not fit"),
    "tensor twice": (crafted(tensors=[tensor("t", [4]), tensor("t", [4])]) + bytes(64), "the same name"),
    "no keys at all": (crafted(), "does not say its architecture"),
    "text that is no text": (crafted([key("general.architecture", 8, text(b"\xff\xfe"))]), "which llmchat cannot run"),
    "lines in a name": (crafted(tensors=[tensor("a\nb\n", [0])]) + bytes(64), "does not fit"),
}


@pytest.mark.parametrize(("content", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers(tmp_path: Path, content: bytes, words: str) -> None:
    """Lies about counts, lengths, types and places are each refused in one line, without memory or time."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    assert words in refused(path)


def parts(directory: Path) -> list[Path]:
    """A sound model in two files, as they are split for download."""
    listed = list(tensors_of("qwen2").items())
    halves = (dict(listed[:9]), dict(listed[9:]))
    paths = [directory / f"Small-1B-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, (path, half) in enumerate(zip(paths, halves, strict=True)):
        split = {"split.no": number, "split.count": 2, "split.tensors.count": len(listed)}
        write(path, split if number else keys_of("qwen2") | split, half)
    return paths


@pytest.mark.parametrize("given", [0, 1])
def test_a_model_in_several_files_is_opened_by_any_of_them(tmp_path: Path, given: int) -> None:
    """Its tensors come from all of them; its name is that of the whole."""
    checkpoint = load(parts(tmp_path)[given])
    assert checkpoint.name == "Small-1B"
    np.testing.assert_allclose(logits(checkpoint), np.load(DATA / "qwen2" / "logits.npy"), rtol=1e-4, atol=1e-4)


def test_parts_of_a_model_are_named_as_such(tmp_path: Path) -> None:
    """A missing part is named, also the first; parts under other names, and a piece of a file that was cut, say so."""
    first, second = parts(tmp_path)
    kept, renamed = first.read_bytes(), tmp_path / "other.gguf"
    first.rename(renamed)
    assert "is part 1 of 2 of a model, which are found by their names: call them other-00001" in refused(renamed)
    assert f"is part 2 of 2 of a model, and {first.name} is not beside it" in refused(second)
    second.unlink()
    first.write_bytes(kept)
    assert f"part 1 of 2 of a model, and {second.name} is not beside it" in refused(first)
    first.write_bytes(first.read_bytes()[:400])
    assert "(by its name part 1 of 2)" in refused(first)


def test_files_cut_short(small: Path) -> None:
    """A download that broke off is refused wherever it broke, in the header or in the weights."""
    content = small.read_bytes()
    for size in [0, 3, 4, *range(5, 4000, 37), *range(4000, len(content), 1009), len(content) - 1]:
        small.write_bytes(content[:size])
        assert ("no GGUF file" if size < 4 else "fetch or copy it again") in refused(small)


def test_damaged_bytes_never_crash(small: Path) -> None:
    """Random damage to the header gives one clear line, or another model, but nothing else."""
    content = small.read_bytes()
    noise = random.Random(5)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(noise.randint(1, 4)):
            damaged[noise.randrange(4500)] = noise.choice((0, 1, 127, 128, 255, noise.randrange(256)))
        small.write_bytes(damaged)
        try:
            load(small)
        except ModelLoadError as error:
            assert "\n" not in error.message


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    """A directory, a missing file and an impossible name are each named."""
    assert "is no file" in refused(tmp_path)
    assert "cannot be opened" in refused(tmp_path / "missing.gguf")
    assert "cannot be opened" in refused(tmp_path / "a\0b.gguf")


def test_unreadable_types(tmp_path: Path) -> None:
    """A format that the gguf package cannot dequantise is named before anything is read."""
    keys = [key("general.architecture", 8, text("llama")), *(key(f"llama.{name}", 4, struct.pack("<I", number)) for
            name, number in {"embedding_length": 256, "attention.head_count": 4, "context_length": 9, "block_count": 1,
                             "feed_forward_length": 256}.items())]  # fmt: skip
    keys.append(key("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)))
    sizes = {"token_embd": [256, 4], "output_norm": [256]}
    sizes |= {f"blk.0.{name}": [256, 256] for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    sizes |= {f"blk.0.{name}": [256, 256] for name in ("ffn_gate", "ffn_up", "ffn_down")}
    sizes |= {"blk.0.attn_norm": [256], "blk.0.ffn_norm": [256]}
    tensors = [tensor(f"{name}.weight", size, kind=int(Types.Q8_K)) for name, size in sizes.items()]
    path = tmp_path / "model.gguf"
    path.write_bytes(crafted(keys, tensors) + bytes(256 * 256 * 2))
    assert "weights of the type Q8_K" in refused(path)


def write_model(path: Path, name: str) -> Path:
    """A reference model as a GGUF file."""
    return write(path, keys_of(name), tensors_of(name))
