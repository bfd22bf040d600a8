"""Whether a plan is of a network that can be, before memory is taken for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from llmchat.errors import ModelLoadError
from llmchat.models.facts import LARGEST
from llmchat.models.plan import Attention, DeltaNet, Dense, Experts, Layer, ModelPlan, Rope

_LONGEST_KERNEL = 64
"""Positions of a convolution."""


def check_plan(path: object, plan: ModelPlan) -> None:
    """Make sure that dimensions fit together.

    Raises:
        ModelLoadError: They do not; the message names the file.
    """
    wrong = list(dict.fromkeys(_wrong(plan)))
    if wrong:
        raise ModelLoadError(f"{path} describes a model that cannot be: {', '.join(wrong)} is wrong.")


def _wrong(plan: ModelPlan) -> Iterator[str]:
    for name in ("vocab_size", "context_length", "dim"):
        if not 0 < getattr(plan, name) <= LARGEST:
            yield name
    for name in ("embedding_scale", "logit_scale"):
        if not (math.isfinite(getattr(plan, name)) and getattr(plan, name) != 0):
            yield name
    if not (math.isfinite(plan.norm.eps) and plan.norm.eps > 0):
        yield "norm_eps"
    for layer in dict.fromkeys(plan.layers):
        yield from _wrong_layer(layer)
    for index, layer in enumerate(plan.layers):
        yield from _wrong_sharing(plan, index, layer.attention)


def _wrong_sharing(plan: ModelPlan, index: int, attention: Attention) -> Iterator[str]:
    """Whether a layer can read the keys of the one that it names."""
    if attention.keys_of is None:
        return
    if not 0 <= attention.keys_of < index:
        yield "which layers share keys"
        return
    other = plan.layers[attention.keys_of].attention
    sizes = (other.kv_heads, other.head_dim, other.window, other.keys_of)
    if sizes != (attention.kv_heads, attention.head_dim, attention.window, None):
        yield "which layers share keys"


def _wrong_layer(layer: Layer) -> Iterator[str]:
    yield from _wrong_attention(layer.attention) if layer.delta is None else _wrong_delta(layer.delta)
    if not math.isfinite(layer.residual_scale):
        yield "residual_scale"
    if layer.input is not None and not 0 < layer.input.dim <= LARGEST:
        yield "the width of the layers' own embeddings"
    ffn = layer.ffn
    if isinstance(ffn, Dense):
        yield from () if 0 < ffn.dim <= LARGEST else ("ffn_dim",)
    elif isinstance(ffn, Experts):
        if not (0 < ffn.used <= ffn.count <= 4096):
            yield "expert_count"
        if not 0 < ffn.each.dim <= LARGEST or (ffn.shared is not None and not 0 < ffn.shared.dim <= LARGEST):
            yield "ffn_dim"


def _wrong_attention(attention: Attention) -> Iterator[str]:
    for name, value in (
        ("n_heads", attention.heads),
        ("n_kv_heads", attention.kv_heads),
        ("head_dim", attention.head_dim),
    ):
        if not 0 < value <= LARGEST:
            yield name
    if attention.kv_heads > 0 and attention.heads % attention.kv_heads:
        yield "n_kv_heads"
    if attention.window < 0:
        yield "window"
    if not (math.isfinite(attention.scale) and attention.scale > 0):
        yield "attention_scale"
    if attention.position_gain[1] < 1 or attention.softcap < 0 or attention.clip < 0:
        yield "attention"
    if attention.rope is not None:
        yield from _wrong_rope(attention.rope, attention.head_dim)


def _wrong_delta(delta: DeltaNet) -> Iterator[str]:
    sizes = (delta.key_heads, delta.value_heads, delta.key_dim, delta.value_dim, delta.kernel)
    if not all(0 < size <= LARGEST for size in sizes) or delta.channels > LARGEST or delta.kernel > _LONGEST_KERNEL:
        yield "the size of its delta nets"
    elif delta.value_heads % delta.key_heads:
        yield "the heads of its delta nets"


def _wrong_rope(rope: Rope, head_dim: int) -> Iterator[str]:
    if not (math.isfinite(rope.theta) and rope.theta > 0):
        yield "rope_theta"
    if not 0 < rope.dim <= head_dim or rope.dim % 2:
        yield "head_dim" if rope.dim == head_dim else "the rotated part of each head"
    if (scaling := rope.scaling) is None:
        return
    spread = scaling.high_freq_factor - scaling.low_freq_factor
    numbers: tuple[float, ...] = (
        scaling.factor,
        scaling.original_context_length,
        spread,
        scaling.beta_fast,
        scaling.beta_slow,
    )
    numbers += (scaling.magnitude, *scaling.factors, *scaling.long_factors)
    fits = all(len(factors) in (0, rope.dim // 2) for factors in (scaling.factors, scaling.long_factors))
    if not fits or not all(math.isfinite(number) and number > 0 for number in numbers):
        yield "rope scaling"
    if scaling.kind == "factors" and not scaling.factors:
        yield "rope scaling"
    if scaling.kind == "yarn" and rope.theta <= 1:
        yield "rope_theta"
