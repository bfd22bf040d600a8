"""LoRA adapters on the native step and on torch: against PEFT, and against weights that were merged by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.engine.batch import BatchStream, Lane
from llmchat.engine.engine import Engine, Logits
from llmchat.engine.generation import ReplyStream
from llmchat.engine.opening import open_engine
from llmchat.engine.prompt import Prompt
from llmchat.engine.torch_engine import TorchEngine
from llmchat.errors import ModelLoadError
from tests.conftest import DATA
from tests.engine.recorder import Recorder

SMALL, ADAPTERS = DATA / "architectures", DATA / "adapters"
TOKENIZER = str(SMALL / "tokenizer")
PATHS = {"native": "auto", "torch": "float32"}
"""How each of the two ways to run a model is asked for."""
NAMES = sorted(path.parent.name for path in ADAPTERS.glob("*/reference.npz"))
IDS = [5, 77, 300, 41, 12, 499, 8, 230]

Floats = NDArray[np.float64]


def opened(model: Path, lora: Path | None, way: str = "native", threads: int = 1) -> Engine:
    """An engine as a person gets it."""
    given = "" if lora is None else str(lora)
    spec = ModelSpec(str(model), tokenizer=TOKENIZER, dtype=PATHS[way], threads=threads, lora=given)
    engine = open_engine(spec, lambda stage, fraction: None)
    assert engine.info.dtype.startswith("native" if way == "native" else "float32")
    return engine


def behind(engine: Engine, ids: list[int], scale: float = 1.0) -> Logits:
    """The logits behind some ids, read at once."""
    engine.lora_scale = scale
    logits = engine.prefill(ids, lambda: False).logits
    assert logits is not None
    return logits.copy()


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_peft(name: str, way: str) -> None:
    """Ranks and alphas by pattern, rsLoRA, joined matrices and GPT-2's columns first are what PEFT makes of them."""
    engine = opened(SMALL / name, ADAPTERS / name, way)
    with np.load(ADAPTERS / name / "reference.npz") as reference:
        ids, positions, expected = reference["ids"].tolist(), reference["positions"].tolist(), reference["logits"]
    for position, row in zip(positions, expected, strict=True):
        assert np.abs(behind(engine, ids[: position + 1]) - row).max() < 1e-3


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_scale_of_0_is_the_model_alone(name: str, way: str) -> None:
    """Bit for bit, read at once and token by token."""
    alone, adapted = opened(SMALL / name, None, way), opened(SMALL / name, ADAPTERS / name, way)
    assert np.array_equal(behind(alone, IDS), behind(adapted, IDS, 0.0))
    assert np.array_equal(alone.decode(9), adapted.decode(9))


# ── against weights that were merged by hand ──


