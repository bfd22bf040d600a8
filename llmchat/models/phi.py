"""Phi 1 to 4: first LayerNorm and parallel parts, from the third on a Llama with joined matrices."""

from __future__ import annotations

from dataclasses import replace

from llmchat.models.facts import Facts
from llmchat.models.family import Family
from llmchat.models.llama import llama_plan
from llmchat.models.parts import activation, attention, layer_count, layer_norm, model
from llmchat.models.plan import Dense, Layer, ModelPlan


def _phi(facts: Facts) -> ModelPlan:
    norm = layer_norm(facts)
    qk_norm = layer_norm(facts) if facts.flag("qk_layernorm") else None
    layer = Layer(
        attention(facts, bias=True, out_bias=True, qk_norm=qk_norm),
        Dense(
            facts.integer("ffn_dim", 4 * facts.integer("dim")), activation(facts, "gelu_tanh"), gated=False, bias=True
        ),
        attention_norm=norm,
        parallel=True,
    )
    return model(facts, (layer,) * layer_count(facts), norm, tied=False, head_bias=True)


def _phi3(facts: Facts) -> ModelPlan:
    return llama_plan(facts, lambda index, layer: replace(layer, attention=replace(layer.attention, bias=False)))


FAMILIES = (
    Family({"config": ("phi",), "gguf": ("phi2",)}, _phi),
    Family({"config": ("phi3",), "gguf": ("phi3",)}, _phi3),
)
