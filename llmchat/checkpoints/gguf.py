"""Opening GGUF files of the Llama family: llama (and Mistral), qwen2, qwen3."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint, LlamaConfig, Progress, RawTensor, RopeScaling
from llmchat.checkpoints.file_bytes import check_unchanged
from llmchat.checkpoints.lazy_tensors import LazyTensors, RawTensors
from llmchat.checkpoints.llama_family import Fields, check_config, check_tensors, visible_context
from llmchat.errors import ModelLoadError
from llmchat.files import expanded
from llmchat.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from llmchat.checkpoints.gguf_file import GGUFFile, GGUFTensor

_ARCHITECTURES = ("llama", "qwen2", "qwen3")
_GLOBAL_NAMES = {
    "token_embd.weight": "embedding.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.q_proj",
    "attn_k": "attention.k_proj",
    "attn_v": "attention.v_proj",
    "attn_q_norm": "attention.q_norm",
    "attn_k_norm": "attention.k_norm",
    "attn_output": "attention.o_proj",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "ffn.gate_proj",
    "ffn_up": "ffn.up_proj",
    "ffn_down": "ffn.down_proj",
}
_LAYER_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_ROPE_FACTORS = "rope_freqs.weight"
_CHUNK_ROWS = 4096
_PRECISION_SUFFIX = re.compile(r"[.\-_](I?Q\d\w*|F16|F32|BF16|FP16|FP32)$", re.IGNORECASE)
_PART_SUFFIX = re.compile(r"-\d{5}-of-\d{5}$")
_VAGUE_NAMES = ("model", "ggml-model", "unnamed")


def load_gguf(spec: ModelSpec, progress: Progress) -> Checkpoint:
    """Open a GGUF file. Its tensors are dequantised one by one, when the model is built from them.

    Args:
        spec: `model` is the file; `tokenizer`, if given, replaces the file's own.
        progress: Told how far the tensors have been read, also after this returns.

    Raises:
        ModelLoadError: The file cannot be read, is damaged, or is of a kind llmchat cannot run.
    """
    from llmchat.checkpoints.gguf_file import GGUFFile

    progress("opening the file", None)
    path = expanded(spec.model)
    file = GGUFFile.open(path)
    config, architecture, window_notes = _config(file)
    named = {_our_name(name): tensor for name, tensor in file.tensors.items() if name != _ROPE_FACTORS}
    check_tensors(path, config, {name: tensor.shape for name, tensor in named.items()})
    _check_types(file)
    progress("reading the tokenizer", None)
    tokenizer, end_ids, tokenizer_notes = _tokenizer(spec, file)
    template = file.metadata.get("tokenizer.chat_template")
    return Checkpoint(
        name=_model_name(file),
        path=str(path),
        config=config,
        tensors=_tensors(file, named, config, architecture, progress),
        raw=RawTensors({name: partial(_raw, tensor) for name, tensor in named.items()}),
        interleaved_rope=architecture == "llama",
        weight_format=_main_type(file),
        tokenizer=tokenizer,
        tokenizer_path=spec.tokenizer or str(path),
        chat_template=template if isinstance(template, str) and template.strip() else None,
        end_ids=end_ids,
        check_unchanged=partial(check_unchanged, file.contents),
        notes=(*window_notes, *tokenizer_notes),
    )


def _config(file: GGUFFile) -> tuple[LlamaConfig, str, tuple[str, ...]]:
    """The dimensions, the architecture's name, and notes."""
    architecture = file.metadata.get("general.architecture")
    if architecture not in _ARCHITECTURES:
        raise ModelLoadError(
            f"{file.path} is a model of the architecture {str(architecture)[:40]!r}, which llmchat cannot run. "
            f"It runs GGUF files of {', '.join(_ARCHITECTURES[:-1])} (which includes Mistral) and {_ARCHITECTURES[-1]}."
        )
    fields = Fields(file.path, file.metadata, f"{architecture}.")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelLoadError(f"{file.path} is incomplete: the tensor 'token_embd.weight' is missing.")
    dim, n_heads = fields.integer("embedding_length"), fields.integer("attention.head_count")
    if n_heads <= 0:
        raise ModelLoadError(f"{file.path} claims {n_heads} attention heads.")
    head_dim = fields.integer("attention.key_length", dim // n_heads)
    _refuse_variants(file, fields, head_dim)
    context_length, notes = visible_context(
        fields.integer("context_length"), fields.integer("attention.sliding_window", 0)
    )
    config = LlamaConfig(
        vocab_size=embedding.shape[0],
        context_length=context_length,
        n_layers=fields.integer("block_count"),
        n_heads=n_heads,
        n_kv_heads=fields.integer("attention.head_count_kv", n_heads),
        head_dim=head_dim,
        dim=dim,
        ffn_dim=fields.integer("feed_forward_length"),
        norm_eps=fields.number("attention.layer_norm_rms_epsilon"),
        rope_theta=fields.number("rope.freq_base", 10000.0),
        rope_scaling=_rope_scaling(file, fields, architecture),
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        qk_norm=architecture == "qwen3",
        tied="output.weight" not in file.tensors,
    )
    check_config(file.path, config)
    return config, architecture, notes


def _refuse_variants(file: GGUFFile, fields: Fields, head_dim: int) -> None:
    """Refuse what would run and give wrong replies."""
    variants = {
        "a mixture of experts": fields.integer("expert_count", 0) > 0,
        "keys and values of different sizes": fields.integer("attention.value_length", head_dim) != head_dim,
        "rotary positions on a part of each head": fields.integer("rope.dimension_count", head_dim) != head_dim,
    }
    for what, is_there in variants.items():
        if is_there:
            raise ModelLoadError(f"{file.path} is a model with {what}, which llmchat cannot run.")


def _rope_scaling(file: GGUFFile, fields: Fields, architecture: str) -> RopeScaling | None:
    factors = file.tensors.get(_ROPE_FACTORS)
    if factors is not None:
        # Llama 3.1 and later: converters write the finished factors instead of the rule.
        return RopeScaling(kind="factors", factor=1.0, factors=_factors(factors))
    kind = file.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if kind == "linear":
        return RopeScaling(kind="linear", factor=fields.number("rope.scaling.factor"))
    if kind != "none":
        raise ModelLoadError(f"{file.path} stretches its positions by {kind!r}; llmchat knows linear and Llama 3's.")
    return None


def _factors(tensor: GGUFTensor) -> tuple[float, ...]:
    from llmchat.checkpoints.blocks import dequantise

    return tuple(dequantise(tensor.kind, tensor.read()).ravel().tolist())


def _our_name(name: str) -> str:
    """Our name of a file's tensor; an unknown one keeps its own, to be refused with it."""
    found = _LAYER_TENSOR.fullmatch(name)
    if found is None or found[2] not in _LAYER_NAMES:
        return _GLOBAL_NAMES.get(name, name)
    return f"layers.{found[1]}.{_LAYER_NAMES[found[2]]}.{found[3]}"


def _tensors(
    file: GGUFFile, named: Mapping[str, GGUFTensor], config: LlamaConfig, architecture: str, progress: Progress
) -> LazyTensors:
    """The tensors by our names, each dequantised when asked for."""
    readers: dict[str, Callable[[], Tensor]] = {}
    for name, tensor in named.items():
        heads = {"q_proj": config.n_heads, "k_proj": config.n_kv_heads}.get(name.split(".")[-2], 0)
        # Only llama's converters interleave the halves of each head.
        readers[name] = partial(_read, tensor, heads if architecture == "llama" else 0)
    return LazyTensors(readers, progress)


def _raw(tensor: GGUFTensor) -> RawTensor:
    blocks = tensor.read()
    return RawTensor(tensor.kind, tensor.shape, blocks.reshape(*tensor.shape[:-1], tensor.row_bytes))


def _read(tensor: GGUFTensor, interleaved_heads: int) -> Tensor:
    values = _dequantised(tensor)
    if interleaved_heads:
        halves = values.view(interleaved_heads, -1, 2, *values.shape[1:])
        values = halves.transpose(1, 2).reshape(values.shape)
    return values


def _dequantised(tensor: GGUFTensor) -> Tensor:
    """The values as float32, made some rows at a time."""
    import torch

    from llmchat.checkpoints.blocks import dequantise

    values = torch.empty(tensor.span.size // tensor.row_bytes, tensor.shape[-1])
    for start in range(0, len(values), _CHUNK_ROWS):
        end = start + _CHUNK_ROWS
        values.numpy()[start:end] = dequantise(tensor.kind, tensor.read(start, end))
    return values.view(tensor.shape)


def _tokenizer(spec: ModelSpec, file: GGUFFile) -> tuple[Tokenizer, tuple[int, ...], tuple[str, ...]]:
    """The tokenizer, every token that ends a reply, and notes."""
    if spec.tokenizer:
        from llmchat.tokenizers.loading import load_tokenizer
        from llmchat.tokenizers.readable import conventional_end_ids

        tokenizer = load_tokenizer(spec.tokenizer)
        return tokenizer, conventional_end_ids(tokenizer), ()
    from llmchat.tokenizers.gguf_vocab import load_gguf_vocab

    vocab = load_gguf_vocab(file.metadata)
    return vocab.tokenizer, vocab.end_ids, vocab.notes


def _check_types(file: GGUFFile) -> None:
    """Refuse types that cannot be dequantised, by trying a row of each."""
    from llmchat.checkpoints.blocks import dequantise

    samples = {tensor.kind: tensor for tensor in file.tensors.values()}
    for kind, tensor in samples.items():
        try:
            dequantise(kind, tensor.read(0, 1))
        except NotImplementedError as error:
            hint = f" without a package: {error}" if "pip install" in str(error) else ""
            raise ModelLoadError(
                f"{file.path} holds weights of the type {kind}, which llmchat cannot read{hint}."
            ) from None


def _main_type(file: GGUFFile) -> str:
    """The type that most bytes of the file are in."""
    sizes: Counter[str] = Counter()
    for tensor in file.tensors.values():
        sizes[tensor.kind] += tensor.span.size
    return sizes.most_common(1)[0][0]


def _model_name(file: GGUFFile) -> str:
    """The file's name without its part and precision; the name in the header where the file's says nothing."""
    name = _PRECISION_SUFFIX.sub("", _PART_SUFFIX.sub("", file.path.stem))
    stated: Any = file.metadata.get("general.name")
    if name.lower() in _VAGUE_NAMES and isinstance(stated, str) and stated.strip():
        return stated.strip()[:80]
    return name
