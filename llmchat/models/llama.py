"""Llama and what is built like it: rotary positions, RMSNorm before each part, SwiGLU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llmchat.models.facts import Facts
from llmchat.models.family import Family
from llmchat.models.parts import (
    activation,
    attention,
    dense,
    experts,
    layer_count,
    model,
    rms,
    turning_neighbours,
)
from llmchat.models.plan import Dense, Layer, ModelPlan
from llmchat.models.stored import GGUF, LAYOUTS


def llama_plan(facts: Facts, layer: Callable[[int, Layer], Layer] | None = None, **changes: Any) -> ModelPlan:
    """A plan as Llama's.

    Args:
        facts: What the file says.
        layer: Changes a layer, given its number.
        **changes: Fields of the plan that are otherwise.
    """
    norm = rms(facts)
    window = facts.integer("window", 0) if facts.name in ("mistral", "ministral", "mixtral", "llama", "phi3") else 0
    sparse = facts.integer("expert_count", 0) > 0
    usual = Layer(
        attention(facts, window=window),
        experts(facts, renormalise=True) if sparse else dense(facts),
        attention_norm=norm,
        ffn_norm=norm,
    )
    layers = (layer(index, usual) if layer else usual for index in range(layer_count(facts)))
    return model(facts, layers, norm, **changes)


def _llama(facts: Facts) -> ModelPlan:
    # Converters of this architecture put neighbouring channels beside each other.
    return llama_plan(facts, _interleaved(facts))


def _interleaved(facts: Facts) -> Callable[[int, Layer], Layer]:
    """Layers whose positions turn neighbouring channels where the file is a GGUF file."""
    return lambda index, layer: turning_neighbours(layer) if facts.is_gguf else layer


def _ministral(facts: Facts) -> ModelPlan:
    rope = facts.table("rope_parameters")
    beta = rope.get("llama_4_scaling_beta")
    original = rope.get("original_max_position_embeddings")
    gain = (float(beta), int(original)) if isinstance(beta, int | float) and isinstance(original, int) else (0.0, 1)
    if facts.is_gguf:
        gain = (
            facts.number("attention.temperature_scale", 0.0),
            facts.integer("rope.scaling.original_context_length", 1),
        )

    def change(index: int, layer: Layer) -> Layer:
        layer = _interleaved(facts)(index, layer)
        window = facts.integer("window", 0)
        return replace(layer, attention=replace(layer.attention, position_gain=gain, window=window))

    return llama_plan(facts, change)


def _arcee(facts: Facts) -> ModelPlan:
    ffn = Dense(facts.integer("ffn_dim"), activation(facts, "relu2"), gated=False, bias=dense(facts, "relu2").bias)
    return llama_plan(facts, lambda index, layer: replace(_interleaved(facts)(index, layer), ffn=ffn))


def _smollm3(facts: Facts) -> ModelPlan:
    turned = facts.per_layer("no_rope_layers")

    def change(index: int, layer: Layer) -> Layer:
        layer = _interleaved(facts)(index, layer)
        turns = turned[index] if turned else (index + 1) % 4
        return layer if turns else replace(layer, attention=replace(layer.attention, rope=None))

    return llama_plan(facts, change)


def _granite(facts: Facts) -> ModelPlan:
    scale, residual = facts.number("attention_scale", 1.0), facts.number("residual_scale", 1.0)
    scaling = facts.number("logits_scaling", 1.0)

    def change(index: int, layer: Layer) -> Layer:
        layer = _interleaved(facts)(index, layer)
        return replace(layer, residual_scale=residual, attention=replace(layer.attention, scale=scale))

    return llama_plan(
        facts,
        change,
        embedding_scale=facts.number("embedding_scale", 1.0),
        logit_scale=1.0 / scaling if scaling else 0.0,
    )


def _ernie(facts: Facts) -> ModelPlan:
    return llama_plan(facts, lambda index, layer: turning_neighbours(layer))


def _hunyuan(facts: Facts) -> ModelPlan:
    norm = rms(facts)

    def change(index: int, layer: Layer) -> Layer:
        return replace(layer, attention=replace(layer.attention, qk_norm=norm, qk_norm_last=True))

    return llama_plan(facts, change)


_SEED_GGUF = {**LAYOUTS, "gguf": GGUF.changed(parts={"ffn_norm": ("post_attention_norm",)})}

FAMILIES = (
    Family({"config": ("llama", "mistral", "mixtral"), "gguf": ("llama",)}, _llama, pairs_channels=True),
    Family({"config": ("ministral", "ministral3"), "gguf": ("mistral3",)}, _ministral, pairs_channels=True),
    Family({"config": ("seed_oss",), "gguf": ("seed_oss",)}, llama_plan, _SEED_GGUF),
    Family({"config": ("arcee",), "gguf": ("arcee",)}, _arcee, pairs_channels=True),
    Family({"config": ("smollm3",), "gguf": ("smollm3",)}, _smollm3, pairs_channels=True),
    Family({"config": ("granite", "granitemoe"), "gguf": ("granite", "granitemoe")}, _granite, pairs_channels=True),
    Family({"config": ("ernie4_5",), "gguf": ("ernie4_5",)}, _ernie),
    Family({"config": ("hunyuan_v1_dense",), "gguf": ("hunyuan-dense",)}, _hunyuan),
)
