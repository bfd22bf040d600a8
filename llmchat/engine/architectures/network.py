"""The torch module of a plan: the reference, and the way to a GPU.

Submodules are run through their `forward`: with small models a module call's hooks cost as much as its work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmchat.engine.architectures.rope import RotaryPositions, rotate
from llmchat.engine.kv_cache import AnyCache, CacheAtPosition, KVCache
from llmchat.engine.linear import Linear, linear
from llmchat.models import plan as plans
from llmchat.models.plan import CLAMP_ALPHA, CLAMP_LIMIT, Activation, Dense, Experts, ModelPlan, Rope

_PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""Our parameters that join several of a plan's: one large product is faster than three small ones."""

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


class Attention(nn.Module):
    """Causal attention of one layer."""

    def __init__(self, attention: plans.Attention, dim: int) -> None:
        super().__init__()
        self._plan = attention
        self.qkv_proj = Linear(dim, attention.q_dim + 2 * attention.kv_dim, bias=attention.bias)
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
        q, k, v = torch.split(heads, [plan.heads, plan.kv_heads, plan.kv_heads], dim=2)
        if not plan.qk_norm_last:
            q, k = self._normed(q, k)
        if plan.rope is not None:
            cos, sin = place.rope[plan.rope]
            q, k = (rotate(part, cos, sin, plan.rope) for part in (q, k))
        if plan.qk_norm_last:
            q, k = self._normed(q, k)
        beta, length = plan.position_gain
        if beta:
            gain = 1 + beta * torch.log1p(torch.div(place.positions, length, rounding_mode="floor").float())
            q = (q * gain[:, None, None]).to(q.dtype)
        keys, values = k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            keys, values = cache.append(layer, keys, values)
        mask = place.masks[plan.window]
        if mask is None and plan.window and keys.shape[2] > plan.window:
            keys, values = keys[:, :, -plan.window :], values[:, :, -plan.window :]

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
        out: Tensor = self.o_proj.forward(mixed)
        return out

    def _normed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        if self.q_norm is None or self.k_norm is None:
            return q, k
        if self._plan.qk_norm_of != "all":
            return self.q_norm.forward(q), self.k_norm.forward(k)
        return self.q_norm.forward(q.flatten(2)).view_as(q), self.k_norm.forward(k.flatten(2)).view_as(k)

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

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position by itself."""
        plan, flat = self._plan, x.reshape(-1, x.shape[-1])
        shares, chosen = F.softmax(self.router.forward(flat).float(), dim=-1).topk(plan.used, dim=-1)
        if plan.renormalise:
            shares = shares / shares.sum(dim=-1, keepdim=True)
        out = torch.zeros_like(flat)
        for expert in sorted(set(chosen.flatten().tolist())):
            rows, places = (chosen == expert).nonzero(as_tuple=True)
            result = self.experts.of(expert, plan.each.activation, flat[rows])
            out.index_add_(0, rows, result * shares[rows, places, None].to(result.dtype))
        if self.shared is not None:
            shared = self.shared.forward(flat)
            out += shared if self.shared_gate is None else torch.sigmoid(self.shared_gate.forward(flat)) * shared
        return out.view_as(x)


class Layer(nn.Module):
    """One layer of the stream."""

    def __init__(self, layer: plans.Layer, dim: int) -> None:
        super().__init__()
        self._parallel, self._scale = layer.parallel, layer.residual_scale
        self.attention = Attention(layer.attention, dim)
        self.ffn = Mixture(layer.ffn, dim) if isinstance(layer.ffn, Experts) else FeedForward(layer.ffn, dim)
        self.attention_norm = _norm(layer.attention_norm, dim)
        self.post_attention_norm = _norm(layer.post_attention_norm, dim)
        self.ffn_norm = _norm(layer.ffn_norm, dim)
        self.post_ffn_norm = _norm(layer.post_ffn_norm, dim)

    def forward(self, x: Tensor, layer: int, cache: AnyCache | None, place: Place, *, last_only: bool) -> Tensor:
        """The stream after this layer, with `last_only` that of the last position alone."""
        normed = _normed(self.attention_norm, x)
        mixed = _normed(self.post_attention_norm, self.attention.forward(normed, layer, cache, place))
        if last_only:
            x, mixed, normed = x[:, -1:], mixed[:, -1:], normed[:, -1:]
        between = x + mixed * self._scale if self._scale != 1.0 else x + mixed
        if self._parallel:
            source = normed if self.ffn_norm is None else _normed(self.ffn_norm, x)
        else:
            source = _normed(self.ffn_norm, between)
        out = _normed(self.post_ffn_norm, self.ffn.forward(source))
        return between + out * self._scale if self._scale != 1.0 else between + out


def _norm(norm: plans.Norm | None, dim: int) -> Norm | None:
    return None if norm is None else Norm(norm, dim)


def _normed(norm: Norm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm.forward(x)


class Network(nn.Module):
    """A plan's network, for inference: its weights take no gradients.

    Ids must be from 0 to vocab_size - 1. Positions beyond the context are computed
    all the same where they are not learned; the model was not trained for them.
    """

    def __init__(self, plan: ModelPlan) -> None:
        super().__init__()
        self.plan = plan
        self.embedding = _embedding(plan.vocab_size, plan.dim)
        self.positions = _embedding(plan.positions, plan.dim) if plan.positions else None
        self.layers = nn.ModuleList(Layer(layer, plan.dim) for layer in plan.layers)
        self.norm = Norm(plan.norm, plan.dim)
        self.head = None if plan.tied else Linear(plan.dim, plan.vocab_size, bias=plan.head_bias)
        ropes = {layer.attention.rope for layer in plan.layers} - {None}
        self._ropes = {rope: RotaryPositions(rope) for rope in ropes if rope is not None}
        self._windows = {layer.attention.window for layer in plan.layers}

    @classmethod
    def build(
        cls,
        plan: ModelPlan,
        tensors: Mapping[str, Tensor],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Network:
        """A network with these weights, in memory of its own.

        Tensors are taken one after the other, so that what reads them from a file as they are asked for is never in
        memory twice.
        """
        with torch.device("meta"):
            model = cls(plan)
        weights = {}
        for name in model.state_dict():
            parts = [tensors[part] for part in _part_names(name)]
            # Norms are small and are computed in float32 whatever the weights are.
            kept = torch.float32 if "norm." in name or name.endswith("sinks.weight") else dtype
            weights[name] = _joined(parts, device, kept, axis=-1 if name.endswith("bias") else -2)
        model.load_state_dict(weights, assign=True)
        return model.eval().requires_grad_(False)

    def make_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """An empty cache for `capacity` positions of `batch` sequences, beside the weights."""
        weight, attention = self.embedding.weight, self.plan.layers[0].attention
        return KVCache(
            n_layers=len(self.plan.layers),
            n_kv_heads=attention.kv_heads,
            head_dim=attention.head_dim,
            capacity=min(capacity, self.plan.positions) if self.plan.positions else capacity,
            batch=batch,
            dtype=weight.dtype,
            device=weight.device,
        )

    def forward(self, ids: Tensor, cache: KVCache) -> Tensor:
        """Append positions to the cache and give the logits of the last.

        Args:
            ids: Token ids, int64, shape (batch, positions); they follow the cache's.
            cache: Grows by `positions`.

        Returns:
            float32 logits, shape (batch, vocab_size).
        """
        return self._logits(self._hidden(ids, cache, last_only=True))[:, -1]

    def all_logits(self, ids: Tensor, cache: KVCache) -> Tensor:
        """The same for every new position: shape (batch, positions, vocab_size)."""
        return self._logits(self._hidden(ids, cache, last_only=False))

    def window_logits(self, ids: Tensor) -> Tensor:
        """Logits of the last of some ids that stand at positions 0 and up, without a cache.

        Args:
            ids: Token ids, int64, shape (batch, positions).

        Returns:
            float32 logits, shape (batch, vocab_size).
        """
        return self._logits(self._hidden(ids, None, last_only=True))[:, -1]

    def step(self, ids: Tensor, cache: CacheAtPosition) -> Tensor:
        """The logits behind one more token, by work that is the same at every position but for the numbers.

        Args:
            ids: Token ids, int64, shape (batch, 1).
            cache: Takes their keys and values.

        Returns:
            float32 logits, shape (batch, vocab_size).
        """
        position = cache.position
        ropes = {rope: table.at(position) for rope, table in self._ropes.items()}
        masks = {window: cache.mask(window) for window in self._windows}
        x = self._embedded(ids, position)
        return self._logits(self._through(x, cache, Place(ropes, masks, position), last_only=False))[:, -1]

    def _hidden(self, ids: Tensor, cache: KVCache | None, *, last_only: bool) -> Tensor:
        """The stream after the last layer, shape (batch, positions, dim) or (batch, 1, dim)."""
        start = 0 if cache is None else cache.length
        end = start + ids.shape[1]
        places = torch.arange(start, end, device=ids.device)
        x = self._embedded(ids, places)
        capacity = end if cache is None else cache.capacity
        is_long = bool(self.plan.rope_length(end))
        ropes = {
            rope: table.between(start, end, capacity, x.device, is_long=is_long) for rope, table in self._ropes.items()
        }
        masks = {window: _mask(start, end, window, x) for window in self._windows}
        hidden = self._through(x, cache, Place(ropes, masks, places), last_only=last_only)
        if cache is not None:
            cache.advance(end - start)
        return hidden

    def _embedded(self, ids: Tensor, places: Tensor) -> Tensor:
        x = self.embedding.forward(ids)
        if self.plan.embedding_scale != 1.0:
            x = x * torch.tensor(self.plan.embedding_scale, dtype=x.dtype)
        return x if self.positions is None else x + self.positions.forward(places)

    def _through(self, x: Tensor, cache: AnyCache | None, place: Place, *, last_only: bool) -> Tensor:
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer.forward(x, index, cache, place, last_only=last_only and index == last)
        return x

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.embedding if self.head is None else self.head
        logits = linear(self.norm.forward(hidden), head.weight, getattr(head, "bias", None)).float()
        if self.plan.logit_scale != 1.0:
            logits = logits * self.plan.logit_scale
        cap = self.plan.final_softcap
        return torch.tanh(logits / cap) * cap if cap else logits


def _mask(start: int, end: int, window: int, x: Tensor) -> Tensor | None:
    """What is added to the scores, shape (end - start, end): 0 where a position looks, else -inf; None for a step."""
    if end - start == 1:
        return None
    own, places = torch.arange(start, end, device=x.device)[:, None], torch.arange(end, device=x.device)
    hidden = places > own
    if window:
        hidden |= places <= own - window
    return torch.zeros(end - start, end, dtype=x.dtype, device=x.device).masked_fill_(hidden, -math.inf)


def _embedding(count: int, dim: int) -> nn.Embedding:
    # A given weight spares drawing a random one, which on the meta device would load much of torch.
    return nn.Embedding(count, dim, _weight=torch.empty(count, dim))


def _part_names(name: str) -> list[str]:
    """The plan's names of the tensors that one of our parameters joins."""
    for joined, parts in _PARTS.items():
        if joined in name:
            return [name.replace(joined, part) for part in parts]
    return [name]


def _joined(parts: list[Tensor], device: torch.device | str, dtype: torch.dtype, axis: int) -> Tensor:
    """One tensor of all rows, in memory of its own."""
    return torch.cat([part.to(device, dtype) for part in parts], dim=axis if parts[0].dim() > 1 else 0)
