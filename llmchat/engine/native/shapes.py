"""A plan as the native library takes it, and what the library cannot run."""

from __future__ import annotations

from ctypes import Array, Structure
from typing import Any

from llmchat.engine.native.interface import constants, struct
from llmchat.models.plan import Dense, Experts, Layer, ModelPlan, Norm, Rope

_MOST_USED = 64


def supports(plan: ModelPlan) -> str:
    """Why the native step cannot run a plan, in a few words; "" if it can."""
    if not plan.goes_back:
        return "it has gated delta nets"
    first, own = plan.layers[0].attention, plan.layer_input
    if own is not None and (own.norm.kind != "rms" or own.activation == "clamped_swish"):
        return "of what its layers add of their own embeddings"
    for layer in plan.layers:
        mixed = layer.attention
        if layer.input is not None and layer.residual_scale != 1.0:
            return "its layers scale what they add of their own embeddings"
        if mixed.gated:
            return "its attention has gates"
        if mixed.value_norm is not None and mixed.value_norm.kind != "rms":
            return "of the way it normalises values"
        if (mixed.qk_norm, mixed.qk_norm_of) != (first.qk_norm, first.qk_norm_of):
            return "its layers normalise queries in several ways"
        if isinstance(layer.ffn, Experts) and (layer.parallel or layer.ffn.used > _MOST_USED):
            return "of the way its experts are used"
        if layer.parallel and (layer.post_attention_norm or layer.post_ffn_norm):
            return "its layers are parallel with norms behind them"
    if len({(norm.kind, norm.eps) for norm in _norms(plan)}) > 1:
        return "it has norms of several kinds"
    if first.qk_norm is not None and first.qk_norm_of == "all" and first.qk_norm.kind != "rms":
        return "of a norm over all its heads"
    return ""


def ropes_of(plan: ModelPlan) -> list[Rope]:
    """The different rotary positions of a plan."""
    ropes = (layer.attention.rope for layer in plan.layers)
    return list(dict.fromkeys(rope for rope in ropes if rope is not None))


def model_shape(plan: ModelPlan, ropes: int, threads: int) -> Structure:
    """The library's Shape."""
    attention, own = plan.layers[0].attention, plan.layer_input
    return struct("Shape")(
        dim=plan.dim,
        layers=len(plan.layers),
        vocab=plan.vocab_size,
        context=plan.context_length,
        ropes=ropes,
        threads=threads,
        norm_kind=_norm_kind(plan.norm),
        qk_norm_kind=_norm_kind(attention.qk_norm),
        qk_norm_of=constants()[f"OF_{attention.qk_norm_of.upper()}"],
        eps=plan.norm.eps,
        embedding_scale=plan.embedding_scale,
        logit_scale=plan.logit_scale,
        final_softcap=plan.final_softcap,
        input_dim=0 if own is None else own.dim,
        input_activation=0 if own is None else constants()[own.activation.upper()],
    )


def layer_shapes(plan: ModelPlan, ropes: list[Rope]) -> Array[Any]:
    """The library's LayerShapes, one for each layer."""
    return (struct("LayerShape") * len(plan.layers))(*(_layer(layer, ropes) for layer in plan.layers))


def _layer(layer: Layer, ropes: list[Rope]) -> Structure:
    attention, ffn = layer.attention, layer.ffn
    network: Dense = ffn.each if isinstance(ffn, Experts) else ffn
    beta, length = attention.position_gain
    shape = struct("LayerShape")(
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        keys_of=-1 if attention.keys_of is None else attention.keys_of,
        values_are_keys=attention.values_are_keys,
        rope=-1 if attention.rope is None else ropes.index(attention.rope),
        window=attention.window,
        qk_norm_last=attention.qk_norm_last,
        gain_length=length,
        gain_beta=beta,
        scale=attention.scale,
        softcap=attention.softcap,
        clip=attention.clip,
        residual_scale=layer.residual_scale,
        parallel=layer.parallel,
        activation=constants()[network.activation.upper()],
        gated=network.gated,
        ffn=network.dim,
    )
    if isinstance(ffn, Experts):
        shape.experts, shape.experts_used, shape.renormalise = ffn.count, ffn.used, ffn.renormalise
        shape.shared_ffn = 0 if ffn.shared is None else ffn.shared.dim
    return shape


def _norm_kind(norm: Norm | None) -> int:
    return constants()["NO_NORM" if norm is None else f"{norm.kind.upper()}_NORM"]


def _norms(plan: ModelPlan) -> list[Norm]:
    found = [plan.norm]
    for layer in plan.layers:
        found += [
            norm
            for norm in (layer.attention_norm, layer.post_attention_norm, layer.ffn_norm, layer.post_ffn_norm)
            if norm
        ]
        own = (layer.attention.qk_norm, layer.attention.value_norm, layer.input and layer.input.norm)
        found += [Norm(plan.norm.kind, norm.eps) for norm in own if norm]
        if isinstance(layer.ffn, Experts) and layer.ffn.apart is not None:
            found.append(layer.ffn.apart)
    return [Norm(norm.kind, norm.eps) for norm in found]
