"""GPT-2 and its kin: LayerNorm with biases, feed-forward networks without gates."""

from __future__ import annotations

from typing import Any

from llmchat.errors import ModelLoadError
from llmchat.models.facts import Facts
from llmchat.models.family import Family
from llmchat.models.parts import activation, attention, dense, layer_count, layer_norm, model
from llmchat.models.plan import Activation, Dense, Layer, ModelPlan
from llmchat.models.stored import CONFIG, GGUF, Joined

_QKV = tuple(f"attention.{part}_proj" for part in "qkv")


def _mlp(facts: Facts, default: Activation, *, bias: bool, key: str = "ffn_dim") -> Dense:
    width = facts.integer("ffn_dim" if facts.is_gguf else key, 4 * facts.integer("dim"))
    return Dense(width, activation(facts, default), gated=False, bias=bias)


def _plan(facts: Facts, layer: Layer, **changes: Any) -> ModelPlan:
    return model(facts, (layer,) * layer_count(facts), layer_norm(facts), **changes)


def _gpt2(facts: Facts) -> ModelPlan:
    if facts.flag("scale_attn_by_inverse_layer_idx"):
        raise ModelLoadError(f"{facts.path} scales attention by the layer's number, which llmchat cannot run.")
    norm = layer_norm(facts)
    mixed = attention(facts, rope=None, bias=True, out_bias=True, kv_heads=facts.integer("n_heads"))
    layer = Layer(mixed, _mlp(facts, "gelu_tanh", bias=True, key="n_inner"), attention_norm=norm, ffn_norm=norm)
    return _plan(facts, layer, positions=facts.integer("context_length"))


def _gpt_neox(facts: Facts) -> ModelPlan:
    norm = layer_norm(facts)
    bias = facts.flag("attention_bias", True)
    mixed = attention(facts, bias=bias, out_bias=bias, kv_heads=facts.integer("n_heads"))
    parallel = facts.flag("use_parallel_residual", True)
    ffn = _mlp(facts, "gelu", bias=True)
    return _plan(facts, Layer(mixed, ffn, attention_norm=norm, ffn_norm=norm, parallel=parallel))


def _starcoder2(facts: Facts) -> ModelPlan:
    norm = layer_norm(facts)
    bias = facts.flag("use_bias", True)
    mixed = attention(facts, bias=bias, out_bias=bias, window=facts.integer("window", 0))
    return _plan(facts, Layer(mixed, _mlp(facts, "gelu_tanh", bias=bias), attention_norm=norm, ffn_norm=norm))


def _stablelm(facts: Facts) -> ModelPlan:
    norm = layer_norm(facts)
    qk_norm = (
        layer_norm(facts, bias=False) if facts.flag("qk_layernorm") or facts.holds("blk.0.attn_q_norm.weight") else None
    )
    parallel = facts.flag("use_parallel_residual")
    layer = Layer(
        attention(facts, qk_norm=qk_norm, qk_norm_of="each"),
        dense(facts),
        attention_norm=norm,
        ffn_norm=None if parallel else norm,
        parallel=parallel,
    )
    return _plan(facts, layer)


def _falcon(facts: Facts) -> ModelPlan:
    if facts.flag("alibi"):
        raise ModelLoadError(f"{facts.path} places tokens by ALiBi, which llmchat cannot run.")
    norm, is_new = layer_norm(facts), facts.flag("new_decoder_architecture")
    heads = facts.integer("n_heads")
    kv_heads = facts.integer("num_kv_heads", heads) if is_new else (1 if facts.flag("multi_query", True) else heads)
    if facts.is_gguf:
        kv_heads = facts.integer("n_kv_heads", 1)
        is_new = facts.holds("blk.0.attn_norm_2.weight")
    bias = facts.flag("bias")
    parallel = facts.flag("parallel_attn", True) or is_new
    # One norm for both parts, or one for each.
    own_norms = (is_new and facts.values.get("num_ln_in_parallel_attn") != 1) or not parallel
    layer = Layer(
        attention(facts, kv_heads=kv_heads, bias=bias, out_bias=bias),
        _mlp(facts, "gelu", bias=bias, key="ffn_hidden_size"),
        attention_norm=norm,
        ffn_norm=norm if own_norms else None,
        parallel=parallel,
    )
    return _plan(facts, layer)


_MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_GPT2 = CONFIG.changed(layer="h.{}.", transposed=_MATRICES, joined=(Joined("attn.c_attn", _QKV),))
_NEOX = CONFIG.changed(joined=(Joined("attention.query_key_value", _QKV, grouped=True),))
_FALCON = CONFIG.changed(
    layer="h.{}.",
    parts={"attention_norm": ("input_layernorm", "ln_attn"), "ffn_norm": ("ln_mlp", "post_attention_layernorm")},
    joined=(Joined("self_attention.query_key_value", _QKV, grouped=True),),
)
_STABLELM = CONFIG.changed(
    parts={f"attention.{part}_norm": (f"self_attn.{part}_layernorm.norms.{{}}",) for part in "qk"}
)
_FALCON_GGUF = GGUF.changed(parts={"attention_norm": ("attn_norm_2", "attn_norm"), "ffn_norm": ("attn_norm",)})

FAMILIES = (
    Family({"config": ("gpt2",), "gguf": ("gpt2",)}, _gpt2, {"config": _GPT2, "gguf": GGUF}),
    Family({"config": ("gpt_neox",), "gguf": ("gptneox",)}, _gpt_neox, {"config": _NEOX, "gguf": GGUF}),
    Family({"config": ("starcoder2",), "gguf": ("starcoder2",)}, _starcoder2),
    Family({"config": ("stablelm",), "gguf": ("stablelm",)}, _stablelm, {"config": _STABLELM, "gguf": GGUF}),
    Family({"config": ("falcon",), "gguf": ("falcon",)}, _falcon, {"config": _FALCON, "gguf": _FALCON_GGUF}),
)
