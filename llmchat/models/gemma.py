"""Gemma: a scaled embedding, norms whose weights are stored less 1, GELU gates; later also norms behind each part."""

from __future__ import annotations

import math
from dataclasses import replace

from llmchat.models.facts import SLIDING, Facts
from llmchat.models.family import Family
from llmchat.models.llama import llama_plan
from llmchat.models.parts import attention, dense, inverse_root, layer_kinds, rms
from llmchat.models.plan import Layer, ModelPlan
from llmchat.models.stored import CONFIG, GGUF


def _first(facts: Facts) -> ModelPlan:
    return _scaled(facts, llama_plan(facts, lambda index, layer: replace(layer, ffn=dense(facts, "gelu_tanh"))))


def _later(facts: Facts) -> ModelPlan:
    """Gemma 2 and 3: every second to sixth layer sees the whole text, the others a window."""
    norm, is_third = rms(facts), facts.name.startswith("gemma3")
    kinds = layer_kinds(facts, 6 if is_third else 2)
    local = facts.number("rope_local_base_freq", 10000.0) if is_third else None

    def change(index: int, layer: Layer) -> Layer:
        sliding = kinds[index] == SLIDING
        mixed = attention(
            facts,
            kind=kinds[index],
            scale=_scale(facts),
            window=facts.integer("window", 0) if sliding else 0,
            softcap=facts.number("attention_softcap", 0.0),
            qk_norm=norm if is_third else None,
        )
        rope = mixed.rope
        assert rope is not None
        if sliding and local is not None and not _is_nested(facts):
            mixed = replace(mixed, rope=replace(rope, theta=local, scaling=None))
        return replace(
            layer,
            attention=mixed,
            ffn=dense(facts, "gelu_tanh"),
            post_attention_norm=norm,
            post_ffn_norm=norm,
        )

    return _scaled(facts, llama_plan(facts, change, final_softcap=facts.number("final_softcap", 0.0)))


def _is_nested(facts: Facts) -> bool:
    """Whether config.json gives the positions of each kind of layer apart."""
    return isinstance(facts.table("rope_parameters").get(SLIDING), dict) or (
        facts.is_gguf and facts.has("rope.freq_base_swa")
    )


def _scale(facts: Facts) -> float:
    """What scores are multiplied by. GGUF files leave it to the architecture; the largest models are exceptions."""
    dim, heads = facts.integer("dim"), facts.integer("n_heads")
    usual = float(facts.integer("head_dim", dim // heads))
    if facts.is_gguf and (facts.name, facts.integer("n_layers")) in (("gemma2", 46), ("gemma3", 62)):
        usual = dim / heads
    scalar = usual if facts.is_gguf else facts.number("query_pre_attn_scalar", usual)
    return inverse_root(scalar)


def _scaled(facts: Facts, plan: ModelPlan) -> ModelPlan:
    return replace(plan, embedding_scale=math.sqrt(max(plan.dim, 0)))


_OFFSET = CONFIG.changed(norm_offset=1.0)
_SANDWICH = CONFIG.changed(
    parts={
        "post_attention_norm": ("post_attention_layernorm",),
        "ffn_norm": ("pre_feedforward_layernorm",),
        "post_ffn_norm": ("post_feedforward_layernorm",),
    },
    norm_offset=1.0,
)

FAMILIES = (
    Family({"config": ("gemma",), "gguf": ("gemma",)}, _first, {"config": _OFFSET, "gguf": GGUF}),
    Family(
        {"config": ("gemma2", "gemma3_text"), "gguf": ("gemma2", "gemma3")}, _later, {"config": _SANDWICH, "gguf": GGUF}
    ),
)