def floats_of(file: Path) -> dict[str, Floats]:
    """A safetensors file's numbers, read from its header on, by whoever knows nothing of llmchat."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    heads = json.loads(data[8 : 8 + length])
    heads.pop("__metadata__", None)
    found = {}
    for name, head in heads.items():
        first, end = head["data_offsets"]
        raw = data[8 + length + first : 8 + length + end]
        if head["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[head["dtype"]])
        found[name] = values.astype(np.float64).reshape(head["shape"])
    return found


def write_floats(file: Path, tensors: dict[str, Floats]) -> None:
    """A safetensors file in float32."""
    heads: dict[str, Any] = {}
    body = b""
    for name, values in tensors.items():
        raw = values.astype("<f4").tobytes()
        heads[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    head = json.dumps(heads).encode()
    head += b" " * (-len(head) % 8)
    file.write_bytes(len(head).to_bytes(8, "little") + head + body)


def merged(name: str, scale: float, place: Path) -> Path:
    """A model whose weights are W + scale · alpha / r · B A, in float64; alpha and r are those of every module."""
    weights = floats_of(SMALL / name / "model.safetensors")
    config = json.loads((ADAPTERS / name / "adapter_config.json").read_text())
    pairs = floats_of(ADAPTERS / name / "adapter_model.safetensors")
    for key in [key for key in pairs if ".lora_A." in key]:
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        up, down = pairs[key.replace("lora_A", "lora_B")], pairs[key]
        delta = scale * config["lora_alpha"] / config["r"] * (up @ down)
        weights[f"{module}.weight"] += delta.T if config["fan_in_fan_out"] else delta
    shutil.copytree(SMALL / name, place)
    write_floats(place / "model.safetensors", weights)
    return place


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_scales_equal_merged_weights(name: str, way: str, tmp_path: Path) -> None:
    """Any scale adds its share, in a prompt that is read at once, token by token, and in the lanes of a fork."""
    adapted = opened(SMALL / name, ADAPTERS / name, way, threads=2)
    for scale in (0.35, 2.0):
        plain = opened(merged(name, scale, tmp_path / f"{scale}"), None, way)
        assert np.abs(behind(plain, IDS) - behind(adapted, IDS, scale)).max() < 1e-4
        assert np.abs(plain.decode(9) - adapted.decode(9)).max() < 1e-4
        lanes, expected = adapted.fork(3), plain.fork(3)
        adapted.lora_scale = 1.0  # A fork stays under the scale that it was begun under.
        for ids in ([1, 2, 3], [4, 5, 6]):
            for row, wanted in zip(lanes.decode(ids), expected.decode(ids), strict=True):
                assert np.abs(row - wanted).max() < 1e-4


# ── what is kept of a text ──


@pytest.mark.parametrize("way", PATHS)
def test_a_prompt_read_under_another_scale_is_read_anew(way: str) -> None:
    """So logits do not depend on what was read before; under the same scale it is not read twice."""
    engine = opened(SMALL / "llama", ADAPTERS / "llama", way)
    fresh = behind(engine, IDS, 0.5)
    behind(engine, IDS, 1.0)
    engine.lora_scale = 0.5
    again = engine.prefill(IDS, lambda: False)
    assert again.cached_tokens == 0
    assert again.logits is not None
    assert np.array_equal(fresh, again.logits)
    assert engine.prefill(IDS, lambda: False).cached_tokens == len(IDS) - 1


@pytest.mark.parametrize("way", PATHS)
def test_a_change_keeps_what_was_read(way: str) -> None:
    """A scale acts from the next token on; the same scales at the same places give the same logits, however read."""
    engine = opened(SMALL / "llama", ADAPTERS / "llama", way)
    behind(engine, IDS, 1.0)
    engine.decode(7)
    engine.lora_scale = 0.25
    expected = engine.decode(8).copy()
    behind(engine, [3, 4], 1.0)
    scales = [1.0] * (len(IDS) + 1) + [0.25]
    read = engine.prefill([*IDS, 7, 8], lambda: False, lora_scales=scales).logits
    assert read is not None
    assert np.abs(read - expected).max() < 1e-5
    assert np.abs(behind(engine, [*IDS, 7, 8], 0.25) - expected).max() > 1e-3


@pytest.mark.parametrize("way", PATHS)
def test_lanes_under_several_scales_are_the_replies_that_they_would_be_alone(way: str) -> None:
    """A comparison of scales reads the prompt under each, and its lanes do not mix."""
    engine = opened(SMALL / "llama", ADAPTERS / "llama", way)
    prompt = Prompt(tuple(IDS), raw=True)
    settings = GenerationConfig(temperature=0.7, max_new_tokens=12, min_new_tokens=12)
    configs = [settings.changed(lora_scale=scale) for scale in (1.0, 0.0, 1.0, 1.6)]
    together = BatchStream(engine, prompt, [Lane(config, 5) for config in configs])
    together.prefill()
    for _ in together:
        pass
    found = [reply.token_ids for reply in together.replies()]
    for config, ids in zip(configs, found, strict=True):
        alone = ReplyStream(engine, prompt, lambda index, config=config: config, 5)  # type: ignore[misc]
        alone.prefill()
        for _ in alone:
            pass
        assert alone.reply().token_ids == ids
    assert found[0] == found[2]
    assert len(set(found)) == 3


def test_a_recorded_step_follows_the_scale() -> None:
    """A CUDA graph reads the scale as a number in memory, so that the slider acts on a GPU too."""
    plain = opened(SMALL / "llama", ADAPTERS / "llama", "torch")
    assert isinstance(plain, TorchEngine)
    recorder = Recorder()
    recorded = TorchEngine(
        plain.model, plain.tokenizer, plain.info, end_ids=plain.end_ids, prompt_style=None,
        device=plain.device, capture=recorder,
    )  # fmt: skip
    for scale in (1.0, 0.3, 0.0):
        behind(recorded, IDS, scale)
        found = recorded.decode(9).copy()
        behind(plain, IDS, scale)
        assert np.abs(found - plain.decode(9)).max() < 1e-4
    assert recorder.replayed


# ── directories and GGUF files ──

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attn_output",
    **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
    **{f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
}


@pytest.fixture(scope="module")
def llama_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Llama as llama.cpp's converter writes it, channels that turn together side by side."""
    path = tmp_path_factory.mktemp("gguf") / "llama.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in (
        *(("block_count", 3), ("context_length", 512), ("embedding_length", 64), ("feed_forward_length", 128)),
        *(("attention.head_count", 4), ("attention.head_count_kv", 2), ("vocab_size", 512)),
    ):
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    for name, values in floats_of(SMALL / "llama" / "model.safetensors").items():
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
        if heads:
            values = values.reshape(heads, 2, 8, 64).swapaxes(1, 2).reshape(values.shape)
        for old, new in GGUF_NAMES.items():
            name = name.replace(old, new)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("base", ["directory", "file"])
