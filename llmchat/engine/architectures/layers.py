"""The parts of a network's layer as torch modules: norm, attention, feed-forward and mixture of experts.

Submodules are run through their `forward`: with small models a module call's hooks cost as much as its work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmchat.engine.architectures.delta import DeltaNet
from llmchat.engine.architectures.rope import rotate
from llmchat.engine.kv_cache import AnyCache, KVCache
from llmchat.engine.linear import Linear, linear
from llmchat.models import plan as plans
from llmchat.models.plan import CLAMP_ALPHA, CLAMP_LIMIT, Activation, Dense, Experts, Rope

_ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu2": lambda x: F.relu(x).square(),
}


class Norm(nn.Module):
    """Normalises the last dimensions, in float32."""

    def __init__(self, norm: plans.Norm, *shape: int) -> None:
        super().__init__()
        self._is_rms, self._eps, self._shape = norm.kind == "rms", norm.eps, shape[-1:]
        self.weight = nn.Parameter(torch.ones(shape)) if norm.weight else None
        self.bias = nn.Parameter(torch.zeros(shape)) if norm.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The shape and type stay."""
        values = x.float()
        if self._is_rms:
            values = F.rms_norm(values, self._shape, eps=self._eps)
        else:
            values = F.layer_norm(values, self._shape, eps=self._eps)
        if self.weight is not None:
            values = values * self.weight
        if self.bias is not None:
            values = values + self.bias
        return values.to(x.dtype)


class Place(NamedTuple):
    """What the layers need to know of where new positions stand."""

    rope: Mapping[Rope, tuple[Tensor, Tensor]]
    """Cosines and sines of the new positions."""
    masks: Mapping[int, Tensor | None]
    """By window: what is added to the scores, shape (positions, all that the cache gives); None for nothing."""
    positions: Tensor
    """int64, shape (new positions,)."""
    shared: dict[int, tuple[Tensor, Tensor]]
    """Keys and values by layer, for those that read another's: filled in on the way."""
    inputs: Tensor | None
    """What each layer has of its own embedding, shape (batch, positions, layers, channels)."""


