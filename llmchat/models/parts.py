"""What families' plans are made of: each reads one part of a network out of a file's facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from llmchat.errors import ModelLoadError
from llmchat.models.facts import FULL, SLIDING, Facts
from llmchat.models.plan import Activation, Attention, Dense, Experts, Layer, ModelPlan, Norm
from llmchat.models.stored import CONFIG, GGUF

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu2": "relu2",
}
"""Hugging Face's names of activations."""


def activation(facts: Facts, default: Activation = "silu") -> Activation:
    """The activation that config.json names; GGUF files leave it to the architecture."""
    if facts.is_gguf:
        return default
    named = next(
        (
            facts.text(key)
            for key in ("hidden_activation", "hidden_act", "activation_function", "activation")
            if facts.has(key)
        ),
        "",
    )
    if not named:
        return default
    if named not in _ACTIVATIONS:
        raise ModelLoadError(f"{facts.path} uses the activation {named[:40]!r}, which llmchat does not know.")
    return _ACTIVATIONS[named]


def rms(facts: Facts, default: float = 1e-6) -> Norm:
    """The RMSNorm of a file."""
    return Norm("rms", facts.number("rms_eps", None if facts.is_gguf else default))


def layer_norm(facts: Facts, *, bias: bool = True, weight: bool = True) -> Norm:
    """The LayerNorm of a file."""
    return Norm("layer", facts.number("layer_eps", 1e-5), weight, bias)


def has_part(facts: Facts, config_part: str, gguf_part: str) -> bool:
    """Whether the first layer holds a tensor, by its name behind the layer's."""
    if facts.is_gguf:
        return facts.holds(f"blk.0.{gguf_part}")
    return any(name.endswith(f"layers.0.{config_part}") for name in facts.shapes)


def vocabulary(facts: Facts) -> int:
    """Rows of the embedding.

    Raises:
        ModelLoadError: There is none.
    """
    names = (GGUF if facts.is_gguf else CONFIG).globals["embedding"]
    for name, shape in facts.shapes.items():
        if name.rpartition(".")[0].rpartition(".")[2] in names and name.endswith(".weight") and len(shape) == 2:
            return shape[0]
    raise ModelLoadError(f"{facts.path} is incomplete: the tensor {names[0] + '.weight'!r} is missing.")


def is_tied(facts: Facts, default: bool = True) -> bool:
    """Whether the output layer is the embedding.

    Raises:
        ModelLoadError: It is not, and there is none: a model that gives no tokens.
    """
    heads = GGUF.globals["head"] if facts.is_gguf else CONFIG.globals["head"]
    has_head = any(name.removesuffix(".weight").rpartition(".")[2] in heads for name in facts.shapes)
    if facts.is_gguf:
        return not has_head
    said = facts.values.get("tie_word_embeddings")
    if said is True or (said is None and not has_head and default):
        return True
    if not has_head:
        raise ModelLoadError(
            f"{facts.path} has no output layer: it gives vectors, not tokens. Give a model that writes text."
        )
    return False


def attention(facts: Facts, *, kind: str = FULL, **changes: Any) -> Attention:
    """Attention as in Llama, with some things otherwise."""
    dim, heads = facts.integer("dim"), facts.integer("n_heads")
    if heads <= 0:
        raise ModelLoadError(f"{facts.path} claims {heads} attention heads.")
    head_dim = facts.integer("head_dim", dim // heads)
    kv_heads = facts.integer("n_kv_heads", heads)
    if facts.integer("value_dim", head_dim) != head_dim:
        raise ModelLoadError(f"{facts.path} has keys and values of different sizes, which llmchat cannot run.")
    base = Attention(
        heads,
        kv_heads,
        head_dim,
        scale=inverse_root(head_dim),
        rope=facts.rope(head_dim, kind=kind),
        bias=has_part(facts, "self_attn.q_proj.bias", "attn_q.bias"),
        out_bias=has_part(facts, "self_attn.o_proj.bias", "attn_output.bias"),
    )
    return replace(base, **changes)


def inverse_root(number: float) -> float:
    """What scores are multiplied by in heads of so many channels; 0, which the check refuses, where it has no root."""
    return float(number**-0.5) if number > 0 else 0.0


def dense(facts: Facts, default: Activation = "silu") -> Dense:
    """A gated feed-forward network."""
    return Dense(
        facts.integer("ffn_dim"),
        activation(facts, default),
        bias=has_part(facts, "mlp.up_proj.bias", "ffn_up.bias"),
    )


def experts(facts: Facts, *, renormalise: bool, shared: bool = False) -> Experts:
    """A mixture of gated networks."""
    dim = facts.integer("expert_dim", facts.integer("ffn_dim"))
    act = activation(facts)
    return Experts(
        facts.integer("expert_count"),
        facts.integer("experts_used"),
        Dense(dim, act),
        renormalise,
        shared=Dense(facts.integer("shared_dim"), act) if shared else None,
        shared_gate=shared,
    )


def model(facts: Facts, layers: Iterable[Layer], norm: Norm, **changes: Any) -> ModelPlan:
    """A plan of these layers.

    Args:
        facts: What the file says.
        layers: From the first.
        norm: The one before the output layer.
        **changes: Fields of the plan that are not at their defaults.
    """
    plan = ModelPlan(
        facts.name,
        vocabulary(facts),
        facts.integer("context_length"),
        facts.integer("dim"),
        tuple(layers),
        norm,
        tied=is_tied(facts),
    )
    return replace(plan, **changes)


def layer_count(facts: Facts) -> int:
    """How many layers there are.

    Raises:
        ModelLoadError: More than the file can hold: a plan is not made of so many.
    """
    count = facts.integer("n_layers")
    if not 0 < count <= max(len(facts.shapes), 1):
        raise ModelLoadError(f"{facts.path} does not fit its own description: it claims {count} layers.")
    return count


def layer_kinds(facts: Facts, period: int, *, full_last: bool = True) -> list[str]:
    """FULL or SLIDING for each layer: as the file lists them, else one full layer in each period."""
    count = layer_count(facts)
    if listed := facts.per_layer("layer_types"):
        return [str(kind) for kind in listed[:count]]
    if pattern := facts.values.get(f"{facts.name}.attention.sliding_window_pattern"):
        if isinstance(pattern, list) and len(pattern) >= count:
            return [SLIDING if is_sliding else FULL for is_sliding in pattern[:count]]
        if isinstance(pattern, int) and pattern > 0:
            period = pattern
    if period <= 0:
        return [FULL] * count
    at = period - 1 if full_last else 0
    return [FULL if index % period == at else SLIDING for index in range(count)]


def turning_neighbours(layer: Layer) -> Layer:
    """The layer, its positions turning channels that lie side by side."""
    rope = layer.attention.rope
    if rope is None:
        return layer
    return replace(layer, attention=replace(layer.attention, rope=replace(rope, interleaved=True)))
