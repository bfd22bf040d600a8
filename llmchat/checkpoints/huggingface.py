"""Opening Hugging Face directories of the Llama family: config.json beside safetensors or .bin files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint, LlamaConfig, Progress, RopeScaling
from llmchat.checkpoints.file_bytes import check_unchanged
from llmchat.checkpoints.huggingface_weights import open_weights
from llmchat.checkpoints.lazy_tensors import RawTensors, lazy_tensors
from llmchat.checkpoints.llama_family import Fields, check_config, check_tensors, visible_context
from llmchat.checkpoints.stored_tensor import FLOATS, StoredTensor
from llmchat.errors import ModelLoadError
from llmchat.files import expanded
from llmchat.tokenizers.loading import load_tokenizer
from llmchat.tokenizers.readable import conventional_end_ids, encodable
from llmchat.tokenizers.text_files import read_object, read_text
from llmchat.tokenizers.tokenizer import Tokenizer

_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_GLOBAL_NAMES = {
    "embed_tokens.weight": "embedding.weight",
    "norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}
_LAYER_NAMES = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.o_proj": "attention.o_proj",
    "self_attn.q_norm": "attention.q_norm",
    "self_attn.k_norm": "attention.k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn.gate_proj",
    "mlp.up_proj": "ffn.up_proj",
    "mlp.down_proj": "ffn.down_proj",
}
_LAYER_TENSOR = re.compile(r"layers\.(\d+)\.([\w.]+)\.(weight|bias)")


def load_huggingface(spec: ModelSpec, progress: Progress) -> Checkpoint:
    """Open a directory. Its tensors are read one by one, when the model is built from them.

    Args:
        spec: `model` is the directory; `tokenizer`, if given, replaces its own.
        progress: Told how far the tensors have been read, also after this returns.

    Raises:
        ModelLoadError: Something is missing or damaged, or is of a kind llmchat cannot run.
    """
    progress("opening the files", None)
    path = expanded(spec.model)
    described = read_object(path / "config.json")
    if not described:
        raise ModelLoadError(f"{path} has no config.json: give a Hugging Face model directory or a model file.")
    _refuse_variants(path, described)
    tensors, contents = open_weights(path, progress)
    weights = {_our_name(name): tensor for name, tensor in tensors.items()}
    weights = {name: weight for name, weight in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    if described.get("tie_word_embeddings") is True:
        weights.pop("head.weight", None)
    config, notes = _config(path, described, weights)
    check_tensors(path, config, {name: weight.shape for name, weight in weights.items()})
    weight_format = _main_dtype(path, weights)
    raw = RawTensors({name: weight.raw for name, weight in weights.items()})
    progress("reading the tokenizer", None)
    tokenizer_path = expanded(spec.tokenizer) if spec.tokenizer else path
    tokenizer = load_tokenizer(tokenizer_path)
    return Checkpoint(
        name=_model_name(path),
        path=str(path),
        config=config,
        tensors=lazy_tensors(raw, progress),
        weight_format=weight_format,
        tokenizer=tokenizer,
        tokenizer_path=str(tokenizer_path),
        chat_template=_chat_template(path),
        end_ids=_end_ids(path, described, tokenizer),
        raw=raw,
        check_unchanged=partial(check_unchanged, contents),
        notes=notes,
    )


def _refuse_variants(path: Path, described: Mapping[str, Any]) -> None:
    """Refuse what llmchat cannot run, or would run with wrong replies."""
    kind = described.get("model_type")
    if kind not in _MODEL_TYPES:
        raise ModelLoadError(
            f"{path} is a model of the type {str(kind)[:40]!r}, which llmchat cannot run. "
            f"It runs {', '.join(_MODEL_TYPES[:-1])} and {_MODEL_TYPES[-1]}."
        )
    activation = described.get("hidden_act", "silu")
    variants = {
        "quantised weights (take the original, or a GGUF file)": bool(described.get("quantization_config")),
        f"the activation {str(activation)[:40]}": activation not in ("silu", "swish"),
        "rotary positions on a part of each head": described.get("partial_rotary_factor", 1.0) != 1.0,
    }
    for what, is_there in variants.items():
        if is_there:
            raise ModelLoadError(f"{path} is a model with {what}, which llmchat cannot run.")


def _config(
    path: Path, described: Mapping[str, Any], weights: Mapping[str, StoredTensor]
) -> tuple[LlamaConfig, tuple[str, ...]]:
    """The dimensions, and notes."""
    fields = Fields(path / "config.json", described)
    embedding = weights.get("embedding.weight")
    if embedding is None:
        raise ModelLoadError(f"{path} is incomplete: the tensor 'model.embed_tokens.weight' is missing.")
    dim, n_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if n_heads <= 0:
        raise ModelLoadError(f"{path} claims {n_heads} attention heads.")
    has_window = described["model_type"] == "mistral" or described.get("use_sliding_window") is True
    window = fields.integer("sliding_window", 0) if has_window else 0
    context_length, notes = visible_context(fields.integer("max_position_embeddings"), window)
    theta, scaling = _rope(path, described)
    config = LlamaConfig(
        vocab_size=embedding.shape[0] if embedding.shape else 0,
        context_length=context_length,
        n_layers=fields.integer("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=fields.integer("num_key_value_heads", n_heads),
        head_dim=fields.integer("head_dim", dim // n_heads),
        dim=dim,
        ffn_dim=fields.integer("intermediate_size"),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        attention_bias="layers.0.attention.q_proj.bias" in weights,
        qk_norm=described["model_type"] == "qwen3",
        tied="head.weight" not in weights,
    )
    check_config(path, config)
    return config, notes


def _rope(path: Path, described: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    """Theta and the stretching; newer files hold both in `rope_parameters`."""
    given = described.get("rope_parameters") or described.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise ModelLoadError(f"{path / 'config.json'}: rope_scaling should be a table.")
    rope = Fields(path / "config.json", given, "")
    theta = rope.number("rope_theta", Fields(path / "config.json", described).number("rope_theta", 10000.0))
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling(kind="linear", factor=rope.number("factor"))
    if kind != "llama3":
        raise ModelLoadError(f"{path} stretches its positions by {str(kind)[:40]!r}; llmchat knows linear and llama3.")
    return theta, RopeScaling(
        kind="llama3",
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_context_length=rope.integer("original_max_position_embeddings"),
    )


def _our_name(name: str) -> str:
    """Our name of a file's tensor; an unknown one keeps its own, to be refused with it."""
    inner = name.removeprefix("model.")
    found = _LAYER_TENSOR.fullmatch(inner)
    if found is None or found[2] not in _LAYER_NAMES:
        return _GLOBAL_NAMES.get(inner, inner)
    return f"layers.{found[1]}.{_LAYER_NAMES[found[2]]}.{found[3]}"


