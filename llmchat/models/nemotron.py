"""Nemotron: LayerNorm whose weights are stored less 1, a squared ReLU without a gate, half of each head turns."""

from __future__ import annotations

from llmchat.models.facts import Facts
from llmchat.models.family import Family
from llmchat.models.parts import activation, attention, has_part, layer_count, model
from llmchat.models.plan import Dense, Layer, ModelPlan, Norm
from llmchat.models.stored import CONFIG, GGUF


def _plan(facts: Facts) -> ModelPlan:
    norm = Norm("layer", facts.number("layer_eps" if facts.is_gguf else "norm_eps", 1e-5), bias=True)
    bias = has_part(facts, "mlp.up_proj.bias", "ffn_up.bias")
    ffn = Dense(facts.integer("ffn_dim"), activation(facts, "relu2"), gated=False, bias=bias)
    layer = Layer(attention(facts), ffn, attention_norm=norm, ffn_norm=norm)
    return model(facts, (layer,) * layer_count(facts), norm)


FAMILIES = (
    Family(
        {"config": ("nemotron",), "gguf": ("nemotron",)},
        _plan,
        {"config": CONFIG.changed(norm_offset=1.0), "gguf": GGUF},
    ),
)
