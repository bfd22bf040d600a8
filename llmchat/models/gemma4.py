"""Gemma 4: heads of two sizes, keys that layers share, an embedding for each layer, experts beside a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmchat.errors import ModelLoadError
from llmchat.models.facts import FULL, SLIDING, Facts
from llmchat.models.family import Family
from llmchat.models.parts import activation, layer_kinds, model, rms
from llmchat.models.plan import Attention, Dense, Experts, Layer, LayerInput, ModelPlan, Norm
from llmchat.models.stored import CONFIG, GGUF, Joined

_POSITIONS = {
    SLIDING: {"rope_type": "default", "rope_theta": 1e4},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
}
"""Where config.json does not say them."""


def _plan(facts: Facts) -> ModelPlan:
    if not facts.is_gguf and not facts.has("rope_parameters"):
        facts = replace(facts, values={**facts.values, "rope_parameters": _POSITIONS})
    norm, kinds = rms(facts), _kinds(facts)
    own = facts.integer("layer_input_dim", 256)
    layer_input = LayerInput(own, "gelu_tanh", norm) if own else None
    first_sharing = len(kinds) - facts.integer("shared_layers", 0)

    def layer(index: int) -> Layer:
        is_sharing = index >= first_sharing
        return Layer(
            _attention(facts, kinds, index, first_sharing if is_sharing else None),
            _network(facts, index, norm, is_sharing=is_sharing),
            attention_norm=norm,
            post_attention_norm=norm,
            ffn_norm=norm,
            post_ffn_norm=norm,
            input=layer_input,
            scaled=not facts.is_gguf or facts.holds(f"blk.{index}.layer_output_scale.weight"),
        )

    return model(
        facts,
        map(layer, range(len(kinds))),
        norm,
        embedding_scale=math.sqrt(max(facts.integer("dim"), 0)),
        final_softcap=facts.number("final_softcap", 0.0),
    )


def _kinds(facts: Facts) -> list[str]:
    """FULL or SLIDING for each layer; in a directory the last is always FULL."""
    kinds = layer_kinds(facts, 6)
    if unknown := set(kinds) - {FULL, SLIDING}:
        raise ModelLoadError(f"{facts.path} has layers of the kind {min(unknown)[:40]!r}, which llmchat does not know.")
    return kinds if facts.is_gguf else [*kinds[:-1], FULL]


def _attention(facts: Facts, kinds: list[str], index: int, first_sharing: int | None) -> Attention:
    kind, norm = kinds[index], rms(facts)
    heads, head_dim, kv_heads = facts.integer("n_heads"), _head_dim(facts, index, kind), _kv_heads(facts, index, kind)
    return Attention(
        heads,
        kv_heads,
        head_dim,
        scale=1.0,
        rope=facts.rope(head_dim, kind=kind),
        window=facts.integer("window", 512) if kind == SLIDING else 0,
        bias=facts.flag("attention_bias"),
        out_bias=facts.flag("attention_bias"),
        qk_norm=norm,
        value_norm=replace(norm, weight=False),
        values_are_keys=_has_no_values(facts, index, kind),
        keys_of=None if first_sharing is None else _last_of(kinds[:first_sharing], kind, facts),
    )


def _head_dim(facts: Facts, index: int, kind: str) -> int:
    if facts.is_gguf:
        return facts.integer("attention.key_length_swa" if kind == SLIDING else "head_dim")
    usual = facts.integer("head_dim", 256)
    if facts.has("per_layer_config"):
        return _of_layer(facts, index).integer("head_dim", usual)
    return usual if kind == SLIDING else facts.integer("global_head_dim", 512)


def _kv_heads(facts: Facts, index: int, kind: str) -> int:
    if facts.is_gguf:
        return facts.item("n_kv_heads", index)
    usual = facts.integer("n_kv_heads", 4)
    if kind == FULL and facts.flag("attention_k_eq_v"):
        usual = facts.integer("num_global_key_value_heads", usual)
    return _of_layer(facts, index).integer("n_kv_heads", usual)


def _of_layer(facts: Facts, index: int) -> Facts:
    """What config.json says of one layer alone, where newer files list it."""
    own: Any = facts.table("per_layer_config").get(str(index), {})
    return replace(facts, values=own if isinstance(own, Mapping) else {})


def _has_no_values(facts: Facts, index: int, kind: str) -> bool:
    if facts.is_gguf:
        return not facts.holds(f"blk.{index}.attn_v.weight")
    return kind == FULL and facts.flag("attention_k_eq_v")


def _last_of(kinds: list[str], kind: str, facts: Facts) -> int:
    """The last layer of a kind that has keys of its own."""
    if kind not in kinds:
        raise ModelLoadError(f"{facts.path} describes a model that cannot be: no layer has the keys that others read.")
    return len(kinds) - 1 - kinds[::-1].index(kind)


def _network(facts: Facts, index: int, norm: Norm, *, is_sharing: bool) -> Dense | Experts:
    double = is_sharing and facts.flag("use_double_wide_mlp")
    usual = Dense(facts.item("ffn_dim", index) * (2 if double else 1), activation(facts, "gelu_tanh"))
    is_mixture = facts.integer("expert_count", 0) > 0 if facts.is_gguf else facts.flag("enable_moe_block")
    if not is_mixture:
        return usual
    used = facts.integer("experts_used" if facts.is_gguf else "top_k_experts")
    each = replace(usual, dim=facts.integer("expert_dim"))
    return Experts(facts.integer("expert_count"), used, each, renormalise=True, shared=usual, apart=norm)


_EXPERTS = ("ffn.experts.gate_proj", "ffn.experts.up_proj")
_CONFIG = CONFIG.changed(
    globals={
        "inputs.embedding": ("embed_tokens_per_layer",),
        "inputs.projection": ("per_layer_model_projection",),
        "inputs.norm": ("per_layer_projection_norm",),
    },
    parts={
        "post_attention_norm": ("post_attention_layernorm",),
        "ffn_norm": ("pre_feedforward_layernorm",),
        "post_ffn_norm": ("post_feedforward_layernorm",),
        "input.gate_proj": ("per_layer_input_gate",),
        "input.out_proj": ("per_layer_projection",),
        "input.norm": ("post_per_layer_input_norm",),
        "scale": ("layer_scalar",),
        "ffn.router": ("router.proj",),
        "ffn.router_norm": ("router.scale",),
        "ffn.expert_scales": ("router.per_expert_scale",),
        "ffn.experts_norm": ("pre_feedforward_layernorm_2",),
        "ffn.post_experts_norm": ("post_feedforward_layernorm_2",),
        "ffn.post_shared_norm": ("post_feedforward_layernorm_1",),
        "ffn.experts.down_proj": ("experts.down_proj",),
        "ffn.shared.gate_proj": ("mlp.gate_proj",),
        "ffn.shared.up_proj": ("mlp.up_proj",),
        "ffn.shared.down_proj": ("mlp.down_proj",),
    },
    joined=(*CONFIG.joined, Joined("experts.gate_up_proj", _EXPERTS)),
    bare=(
        *("layer_scalar", "router.scale", "router.per_expert_scale", "experts.gate_up_proj", "experts.down_proj"),
        *CONFIG.bare,
    ),
)
_GGUF = GGUF.changed(
    globals={
        "inputs.embedding": ("per_layer_token_embd",),
        "inputs.projection": ("per_layer_model_proj",),
        "inputs.norm": ("per_layer_proj_norm",),
    },
    parts={
        "input.gate_proj": ("inp_gate",),
        "input.out_proj": ("proj",),
        "input.norm": ("post_norm",),
        "scale": ("layer_output_scale",),
        "ffn.router_norm": ("ffn_gate_inp.scale",),
        "ffn.expert_scales": ("ffn_down_exps.scale",),
        "ffn.experts_norm": ("pre_ffw_norm_2",),
        "ffn.post_experts_norm": ("post_ffw_norm_2",),
        "ffn.post_shared_norm": ("post_ffw_norm_1",),
        "ffn.shared.gate_proj": ("ffn_gate",),
        "ffn.shared.up_proj": ("ffn_up",),
        "ffn.shared.down_proj": ("ffn_down",),
    },
    joined=(*GGUF.joined, Joined("ffn_gate_up_exps", _EXPERTS)),
    bare=("ffn_gate_inp.scale", "ffn_down_exps.scale"),
)

FAMILIES = (Family({"config": ("gemma4_text",), "gguf": ("gemma4",)}, _plan, {"config": _CONFIG, "gguf": _GGUF}),)
