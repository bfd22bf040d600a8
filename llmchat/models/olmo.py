"""OLMo: norms without weights, later norms behind each part instead of before it."""

from __future__ import annotations

from dataclasses import replace

from llmchat.models.facts import SLIDING, Facts
from llmchat.models.family import Family
from llmchat.models.parts import attention, dense, layer_count, layer_kinds, model, rms, turning_neighbours
from llmchat.models.plan import Layer, ModelPlan, Norm
from llmchat.models.stored import CONFIG, GGUF


def _first(facts: Facts) -> ModelPlan:
    norm = Norm("layer", 1e-5, weight=False)
    layer = Layer(attention(facts, clip=facts.number("clip", 0.0)), dense(facts), attention_norm=norm, ffn_norm=norm)
    layer = turning_neighbours(layer) if facts.is_gguf else layer
    return model(facts, (layer,) * layer_count(facts), norm)


def _later(facts: Facts) -> ModelPlan:
    norm = rms(facts)
    kinds = layer_kinds(facts, 4 if facts.has("window") else 0)

    def layer(kind: str) -> Layer:
        mixed = attention(
            facts,
            kind=kind,
            qk_norm=norm,
            qk_norm_of="all",
            window=facts.integer("window", 0) if kind == SLIDING else 0,
        )
        if kind == SLIDING and mixed.rope is not None:
            mixed = replace(mixed, rope=replace(mixed.rope, scaling=None))
        return Layer(mixed, dense(facts), post_attention_norm=norm, post_ffn_norm=norm)

    return model(facts, map(layer, kinds), norm)


BEHIND = CONFIG.changed(
    parts={
        "post_attention_norm": ("post_attention_layernorm",),
        "ffn_norm": (),
        "post_ffn_norm": ("post_feedforward_layernorm",),
    }
)
"""The names where norms stand behind each part."""

FAMILIES = (
    Family({"config": ("olmo",), "gguf": ("olmo",)}, _first, pairs_channels=True),
    Family({"config": ("olmo2", "olmo3"), "gguf": ("olmo2",)}, _later, {"config": BEHIND, "gguf": GGUF}),
)
