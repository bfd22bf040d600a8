"""Cohere's Command models: parallel parts behind one LayerNorm without biases, neighbouring channels turned."""

from __future__ import annotations

from dataclasses import replace

from llmchat.models.facts import FULL, SLIDING, Facts
from llmchat.models.family import Family
from llmchat.models.parts import attention, dense, layer_kinds, layer_norm, model, turning_neighbours
from llmchat.models.plan import Layer, ModelPlan


def _plan(facts: Facts) -> ModelPlan:
    norm, is_second = layer_norm(facts, bias=False), facts.name == "cohere2"
    window = facts.integer("window", 0) if is_second else 0
    has_qk_norm = facts.flag("use_qk_norm") or facts.holds("blk.0.attn_q_norm.weight")
    kinds = layer_kinds(facts, 4 if is_second else 0)

    def layer(kind: str) -> Layer:
        mixed = attention(
            facts,
            qk_norm=norm if has_qk_norm else None,
            qk_norm_of="each",
            window=window if kind == SLIDING else 0,
        )
        # In the second, layers that see all have no positions.
        mixed = replace(mixed, rope=None) if is_second and kind == FULL else mixed
        return turning_neighbours(Layer(mixed, dense(facts), attention_norm=norm, parallel=True))

    logit_scale = facts.number("logit_scale", 1.0 if facts.is_gguf else 0.0625)
    return model(facts, map(layer, kinds), norm, logit_scale=logit_scale)


FAMILIES = (Family({"config": ("cohere", "cohere2"), "gguf": ("command-r", "cohere2")}, _plan),)
