"""The native decode step against the torch modules: every weight format, kernel, thread count and family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint, RawTensor
from llmchat.engine.engine import Engine
from llmchat.engine.native.cache import NativeCache
from llmchat.engine.native.library import KERNELS_VARIABLE, PreparedMemory, load_library
from llmchat.engine.native.model import NativeModel
from llmchat.engine.opening import open_engine
from tests.conftest import DATA
from tests.engine.plans import LlamaSizes
from tests.fakes import ByteTokenizer

IDS = [1, 5, 9, 33, 2, 7, 40, 11, 3, 3, 60, 17]


def usable_kernels() -> list[str]:
    """The kernels that this machine can run; the library must have been built."""
    library = load_library()
    assert library is not None, "the native step was not built"
    return [name for name in ("avx512", "avx2", "portable") if library.llmchat_kernels(name.encode())]


def llama_config(**changes: Any) -> LlamaSizes:
    """A small model with odd sizes: the last rows fill no whole block."""
    config = LlamaSizes(
        vocab_size=83, context_length=64, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=32, dim=96, ffn_dim=160,
        norm_eps=1e-5, rope_theta=10000.0,
    )  # fmt: skip
    return replace(config, **changes)


def llama_checkpoint(config: LlamaSizes, kind: str) -> Checkpoint:
    """Random weights in one format, and the same numbers as torch tensors."""
    import torch

    rng = np.random.default_rng(3)
    raw: dict[str, RawTensor] = {}
    tensors = {}
    for name, shape in config.plan().tensors().items():
        values = (rng.standard_normal(shape) * 0.15 + (1.0 if "norm" in name else 0.0)).astype(np.float32)
        used = GGMLQuantizationType[kind] if len(shape) == 2 else GGMLQuantizationType.F32
        data = quantize(values.reshape(-1, shape[-1]), used)
        raw[name] = RawTensor(used.name, shape, data.view(np.uint8).reshape(data.shape[0], -1))
        tensors[name] = torch.from_numpy(dequantize(data, used).reshape(shape).astype(np.float32))
    return Checkpoint("random", "", config.plan(), tensors, kind, ByteTokenizer(), "", raw=raw)


def torch_logits(checkpoint: Checkpoint, ids: list[int]) -> np.ndarray:
    """The reference: the torch module in float32 on the same numbers."""
    import torch

    from llmchat.engine.architectures.network import Network

    model = Network.build(checkpoint.plan, checkpoint.tensors)
    with torch.inference_mode():
        logits: np.ndarray = model.all_logits(torch.tensor([ids]), model.make_cache(64))[0].numpy()
    return logits


def native_logits(checkpoint: Checkpoint, ids: list[int], *, threads: int = 1, chunk: int = 1) -> np.ndarray:
    """The logits at every position that ends a chunk."""
    model = NativeModel(checkpoint, threads, lambda stage, fraction: None)
    cache = NativeCache(model, 64)
    rows = []
    for start in range(0, len(ids), chunk):
        part = ids[start : start + chunk]
        rows.append(model.step(part, range(start, start + len(part)), [cache] * len(part)))
    return np.stack(rows)


@pytest.mark.parametrize("kernels", usable_kernels())
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_every_format_agrees_with_torch(kind: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """16-bit activations stay next to float32, also where rows are no whole superblocks."""
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    checkpoint = llama_checkpoint(llama_config(tied=False), kind)
    expected = torch_logits(checkpoint, IDS)
    got = native_logits(checkpoint, IDS)
    spread = float(expected.std())
    assert np.abs(got - expected).max() < 2e-3 * spread


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True},
        {"qk_norm": True},
        {"n_kv_heads": 6},
        {"n_kv_heads": 1},
        {"head_dim": 16, "tied": False},
        {"head_dim": 24},
        {"dim": 64, "ffn_dim": 96, "n_layers": 1},
    ],
    ids=str,
)
def test_every_member_of_the_family_agrees_with_torch(changes: dict[str, Any]) -> None:
    """Biases, norms on queries and keys, all ways to group heads, other sizes."""
    checkpoint = llama_checkpoint(llama_config(**changes), "F32")
    assert np.abs(native_logits(checkpoint, IDS) - torch_logits(checkpoint, IDS)).max() < 1e-4


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**26])
def test_memory_got_ready_beforehand_changes_nothing(size: int) -> None:
    """Too little or too much of it, used or not: the logits are the same, and nothing is freed twice."""
    checkpoint = llama_checkpoint(llama_config(), "Q4_1")
    PreparedMemory(size)
    model = NativeModel(checkpoint, 2, lambda stage, fraction: None, PreparedMemory(size))
    row = model.step(IDS, range(len(IDS)), [NativeCache(model, 64)] * len(IDS))
    assert np.array_equal(row, native_logits(checkpoint, IDS)[-1])


def test_large_biases_of_keys_leave_the_others_their_precision() -> None:
    """Keys are kept in 16 bits by group; Qwen2's biases are far larger than the rest of their group."""
    import torch

    config = llama_config(n_layers=4, n_heads=4, head_dim=64, dim=256, attention_bias=True)
    checkpoint = llama_checkpoint(config, "Q8_0")
    raw, tensors = dict(checkpoint.raw), dict(checkpoint.tensors)
    for layer in range(config.n_layers):
        bias = np.zeros(2 * config.head_dim, np.float32)
        bias[[6, config.head_dim + 21]] = 100, -100
        name = f"layers.{layer}.attention.k_proj.bias"
        raw[name] = RawTensor("F32", bias.shape, bias.reshape(1, -1).view(np.uint8))
        tensors[name] = torch.from_numpy(bias)
    checkpoint = replace(checkpoint, raw=raw, tensors=tensors)
    rows = [torch.from_numpy(logits(checkpoint, IDS)).double() for logits in (torch_logits, native_logits)]
    expected, got = (torch.log_softmax(row, -1) for row in rows)
    assert (expected.exp() * (expected - got)).sum(-1).mean() < 5e-6