@pytest.mark.parametrize("adapter", ["llama", "llama.gguf"])
def test_adapters_fit_a_model_in_whichever_form(base: str, adapter: str, way: str, llama_gguf: Path) -> None:
    """An adapter that was trained on a directory is right on its GGUF file, and one of llama.cpp's on the directory."""
    engine = opened(SMALL / "llama" if base == "directory" else llama_gguf, ADAPTERS / adapter, way)
    with np.load(ADAPTERS / "llama" / "reference.npz") as reference:
        ids, expected = reference["ids"].tolist(), reference["logits"]
    assert np.abs(behind(engine, ids) - expected[-1]).max() < 1e-3


# ── what is refused ──


def changed(place: Path, name: str, **values: Any) -> Path:
    """A copy of an adapter with other entries in its adapter_config.json."""
    shutil.copytree(ADAPTERS / name, place)
    file = place / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return place


def refusal(model: Path, lora: Path) -> str:
    """The sentence with which an adapter is refused."""
    with pytest.raises(ModelLoadError) as refused:
        opened(model, lora)
    return refused.value.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "is a LoRA adapter with use_dora, which llmchat cannot do: merge it"),
        ({"peft_type": "IA3"}, "is a PEFT adapter of the type 'IA3', not LoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as pissa_niter_4, with a changed base model"),
        ({"lora_alpha": "much"}, "lora_alpha must be a number, not 'much'"),
        ({"alpha_pattern": {"(a+)+b": 3}}, "names modules by the pattern '(a+)+b', which llmchat cannot read"),
    ],
)
def test_adapters_that_do_more_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """What llmchat would compute wrongly it does not open, and says what stands against it."""
    assert words in refusal(SMALL / "llama", changed(tmp_path / "adapter", "llama", **changes))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("base_model.model.lm_head.bias", "holds more than pairs of matrices"),
        ("base_model.model.model.norm.lora_A.weight", "no matrix of floats"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "(an embedding, a bias or a module"),
        ("base_model.model.model.layers.0.self_attn.x_proj.lora_A.weight", "has only one of its two matrices"),
    ],
)
def test_tensors_that_cannot_be_added_are_refused(extra: str, words: str, tmp_path: Path) -> None:
    """Nothing of an adapter is left out in silence."""
    adapter = changed(tmp_path / "adapter", "llama")
    file = adapter / "adapter_model.safetensors"
    write_floats(file, {**floats_of(file), extra: np.ones(64 if "norm" in extra else (2, 64))})
    assert words in refusal(SMALL / "llama", adapter)


def test_an_adapter_of_another_model_is_refused_with_names(tmp_path: Path) -> None:
    """Whether shapes, layers or the architecture are others."""
    words = refusal(SMALL / "qwen2", ADAPTERS / "gpt2")
    assert "is an adapter for another model than qwen2 (it was made for gpt2): there are no 'transformer.h.0" in words
    assert "is an adapter for llama models, and qwen2 is a qwen2 model" in refusal(
        SMALL / "qwen2", ADAPTERS / "llama.gguf"
    )
    adapter = changed(tmp_path / "adapter", "llama")
    file = adapter / "adapter_model.safetensors"
    write_floats(file, {name: np.ones((2, 48)) if "lora_A" in name else it for name, it in floats_of(file).items()})
    assert "'lm_head.weight' is for (512, 48), not (512, 64)" in refusal(SMALL / "llama", adapter)


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ("nowhere", "There is no adapter"),
        (str(SMALL / "llama"), "is no LoRA adapter: give a directory with adapter_config.json"),
    ],
)
def test_what_is_no_adapter_is_refused(lora: str, words: str) -> None:
    """A path that is not there, and a model."""
    assert words in refusal(SMALL / "llama", Path(lora))
