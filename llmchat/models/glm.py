"""GLM 4: norms before and behind each part; half of each head turns, by neighbouring channels."""

from __future__ import annotations

from dataclasses import replace

from llmchat.models.facts import Facts
from llmchat.models.family import Family
from llmchat.models.llama import llama_plan
from llmchat.models.parts import rms, turning_neighbours
from llmchat.models.plan import Layer, ModelPlan
from llmchat.models.stored import CONFIG, GGUF


def _plan(facts: Facts) -> ModelPlan:
    norm = rms(facts)

    def change(index: int, layer: Layer) -> Layer:
        return replace(turning_neighbours(layer), post_attention_norm=norm, post_ffn_norm=norm)

    return llama_plan(facts, change)


_CONFIG = CONFIG.changed(
    parts={"post_attention_norm": ("post_self_attn_layernorm",), "post_ffn_norm": ("post_mlp_layernorm",)}
)

FAMILIES = (Family({"config": ("glm4",), "gguf": ("glm4",)}, _plan, {"config": _CONFIG, "gguf": GGUF}),)
