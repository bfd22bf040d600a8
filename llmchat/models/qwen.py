"""Qwen 2 and 3: Llama with biases of queries, keys and values, or with a norm of each head's; experts in some."""

from __future__ import annotations

from dataclasses import replace

from llmchat.models.facts import Facts
from llmchat.models.family import Family
from llmchat.models.llama import llama_plan
from llmchat.models.parts import dense, experts, rms
from llmchat.models.plan import Experts, Layer, ModelPlan


def _plan(facts: Facts) -> ModelPlan:
    norm = rms(facts) if facts.name.startswith("qwen3") else None
    windowed = facts.integer("window", 0) if facts.flag("use_sliding_window") else 0
    first_windowed = facts.integer("max_window_layers", 0)
    is_mixture = facts.name.endswith("moe")
    plain = facts.values.get("mlp_only_layers") or ()
    period = facts.integer("decoder_sparse_step", 1)

    def change(index: int, layer: Layer) -> Layer:
        window = windowed if index >= first_windowed else 0
        layer = replace(layer, attention=replace(layer.attention, qk_norm=norm, window=window))
        if is_mixture and (index in plain or (period > 0 and (index + 1) % period)):
            return replace(layer, ffn=dense(facts))
        return replace(layer, ffn=_mixture(facts)) if is_mixture else layer

    return llama_plan(facts, change)


def _mixture(facts: Facts) -> Experts:
    is_third = facts.name.startswith("qwen3")
    # GGUF files mostly leave it to the architecture.
    renormalise = facts.flag("expert_weights_norm", is_third) if facts.is_gguf else facts.flag("norm_topk_prob")
    return experts(facts, renormalise=renormalise, shared=not is_third)


FAMILIES = (
    Family(
        {"config": ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"), "gguf": ("qwen2", "qwen2moe", "qwen3", "qwen3moe")},
        _plan,
    ),
)