class Attention(nn.Module):
    """Causal attention of one layer."""

    def __init__(self, attention: plans.Attention, dim: int) -> None:
        super().__init__()
        self._plan = attention
        self.qkv_proj = Linear(dim, sum(rows for _, rows in attention.projections()), bias=attention.bias)
        self.o_proj = Linear(attention.q_dim, dim, bias=attention.out_bias)
        norm, of = attention.qk_norm, attention.qk_norm_of
        self.q_norm = self.k_norm = None
        if norm is not None:
            shapes = [
                {
                    "head": (attention.head_dim,),
                    "each": (count, attention.head_dim),
                    "all": (count * attention.head_dim,),
                }[of]
                for count in (attention.heads, attention.kv_heads)
            ]
            self.q_norm, self.k_norm = (Norm(norm, *shape) for shape in shapes)
        if attention.keys_of is not None:
            self.k_norm = None
        self.gate_proj = Linear(dim, attention.q_dim, bias=attention.bias) if attention.gated else None
        self.v_norm = None if attention.value_norm is None else Norm(attention.value_norm, attention.head_dim)
        self.sinks = Vector(attention.heads) if attention.sinks else None

    def forward(self, x: Tensor, layer: int, cache: AnyCache | None, place: Place) -> Tensor:
        """Mix each position with those before it.

        Args:
            x: Normalised hidden states, shape (batch, positions, dim).
            layer: Which layer of the cache is ours.
            cache: Takes the new keys and values; None if nothing comes before or after.
            place: Where the positions stand.

        Returns:
            Shape (batch, positions, dim).
        """
        plan, (batch, positions, _) = self._plan, x.shape
        qkv = self.qkv_proj.forward(x)
        if plan.clip:
            qkv = qkv.clamp(-plan.clip, plan.clip)
        heads = qkv.view(batch, positions, -1, plan.head_dim)
        q = self._placed(heads[:, :, : plan.heads], self.q_norm, place)
        beta, length = plan.position_gain
        if beta:
            gain = 1 + beta * torch.log1p(torch.div(place.positions, length, rounding_mode="floor").float())
            q = (q * gain[:, None, None]).to(q.dtype)
        if plan.keys_of is None:
            place.shared[layer] = self._stored(heads[:, :, plan.heads :], layer, cache, place)
        keys, values = place.shared[layer if plan.keys_of is None else plan.keys_of]
        mask = place.masks[plan.window]

        # The query heads that share keys stand as more positions, so that keys are never copied.
        grouped = q.transpose(1, 2).reshape(batch, plan.kv_heads, -1, plan.head_dim)
        group = plan.heads // plan.kv_heads
        if mask is not None and positions > 1 and group > 1:
            mask = mask.repeat(group, 1)
        if plan.softcap or self.sinks is not None:
            mixed = self._mixed(grouped, keys, values, mask)
        else:
            mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=plan.scale)
        mixed = mixed.view(batch, -1, positions, plan.head_dim).transpose(1, 2).reshape(batch, positions, -1)
        if self.gate_proj is not None:
            mixed = mixed * torch.sigmoid(self.gate_proj.forward(x))
        out: Tensor = self.o_proj.forward(mixed)
        return out

    def _stored(self, heads: Tensor, layer: int, cache: AnyCache | None, place: Place) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions that are seen, given the heads of the new ones."""
        plan = self._plan
        k, v = heads[:, :, : plan.kv_heads], heads[:, :, -plan.kv_heads :]
        if self.v_norm is not None:
            v = self.v_norm.forward(v)
        keys, values = self._placed(k, self.k_norm, place).transpose(1, 2), v.transpose(1, 2)
        return (keys, values) if cache is None else cache.append(layer, keys, values)

    def _placed(self, heads: Tensor, norm: Norm | None, place: Place) -> Tensor:
        """Queries or keys, normalised and turned."""
        plan = self._plan
        if not plan.qk_norm_last:
            heads = self._normed(heads, norm)
        if plan.rope is not None:
            heads = rotate(heads, *place.rope[plan.rope], plan.rope)
        return self._normed(heads, norm) if plan.qk_norm_last else heads

    def _normed(self, heads: Tensor, norm: Norm | None) -> Tensor:
        if norm is None:
            return heads
        if self._plan.qk_norm_of != "all":
            return norm.forward(heads)
        return norm.forward(heads.flatten(2)).view_as(heads)

    def _mixed(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attention with what torch's own has not: capped scores, and sinks."""
        plan = self._plan
        scores = q @ keys.transpose(2, 3) * plan.scale
        if plan.softcap:
            scores = torch.tanh(scores / plan.softcap) * plan.softcap
        if mask is not None:
            scores = scores + mask
        if self.sinks is None:
            return F.softmax(scores.float(), dim=-1).to(q.dtype) @ values
        # Rows are (head of the group, position) of one head of keys.
        repeats = q.shape[2] * plan.kv_heads // plan.heads
        sinks = self.sinks.weight.view(1, plan.kv_heads, -1, 1).repeat_interleave(repeats, dim=2)
        scores = torch.cat((scores, sinks.expand(len(scores), -1, -1, 1).to(scores.dtype)), dim=-1)
        return F.softmax(scores.float(), dim=-1)[..., :-1].to(q.dtype) @ values


