"""The native decode step on every weight format: exact products, whole models, files of mixed formats, bad shapes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint, RawTensor
from llmchat.engine.native import weight_loader
from llmchat.engine.native.cache import NativeCache
from llmchat.engine.native.library import KERNELS_VARIABLE, load_library
from llmchat.engine.native.model import NativeModel
from llmchat.engine.opening import open_engine
from llmchat.errors import ModelLoadError
from tests.engine.plans import LlamaSizes
from tests.engine.random_blocks import KINDS, random_matrix, values_of
from tests.engine.test_native import IDS, llama_config, native_logits, torch_logits, usable_kernels
from tests.fakes import ByteTokenizer

WIDE = llama_config(dim=256, ffn_dim=512, n_heads=8, n_kv_heads=2, tied=False)
"""Rows of whole superblocks, as files with K-quants have them; the last rows fill no whole block."""


def checkpoint_of(config: LlamaSizes, kind_of: Callable[[str], str], seed: int = 3) -> Checkpoint:
    """Random weights, each matrix in the format of its name, and the same numbers as torch tensors."""
    import torch

    rng = np.random.default_rng(seed)
    raw = {}
    for name, shape in config.plan().tensors().items():
        if len(shape) == 2:
            raw[name] = random_matrix(kind_of(name), *shape, rng, 0.06)
        else:
            values = (1 + 0.1 * rng.standard_normal(shape)).astype(np.float32)
            raw[name] = RawTensor("F32", shape, values.reshape(1, -1).view(np.uint8))
    tensors = {name: torch.from_numpy(values_of(tensor).astype(np.float32)) for name, tensor in raw.items()}
    return Checkpoint("random", "", config.plan(), tensors, "mixed", ByteTokenizer(), "", raw=raw)


def like_q4_k_m(name: str) -> str:
    """The formats of a common file: values, down projections and the head are finer than the rest."""
    return "Q6_K" if any(part in name for part in ("v_proj", "down_proj", "head")) else "Q4_K"


def with_only_a_head(config: LlamaSizes, head: RawTensor, row: np.ndarray) -> Checkpoint:
    """A model whose layers add nothing: its logits are the head times the normalised embedding."""
    checkpoint = checkpoint_of(config, lambda name: "F32")
    raw = dict(checkpoint.raw or {})
    for name, tensor in raw.items():
        zeroed = name.endswith(("o_proj.weight", "down_proj.weight"))
        raw[name] = replace(tensor, data=np.zeros_like(tensor.data)) if zeroed else tensor
    rows = np.tile(row.astype(np.float32), (config.vocab_size, 1))
    raw["embedding.weight"] = RawTensor("F32", rows.shape, rows.view(np.uint8))
    raw["norm.weight"] = RawTensor("F32", (config.dim,), np.ones((1, config.dim), np.float32).view(np.uint8))
    return replace(checkpoint, raw=raw | {"head.weight": head})


@pytest.mark.parametrize("kernels", usable_kernels())
@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_those_of_the_file(kind: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64: no weight is rounded, and activations are off by half a step of their group at most.

    Activations that are all of one size lose nothing in 16 bits, so that only float rounding is left.
    """
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    rng = np.random.default_rng(11)
    config = llama_config(dim=768, n_layers=1, ffn_dim=32, n_heads=2, n_kv_heads=1, head_dim=16, tied=False)
    head = random_matrix(kind, config.vocab_size, config.dim, rng, 0.1)
    weights = values_of(head).astype(np.float64)
    for row, steps in ((rng.choice([-1.0, 1.0], config.dim), 0.0), (rng.standard_normal(config.dim), 0.51)):
        logits = native_logits(with_only_a_head(config, head, row), [1])[0]
        row = row.astype(np.float32).astype(np.float64)
        normed = row / np.sqrt(np.mean(row**2) + config.norm_eps)
        step = np.repeat(np.abs(normed.reshape(-1, 32)).max(axis=1) / 32512, 32)
        bound = np.abs(weights) @ (steps * step + 2e-6 * np.abs(normed))
        assert (np.abs(logits - weights @ normed) <= bound).all()


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_read_as_the_file_has_them(kind: str) -> None:
    """A row of any format, against the gguf package's reading of it in float64."""
    rng = np.random.default_rng(12)
    config = llama_config(dim=768, n_layers=1, ffn_dim=32, n_heads=2, n_kv_heads=1, head_dim=16, tied=False)
    head = random_matrix("F32", config.vocab_size, config.dim, rng, 0.1)
    checkpoint = with_only_a_head(config, head, np.zeros(config.dim))
    embedding = random_matrix(kind, config.vocab_size, config.dim, rng, 1.0)
    logits = native_logits(replace(checkpoint, raw={**checkpoint.raw, "embedding.weight": embedding}), IDS)
    rows = values_of(embedding).astype(np.float64)[IDS]
    normed = rows / np.sqrt(np.mean(rows**2, axis=1, keepdims=True) + config.norm_eps)
    assert np.abs(logits - normed @ values_of(head).astype(np.float64).T).max() < 1e-5


