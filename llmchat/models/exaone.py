"""EXAONE 4: norms behind each part, a norm of each head's queries and keys, windows without and with positions."""

from __future__ import annotations

from dataclasses import replace

from llmchat.models.facts import FULL, SLIDING, Facts
from llmchat.models.family import Family
from llmchat.models.olmo import BEHIND
from llmchat.models.parts import attention, dense, layer_kinds, model, rms
from llmchat.models.plan import Layer, ModelPlan
from llmchat.models.stored import GGUF


def _plan(facts: Facts) -> ModelPlan:
    norm, window = rms(facts), facts.integer("window", 0)
    kinds = layer_kinds(facts, 4 if window else 0)

    def layer(kind: str) -> Layer:
        # Where some layers see a window, those that see all have no positions.
        mixed = attention(facts, qk_norm=norm, window=window if kind == SLIDING else 0)
        mixed = replace(mixed, rope=None) if window and kind == FULL else mixed
        return Layer(mixed, dense(facts), post_attention_norm=norm, post_ffn_norm=norm)

    return model(facts, map(layer, kinds), norm)


FAMILIES = (Family({"config": ("exaone4",), "gguf": ("exaone4",)}, _plan, {"config": BEHIND, "gguf": GGUF}),)