class Vector(nn.Module):
    """Some numbers."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count))


class FeedForward(nn.Module):
    """down(act(gate(x)) * up(x)), or down(act(up(x)))."""

    def __init__(self, dense: Dense, dim: int) -> None:
        super().__init__()
        self._plan = dense
        if dense.gated:
            self.gate_up_proj = Linear(dim, 2 * dense.dim, bias=dense.bias)
        else:
            self.up_proj = Linear(dim, dense.dim, bias=dense.bias)
        self.down_proj = Linear(dense.dim, dim, bias=dense.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position by itself."""
        if self._plan.gated:
            hidden = _gated(self._plan.activation, *self.gate_up_proj.forward(x).chunk(2, dim=-1))
        else:
            hidden = _ACTIVATIONS[self._plan.activation](self.up_proj.forward(x))
        out: Tensor = self.down_proj.forward(hidden)
        return out


def _gated(activation: Activation, gate: Tensor, up: Tensor) -> Tensor:
    if activation == "clamped_swish":
        gate, up = gate.clamp(max=CLAMP_LIMIT), up.clamp(-CLAMP_LIMIT, CLAMP_LIMIT)
        return (up + 1) * gate * torch.sigmoid(CLAMP_ALPHA * gate)
    return _ACTIVATIONS[activation](gate).mul_(up)


class Stack(nn.Module):
    """A matrix for each expert."""

    def __init__(self, count: int, rows: int, cols: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, rows, cols))
        self.bias = nn.Parameter(torch.empty(count, rows)) if bias else None

    def of(self, expert: int, x: Tensor) -> Tensor:
        """One expert's product."""
        return linear(x, self.weight[expert], None if self.bias is None else self.bias[expert])


class ExpertStacks(nn.Module):
    """The matrices of all experts."""

    def __init__(self, mixture: Experts, dim: int) -> None:
        super().__init__()
        each = mixture.each
        self.gate_proj = Stack(mixture.count, each.dim, dim, bias=each.bias) if each.gated else None
        self.up_proj = Stack(mixture.count, each.dim, dim, bias=each.bias)
        self.down_proj = Stack(mixture.count, dim, each.dim, bias=each.bias)

    def of(self, expert: int, activation: Activation, x: Tensor) -> Tensor:
        """One expert's result for some positions, shape (positions, dim)."""
        up = self.up_proj.of(expert, x)
        if self.gate_proj is None:
            return self.down_proj.of(expert, _ACTIVATIONS[activation](up))
        return self.down_proj.of(expert, _gated(activation, self.gate_proj.of(expert, x), up))