@pytest.mark.parametrize("kernels", usable_kernels())
def test_chunks_and_threads_change_no_bit(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the positions are cut and shared out, the logits are the same to the last bit."""
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    checkpoint = llama_checkpoint(llama_config(), "Q4_1")
    one = native_logits(checkpoint, IDS)
    for threads in (1, 2, 3, 5):
        for chunk in (1, 2, 3, 4, 5, 12):
            rows = native_logits(checkpoint, IDS, threads=threads, chunk=chunk)
            assert np.array_equal(rows[-1], one[-1])


def test_kernels_agree_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transcript made on one machine is read on another: the differences are of rounding alone."""
    checkpoint = llama_checkpoint(llama_config(), "Q4_0")
    rows = []
    for kernels in usable_kernels():
        monkeypatch.setenv(KERNELS_VARIABLE, kernels)
        rows.append(native_logits(checkpoint, IDS))
    for other in rows[1:]:
        assert np.abs(other - rows[0]).max() < 1e-3


def test_lanes_are_as_if_alone() -> None:
    """Sequences in one call do not touch each other, more of them than one call takes included."""
    checkpoint = llama_checkpoint(llama_config(), "Q8_0")
    model = NativeModel(checkpoint, 2, lambda stage, fraction: None)
    texts = [[token + lane for token in IDS] for lane in range(6)]
    caches = [NativeCache(model, 64) for _ in texts]
    for place in range(len(IDS)):
        together = model.step_all([text[place] for text in texts], [place] * 6, caches)
    for text, row in zip(texts, together, strict=True):
        assert np.array_equal(row, native_logits(checkpoint, text)[-1])


@pytest.mark.parametrize("place", [-1, 64, 10**6])
def test_a_position_outside_is_refused(place: int) -> None:
    """No write ever goes past the cache."""
    model = NativeModel(llama_checkpoint(llama_config(), "F32"), 1, lambda stage, fraction: None)
    cache = NativeCache(model, 64)
    with pytest.raises(IndexError):
        model.step([1], [place], [cache])


def test_formats_without_kernels_go_through_16_bits() -> None:
    """A format that is not kept as it is runs all the same, its weights rounded to 16 bits."""
    checkpoint = llama_checkpoint(llama_config(), "MXFP4")
    expected = torch_logits(checkpoint, IDS)
    assert np.abs(native_logits(checkpoint, IDS) - expected).max() < 5e-3 * expected.std()


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3"])
def test_hugging_face_models_agree_with_torch(name: str) -> None:
    """The same directory through both engines: one path from file to logits each."""
    rows = []
    for dtype in ("auto", "float32"):
        engine = open_engine(ModelSpec(str(DATA / "huggingface" / name), dtype=dtype), lambda stage, fraction: None)
        ids = [token % engine.info.vocab_size for token in IDS]
        logits = engine.prefill(ids, lambda: False).logits
        assert logits is not None
        rows.append(logits)
    finite = np.isfinite(rows[1])
    assert np.abs(rows[0][finite] - rows[1][finite]).max() < 2e-3


SMOLLM2: list[dict[str, Any]] = json.loads((DATA / "smollm2" / "reference.json").read_text("utf-8"))["prompts"]


@pytest.fixture(scope="module")
def smollm2(default_model_path: Path) -> Engine:
    """The default model as a person gets it."""
    engine = open_engine(ModelSpec(str(default_model_path)), lambda stage, fraction: None)
    assert engine.info.dtype.startswith("native")
    return engine


@pytest.mark.parametrize("prompt", SMOLLM2, ids=[prompt["name"] for prompt in SMOLLM2])
def test_the_default_model_stays_next_to_transformers(smollm2: Engine, prompt: dict[str, Any]) -> None:
    """KL below 1e-5 to transformers' float32 reading of the same file, and 100 greedy tokens equal."""
    with np.load(DATA / "smollm2" / "logits.npz") as arrays:
        reference = arrays[prompt["name"]].astype(np.float64)
    logits = smollm2.prefill(prompt["ids"], lambda: False).logits
    assert logits is not None
    assert divergence(reference, logits.astype(np.float64)) < 1e-5
    drawn = [int(np.argmax(logits))]
    while len(drawn) < 100:
        drawn.append(int(np.argmax(smollm2.decode(drawn[-1]))))
    assert drawn == prompt["greedy_ids"]


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) in nats, from logits."""
    log_p, log_q = (row - row.max() - np.log(np.exp(row - row.max()).sum()) for row in (p, q))
    return float((np.exp(log_p) * (log_p - log_q)).sum())


@pytest.mark.parametrize("kernels", usable_kernels())
@pytest.mark.parametrize("kind", ["F32", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_not_hidden(
    kind: str, bad: float, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken weight makes broken logits, so that the reply stops in words and does not go on in nonsense."""
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    for name in ("embedding.weight", "layers.0.attention_norm.weight", "layers.1.ffn_norm.weight", "norm.weight"):
        checkpoint = llama_checkpoint(llama_config(tied=False), kind)
        raw = dict(checkpoint.raw or {})
        tensor = raw[name]
        values = np.zeros(tensor.shape, np.float32) + 0.1
        values.ravel()[7] = bad
        values.reshape(-1, tensor.shape[-1])[:, 3] = bad
        raw[name] = RawTensor("F32", tensor.shape, values.reshape(-1, tensor.shape[-1]).view(np.uint8))
        assert not np.isfinite(native_logits(replace(checkpoint, raw=raw), IDS[:4])[-1]).all()