@pytest.mark.parametrize("kernels", usable_kernels())
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_any_format_agrees_with_torch(kind: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits within 1/500 of their spread, none of the weights having been brought to another format."""
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    monkeypatch.delattr(weight_loader, "_dense")
    checkpoint = checkpoint_of(WIDE, lambda name: kind)
    expected = torch_logits(checkpoint, IDS)
    assert np.abs(native_logits(checkpoint, IDS) - expected).max() < 2e-3 * expected.std()


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_formats_may_be_mixed(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries, keys and values of several formats run as the file has them, whoever has which rows."""
    monkeypatch.delattr(weight_loader, "_dense")
    monkeypatch.delattr(weight_loader, "_as_float32")
    checkpoint = checkpoint_of(WIDE, like_q4_k_m)
    expected = torch_logits(checkpoint, IDS)
    got = native_logits(checkpoint, IDS, threads=threads)
    assert np.abs(got - expected).max() < 2e-3 * expected.std()
    for chunk in (2, 3, 4):
        assert np.array_equal(native_logits(checkpoint, IDS, threads=threads, chunk=chunk)[-1], got[-1])


def test_formats_that_change_inside_a_block_of_rows_run_too() -> None:
    """Eight rows of keys fill no block: such a model is brought to one format."""
    checkpoint = checkpoint_of(replace(WIDE, n_heads=32, n_kv_heads=1, head_dim=8), like_q4_k_m)
    expected = torch_logits(checkpoint, IDS)
    assert np.abs(native_logits(checkpoint, IDS) - expected).max() < 2e-3 * expected.std()


def write_gguf(path: Path, config: LlamaSizes, raw: Mapping[str, RawTensor]) -> None:
    """A GGUF file of a model of the qwen2 kind, which does not interleave its heads."""
    names = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}
    parts = {
        "attention_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
        **{
            f"attention.{ours}_proj": f"attn_{theirs}"
            for ours, theirs in zip("qkvo", ("q", "k", "v", "output"), strict=True)
        },
        **{f"ffn.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
    }
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.dim)
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"<{i}>" for i in range(config.vocab_size)])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges([])
    writer.add_eos_token_id(0)
    for name, tensor in raw.items():
        part, _, last = name.rpartition(".")
        if part in names:
            theirs = f"{names[part]}.{last}"
        else:
            _, layer, inner = part.split(".", 2)
            theirs = f"blk.{layer}.{parts[inner]}.{last}"
        kind = gguf.GGMLQuantizationType[tensor.kind]
        data = tensor.data.view(np.float32).reshape(tensor.shape) if tensor.kind == "F32" else tensor.data
        writer.add_tensor(theirs, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_file_of_mixed_formats_runs_alike_on_both_engines(tmp_path: Path) -> None:
    """From the file to the logits: the native step and torch in float32."""
    checkpoint = checkpoint_of(WIDE, like_q4_k_m)
    assert checkpoint.raw is not None
    path = tmp_path / "mixed.gguf"
    write_gguf(path, WIDE, checkpoint.raw)
    rows = []
    for dtype in ("auto", "float32"):
        engine = open_engine(ModelSpec(str(path), dtype=dtype), lambda stage, fraction: None)
        assert engine.info.dtype.startswith("native" if dtype == "auto" else "float32")
        logits = engine.prefill(IDS, lambda: False).logits
        assert logits is not None
        rows.append(logits)
    assert np.abs(rows[0] - rows[1]).max() < 2e-3 * rows[1].std()


def test_weights_of_other_sizes_are_refused() -> None:
    """Blocks that are too few for their shape, and shapes that are not the model's, are never read."""
    sound = checkpoint_of(WIDE, lambda name: "Q4_K")
    raw = dict(sound.raw or {})
    name = "layers.1.ffn.up_proj.weight"
    short = replace(raw[name], data=raw[name].data[:-1])
    narrow = random_matrix("Q4_K", WIDE.ffn_dim - 16, WIDE.dim, np.random.default_rng(1), 0.1)
    norm = RawTensor("F32", (WIDE.dim - 1,), np.ones((1, WIDE.dim - 1), np.float32).view(np.uint8))
    for changed in ({name: short}, {name: narrow}, {"layers.0.ffn_norm.weight": norm}):
        with pytest.raises(ModelLoadError, match="do not fit its dimensions"):
            NativeModel(replace(sound, raw=raw | changed), 1, lambda stage, fraction: None)


def test_steps_that_are_not_the_models_are_refused() -> None:
    """Tokens outside the vocabulary, no tokens, and the cache of a model of other dimensions."""
    model = NativeModel(checkpoint_of(WIDE, lambda name: "F32"), 1, lambda stage, fraction: None)
    other = NativeModel(checkpoint_of(llama_config(n_layers=1), lambda name: "F32"), 1, lambda stage, fraction: None)
    cache = NativeCache(model, 64)
    for token in (-1, WIDE.vocab_size):
        with pytest.raises(IndexError):
            model.step([token], [0], [cache])
    with pytest.raises(ValueError, match="no token"):
        model.step([], [], [])
    with pytest.raises(ValueError, match="not of this model"):
        model.step([1], [0], [NativeCache(other, 64)])


def test_every_set_of_kernels_agrees_with_the_portable_one(tmp_path: Path) -> None:
    """The check program in C++ on the built step: random shapes, bit for bit where arithmetic is exact."""
    compiler, library = shutil.which("c++") or shutil.which("g++"), load_library()
    if compiler is None or library is None:
        pytest.skip("there is no C++ compiler, or no native step")
    root = Path(__file__).parents[2]
    native, program = root / "llmchat/engine/native", tmp_path / "kernel_check"
    flags = ["-std=c++20", "-O1", "-pthread", "-Wno-psabi", f"-I{native}"]
    # Nothing links with a module of Python on macOS.
    step = sorted(native.glob("*.cpp")) if sys.platform == "darwin" else [Path(library._name)]
    sources = [root / "tests/engine/native/kernel_check.cpp", *step]
    subprocess.run([compiler, *flags, *map(str, sources), "-o", str(program)], check=True)
    done = subprocess.run([str(program), "20"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "portable: all hold" in done.stdout
