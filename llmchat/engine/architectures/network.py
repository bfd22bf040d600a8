"""The torch module of a plan: the reference, and the way to a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from llmchat.checkpoints.checkpoint import Adapter
from llmchat.engine.architectures.adapters import JOINED, attach
from llmchat.engine.architectures.layers import Layer, Norm, Place
from llmchat.engine.architectures.rope import RotaryPositions
from llmchat.engine.kv_cache import AnyCache, CacheAtPosition, KVCache
from llmchat.engine.linear import Linear, LowRank, linear
from llmchat.models.plan import LayerInput, ModelPlan, is_kept_whole


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
        own = plan.layer_input
        self.inputs = None if own is None else LayerInputs(own, plan)
        self.layers = nn.ModuleList(Layer(layer, plan.dim) for layer in plan.layers)
        self.norm = Norm(plan.norm, plan.dim)
        self.head = None if plan.tied else Linear(plan.dim, plan.vocab_size, bias=plan.head_bias)
        self.head_low_rank: LowRank | None = None
        """What an adapter adds to the output layer, which may be the embedding."""
        self.lora_scale = torch.ones(())
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
        adapter: Adapter | None = None,
    ) -> Network:
        """A network with these weights, in memory of its own, and with an adapter beside them.

        Tensors are taken one after the other, so that what reads them from a file as they are asked for is never in
        memory twice.
        """
        with torch.device("meta"):
            model = cls(plan)
        weights, planned = {}, plan.tensors()
        for name in model.state_dict():
            parts = [tensors[part] for part in _part_names(name) if part in planned]
            kept = torch.float32 if is_kept_whole(name) else dtype
            weights[name] = _joined(parts, device, kept, axis=-1 if name.endswith("bias") else -2)
        model.load_state_dict(weights, assign=True)
        if adapter is not None:
            model.lora_scale = torch.ones((), dtype=dtype, device=device)
            attach(model, adapter, model.lora_scale)
        return model.eval().requires_grad_(False)

    def set_lora_scale(self, scale: float) -> None:
        """Choose how much of the adapter counts; there must be one."""
        self.lora_scale.fill_(scale)

    def make_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """An empty cache for `capacity` positions of `batch` sequences, beside the weights."""
        weight = self.embedding.weight
        return KVCache(
            [layer.attention for layer in self.plan.layers],
            {at: layer.delta for at, layer in enumerate(self.plan.layers) if layer.delta is not None},
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
        place = Place(ropes, masks, position, {}, self._inputs(ids, x))
        return self._logits(self._through(x, cache, place, last_only=False))[:, -1]

    def _hidden(self, ids: Tensor, cache: KVCache | None, *, last_only: bool) -> Tensor:
        """The stream after the last layer, shape (batch, positions, dim) or (batch, 1, dim)."""
        start = 0 if cache is None else cache.length
        end = start + ids.shape[1]
        places = torch.arange(start, end, device=ids.device)
        x = self._embedded(ids, places)
        capacity = end if cache is None else cache.capacity
        is_long = self.plan.is_long(end if cache is None else max(end, cache.text_length))
        ropes = {
            rope: table.between(start, end, capacity, x.device, is_long=is_long) for rope, table in self._ropes.items()
        }
        masks = {window: _mask(start, end, window, x) for window in self._windows}
        place = Place(ropes, masks, places, {}, self._inputs(ids, x))
        hidden = self._through(x, cache, place, last_only=last_only)
        if cache is not None:
            cache.advance(end - start)
        return hidden

    def _embedded(self, ids: Tensor, places: Tensor) -> Tensor:
        x = self.embedding.forward(ids)
        if self.plan.embedding_scale != 1.0:
            x = x * torch.tensor(self.plan.embedding_scale, dtype=x.dtype)
        return x if self.positions is None else x + self.positions.forward(places)

    def _inputs(self, ids: Tensor, x: Tensor) -> Tensor | None:
        return None if self.inputs is None else self.inputs.forward(ids, x)

    def _through(self, x: Tensor, cache: AnyCache | None, place: Place, *, last_only: bool) -> Tensor:
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer.forward(x, index, cache, place, last_only=last_only and index == last)
        return x

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.embedding if self.head is None else self.head
        normed = self.norm.forward(hidden)
        logits = linear(normed, head.weight, getattr(head, "bias", None)).float()
        if self.head_low_rank is not None:
            logits = logits + self.head_low_rank.added(normed).float()
        if self.plan.logit_scale != 1.0:
            logits = logits * self.plan.logit_scale
        cap = self.plan.final_softcap
        return torch.tanh(logits / cap) * cap if cap else logits


class LayerInputs(nn.Module):
    """What all layers have of their own embeddings."""

    def __init__(self, own: LayerInput, plan: ModelPlan) -> None:
        super().__init__()
        self._shape = len(plan.layers), own.dim
        self.embedding = _embedding(plan.vocab_size, math.prod(self._shape))
        self.projection = Linear(plan.dim, math.prod(self._shape), bias=False)
        self.norm = Norm(own.norm, own.dim)

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        """Shape (batch, positions, layers, channels), given the ids and the stream that they begin with."""
        (layers, dim), rows = self._shape, self.embedding.forward(ids)
        projected = self.projection.forward(x) * x.shape[-1] ** -0.5
        normed = self.norm.forward(projected.view(*ids.shape, layers, dim))
        joined: Tensor = (normed + rows.view(*ids.shape, layers, dim) * math.sqrt(dim)) * math.sqrt(0.5)
        return joined


def _mask(start: int, end: int, window: int, x: Tensor) -> Tensor | None:
    """What is added to the scores: 0 where a position looks, else -inf; None for a step.

    Its shape is (end - start, positions that the cache gives): all, or from the first that is seen.
    """
    if end - start == 1:
        return None
    first = max(start + 1 - window, 0) if window else 0
    own, places = torch.arange(start, end, device=x.device)[:, None], torch.arange(first, end, device=x.device)
    hidden = places > own
    if window:
        hidden |= places <= own - window
    return torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill_(hidden, -math.inf)


def _embedding(count: int, dim: int) -> nn.Embedding:
    # A given weight spares drawing a random one, which on the meta device would load much of torch.
    return nn.Embedding(count, dim, _weight=torch.empty(count, dim))


def _part_names(name: str) -> list[str]:
    """The plan's names of the tensors that one of our parameters joins."""
    for joined, parts in JOINED.items():
        if joined in name:
            return [name.replace(joined, part) for part in parts]
    return [name]


def _joined(parts: list[Tensor], device: torch.device | str, dtype: torch.dtype, axis: int) -> Tensor:
    """One tensor of all rows, in memory of its own."""
    return torch.cat([part.to(device, dtype) for part in parts], dim=axis if parts[0].dim() > 1 else 0)
