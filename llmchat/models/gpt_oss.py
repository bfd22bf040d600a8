"""gpt-oss: experts with biases and clamped gates, sinks, every second layer with a window."""

from __future__ import annotations

from llmchat.models.facts import SLIDING, Facts
from llmchat.models.family import Family
from llmchat.models.parts import attention, layer_kinds, model, rms
from llmchat.models.plan import Dense, Experts, Layer, ModelPlan
from llmchat.models.stored import CONFIG, GGUF, Joined


def _plan(facts: Facts) -> ModelPlan:
    norm, window = rms(facts, 1e-5), facts.integer("window", 0)
    each = Dense(facts.integer("expert_dim", facts.integer("ffn_dim")), "clamped_swish", bias=True)
    ffn = Experts(
        facts.integer("expert_count"), facts.integer("experts_used"), each, renormalise=True, router_bias=True
    )

    def layer(kind: str) -> Layer:
        mixed = attention(facts, bias=True, out_bias=True, sinks=True, window=window if kind == SLIDING else 0)
        return Layer(mixed, ffn, attention_norm=norm, ffn_norm=norm)

    return model(facts, map(layer, layer_kinds(facts, 2, full_last=True)), norm)


_EXPERTS = ("ffn.experts.gate_proj", "ffn.experts.up_proj")
_GATE_UP, _DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
_CONFIG = CONFIG.changed(
    parts={"ffn.experts.down_proj": (_DOWN, f"{_DOWN}_blocks")},
    joined=tuple(Joined(name, _EXPERTS, alternating=True) for name in (_GATE_UP, f"{_GATE_UP}_blocks")),
    transposed=(_GATE_UP, _DOWN),
    bare=(*CONFIG.bare, f"{_GATE_UP}_blocks", f"{_DOWN}_blocks"),
)
_GGUF = GGUF.changed(parts={"ffn_norm": ("post_attention_norm",)})

FAMILIES = (
    Family(
        {"config": ("gpt_oss",), "gguf": ("gpt-oss",)},
        _plan,
        {"config": _CONFIG, "gguf": _GGUF},
        quantised=("mxfp4",),
    ),
)
