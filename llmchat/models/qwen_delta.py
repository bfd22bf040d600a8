"""Qwen 3 Next and 3.5: gated delta nets, with attention whose output has a gate in every fourth layer."""

from __future__ import annotations

from dataclasses import replace

from llmchat.errors import ModelLoadError
from llmchat.models.facts import FULL, Facts
from llmchat.models.family import Family
from llmchat.models.llama import llama_plan
from llmchat.models.parts import dense, experts, rms
from llmchat.models.plan import NO_ATTENTION, DeltaNet, Layer, ModelPlan
from llmchat.models.stored import CONFIG, GGUF, Joined

_DELTA = "linear_attention"
"""Hugging Face's name of layers that have a delta net."""


def _plan(facts: Facts) -> ModelPlan:
    norm, interval = rms(facts), facts.integer("full_attention_interval", 4)
    kinds = facts.per_layer("layer_types")
    sparse = facts.name.startswith(("qwen3_next", "qwen3next")) or "moe" in facts.name
    plain, period = facts.values.get("mlp_only_layers") or (), facts.integer("decoder_sparse_step", 1)

    def is_delta(index: int) -> bool:
        if facts.is_gguf:
            return facts.holds(f"blk.{index}.ssm_conv1d.weight")
        if kinds and kinds[index] not in (FULL, _DELTA):
            kind = str(kinds[index])[:40]
            raise ModelLoadError(f"{facts.path} has layers of the kind {kind!r}, which llmchat does not know.")
        return kinds[index] == _DELTA if kinds else bool(interval > 0 and (index + 1) % interval)

    def change(index: int, layer: Layer) -> Layer:
        is_mixture = sparse and index not in plain and not (period > 0 and (index + 1) % period)
        layer = replace(layer, ffn=experts(facts, renormalise=True, shared=True) if is_mixture else dense(facts))
        if is_delta(index):
            return replace(layer, attention=NO_ATTENTION, delta=_delta(facts))
        return replace(layer, attention=replace(layer.attention, qk_norm=norm, gated=True))

    return llama_plan(facts, change)


def _delta(facts: Facts) -> DeltaNet:
    value_heads = facts.integer("linear_num_value_heads")
    value_dim = facts.integer("linear_value_head_dim")
    return DeltaNet(
        key_heads=facts.integer("linear_num_key_heads"),
        value_heads=value_heads,
        key_dim=facts.integer("linear_key_head_dim"),
        # GGUF files give the size of all heads together.
        value_dim=value_dim // max(value_heads, 1) if facts.is_gguf else value_dim,
        kernel=facts.integer("linear_conv_kernel_dim"),
        norm=rms(facts),
        tiled=facts.name in ("qwen35", "qwen35moe"),
        rate_is_log=not facts.is_gguf,
    )


_Q_GATE = ("attention.q_proj", "attention.gate_proj")
_QKV = tuple(f"delta.{part}_proj" for part in ("q", "k", "v"))
_QKVZ, _BA = (*_QKV, "delta.gate_proj"), ("delta.beta_proj", "delta.decay_proj")
_CONFIG = CONFIG.changed(
    parts={
        "delta.gate_proj": ("linear_attn.in_proj_z",),
        "delta.beta_proj": ("linear_attn.in_proj_b",),
        "delta.decay_proj": ("linear_attn.in_proj_a",),
        "delta.conv": ("linear_attn.conv1d",),
        "delta.rate": ("linear_attn.A_log",),
        "delta.decay": ("linear_attn.dt",),
        "delta.gain": ("linear_attn.norm",),
        "delta.o_proj": ("linear_attn.out_proj",),
    },
    joined=(
        *CONFIG.joined,
        Joined("self_attn.q_proj", _Q_GATE, grouped=True, by="heads"),
        Joined("linear_attn.in_proj_qkv", _QKV),
        Joined("linear_attn.in_proj_qkvz", _QKVZ, grouped=True, by="key_heads"),
        Joined("linear_attn.in_proj_ba", _BA, grouped=True, by="key_heads"),
    ),
    norm_offset=1.0,
    bare=(*CONFIG.bare, "linear_attn.A_log", "linear_attn.dt"),
    spread=("linear_attn.conv1d",),
)
_GGUF = GGUF.changed(
    parts={
        "ffn_norm": ("post_attention_norm",),
        "delta.gate_proj": ("attn_gate",),
        "delta.beta_proj": ("ssm_beta",),
        "delta.decay_proj": ("ssm_alpha",),
        "delta.conv": ("ssm_conv1d",),
        "delta.rate": ("ssm_a",),
        "delta.decay": ("ssm_dt",),
        "delta.gain": ("ssm_norm",),
        "delta.o_proj": ("ssm_out",),
    },
    joined=(
        *GGUF.joined,
        Joined("attn_q", _Q_GATE, grouped=True, by="heads"),
        Joined("attn_qkv", _QKV),
        Joined("ssm_ba", _BA, grouped=True, by="key_heads"),
        Joined("ffn_gate_up_exps", ("ffn.experts.gate_proj", "ffn.experts.up_proj")),
    ),
    bare=("ssm_a",),
)

FAMILIES = (
    Family(
        {"config": ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), "gguf": ("qwen3next", "qwen35", "qwen35moe")},
        _plan,
        {"config": _CONFIG, "gguf": _GGUF},
    ),
)