class Mixture(nn.Module):
    """A weighted sum of the experts that the router chooses for each position."""

    def __init__(self, mixture: Experts, dim: int) -> None:
        super().__init__()
        self._plan = mixture
        self.router = Linear(dim, mixture.count, bias=mixture.router_bias)
        self.experts = ExpertStacks(mixture, dim)
        self.shared = None if mixture.shared is None else FeedForward(mixture.shared, dim)
        self.shared_gate = Linear(dim, 1, bias=False) if mixture.shared_gate else None
        self.router_norm = _norm(mixture.apart, dim)
        self.experts_norm = _norm(mixture.apart, dim)
        self.post_experts_norm = _norm(mixture.apart, dim)
        self.post_shared_norm = _norm(mixture.apart, dim)
        self.expert_scales = None if mixture.apart is None else Vector(mixture.count)

    def forward(self, x: Tensor, stream: Tensor) -> Tensor:
        """Transform each position by itself, given it through the layer's norm and as the stream has it."""
        plan, flat = self._plan, x.reshape(-1, x.shape[-1])
        bare = flat if plan.apart is None else stream.reshape(-1, x.shape[-1])
        chosen, shares = self._routed(_normed(self.router_norm, bare))
        given = _normed(self.experts_norm, bare)
        out = torch.zeros_like(flat)
        for expert in sorted(set(chosen.flatten().tolist())):
            rows, places = (chosen == expert).nonzero(as_tuple=True)
            result = self.experts.of(expert, plan.each.activation, given[rows])
            out.index_add_(0, rows, result * shares[rows, places, None].to(result.dtype))
        out = _normed(self.post_experts_norm, out)
        if self.shared is not None:
            shared = _normed(self.post_shared_norm, self.shared.forward(flat))
            out += shared if self.shared_gate is None else torch.sigmoid(self.shared_gate.forward(flat)) * shared
        return out.view_as(x)

    def _routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The experts that each position uses, and their weights, both of shape (positions, used)."""
        plan, scores = self._plan, self.router.forward(x).float()
        if plan.apart is not None:
            scores = scores * x.shape[-1] ** -0.5
        shares, chosen = F.softmax(scores, dim=-1).topk(plan.used, dim=-1)
        if plan.renormalise:
            shares = shares / shares.sum(dim=-1, keepdim=True)
        return chosen, shares if self.expert_scales is None else shares * self.expert_scales.weight[chosen]


class LayerInput(nn.Module):
    """What a layer adds to the stream of its own embedding."""

    def __init__(self, own: plans.LayerInput, dim: int) -> None:
        super().__init__()
        self._activation = own.activation
        self.gate_proj = Linear(dim, own.dim, bias=False)
        self.out_proj = Linear(own.dim, dim, bias=False)
        self.norm = Norm(own.norm, dim)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """What is added, shape (batch, positions, dim).

        Args:
            x: The stream.
            embedded: Shape (batch, positions, channels of the layer's embedding).
        """
        return self.norm.forward(self.out_proj.forward(_gated(self._activation, self.gate_proj.forward(x), embedded)))


class Layer(nn.Module):
    """One layer of the stream."""

    def __init__(self, layer: plans.Layer, dim: int) -> None:
        super().__init__()
        self._parallel, self._scale = layer.parallel, layer.residual_scale
        self.attention = Attention(layer.attention, dim) if layer.delta is None else None
        self.delta = None if layer.delta is None else DeltaNet(layer.delta, dim)
        self.ffn = Mixture(layer.ffn, dim) if isinstance(layer.ffn, Experts) else FeedForward(layer.ffn, dim)
        self.attention_norm = _norm(layer.attention_norm, dim)
        self.post_attention_norm = _norm(layer.post_attention_norm, dim)
        self.ffn_norm = _norm(layer.ffn_norm, dim)
        self.post_ffn_norm = _norm(layer.post_ffn_norm, dim)
        self.input = None if layer.input is None else LayerInput(layer.input, dim)
        self.scale = Vector(1) if layer.scaled else None

    def forward(self, x: Tensor, layer: int, cache: AnyCache | None, place: Place, *, last_only: bool) -> Tensor:
        """The stream after this layer, with `last_only` that of the last position alone."""
        normed = _normed(self.attention_norm, x)
        mixed = _normed(self.post_attention_norm, self._mixed(normed, layer, cache, place))
        if last_only:
            x, mixed, normed = x[:, -1:], mixed[:, -1:], normed[:, -1:]
        between = x + mixed * self._scale if self._scale != 1.0 else x + mixed
        if self._parallel:
            source = normed if self.ffn_norm is None else _normed(self.ffn_norm, x)
        else:
            source = _normed(self.ffn_norm, between)
        mixed = self.ffn.forward(source, between) if isinstance(self.ffn, Mixture) else self.ffn.forward(source)
        out = _normed(self.post_ffn_norm, mixed)
        behind = between + out * self._scale if self._scale != 1.0 else between + out
        if self.input is not None and place.inputs is not None:
            behind = behind + self.input.forward(behind, place.inputs[:, -behind.shape[1] :, layer])
        return behind if self.scale is None else behind * self.scale.weight

    def _mixed(self, x: Tensor, layer: int, cache: AnyCache | None, place: Place) -> Tensor:
        if self.delta is not None:
            return self.delta.forward(x, cache.states.of_layer[layer] if isinstance(cache, KVCache) else None)
        assert self.attention is not None
        return self.attention.forward(x, layer, cache, place)


def _norm(norm: plans.Norm | None, dim: int) -> Norm | None:
    return None if norm is None else Norm(norm, dim)


def _normed(norm: Norm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm.forward(x)
