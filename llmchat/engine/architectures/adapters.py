"""An adapter beside a network's weights: a pair of thin matrices for each product that it adds to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import Adapter, LowRank, RawTensor
from llmchat.engine import linear

if TYPE_CHECKING:
    from llmchat.engine.architectures.network import Network

JOINED: Mapping[str, Sequence[str]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
"""Our parameters that join several of a plan's: one large product is faster than three small ones."""


def attach(model: Network, adapter: Adapter, scale: Tensor) -> None:
    """Let a network add an adapter's products, each times a number that can be changed later."""
    shapes = model.plan.tensors()
    found: dict[str, list[tuple[int, LowRank]]] = {}
    for name, pair in adapter.added.items():
        parent, _, part = name.removesuffix(".weight").rpartition(".")
        target, first_row = part, 0
        for joined, parts in JOINED.items():
            if part in parts and hasattr(model.get_submodule(parent), joined):
                before = parts[: parts.index(part)]
                target, first_row = joined, sum(shapes[f"{parent}.{other}.weight"][0] for other in before)
        found.setdefault(f"{parent}.{target}" if parent else target, []).append((first_row, pair))
    for place, pairs in found.items():
        if place == "head":
            model.head_low_rank = _low_rank(pairs, model.plan.vocab_size, scale)
            continue
        module = model.get_submodule(place)
        assert isinstance(module, linear.Linear)
        module.low_rank = _low_rank(pairs, module.out_features, scale)


def _low_rank(pairs: Sequence[tuple[int, LowRank]], rows: int, scale: Tensor) -> linear.LowRank:
    """One pair for all rows of a matrix, beside the scale."""
    down = torch.cat([_floats(pair.down) for _, pair in pairs])
    up, first = torch.zeros(rows, len(down)), 0
    for first_row, pair in pairs:
        up[first_row : first_row + pair.up.shape[0], first : first + pair.rank] = _floats(pair.up) * pair.factor
        first += pair.rank
    return linear.LowRank(down.to(scale.device, scale.dtype), up.to(scale.device, scale.dtype), scale)


def _floats(tensor: RawTensor) -> Tensor:
    values = np.ascontiguousarray(dequantise(tensor.kind, tensor.data), np.float32).reshape(tensor.shape)
    return torch.from_numpy(values)