def _main_dtype(path: Path, weights: Mapping[str, StoredTensor]) -> str:
    """The type that most weights are in; every one must be a plain float."""
    sizes: Counter[str] = Counter()
    for name, weight in weights.items():
        if weight.dtype not in FLOATS:
            raise ModelLoadError(f"{path}: the tensor {name!r} is of type {weight.dtype}, which llmchat cannot read.")
        sizes[weight.dtype] += weight.size
    return sizes.most_common(1)[0][0]


def _chat_template(path: Path) -> str | None:
    """The Jinja template, from whichever of its places has it."""
    text = read_text(path / "chat_template.jinja")
    if text and text.strip():
        return text
    template = read_object(path / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = (item for item in template if isinstance(item, dict) and item.get("name") == "default")
        template = next((item.get("template") for item in named), None)
    return encodable(template) if isinstance(template, str) and template.strip() else None


def _end_ids(path: Path, described: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[int, ...]:
    declared: list[int] = []
    for source in (read_object(path / "generation_config.json"), described):
        ids = source.get("eos_token_id")
        declared += [item for item in (ids if isinstance(ids, list) else [ids]) if isinstance(item, int)]
    return conventional_end_ids(tokenizer, declared)


def _model_name(path: Path) -> str:
    """The directory's name; in Hugging Face's own cache that of the model."""
    path = path.absolute()
    if path.parent.name == "snapshots":
        return path.parent.parent.name.split("--")[-1]
    return path.name
