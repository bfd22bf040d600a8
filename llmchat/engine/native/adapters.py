"""An adapter as the native library takes it: pairs of thin matrices at the slots of the model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import Adapter, LowRank, RawTensor
from llmchat.engine.native.library import BLOCK_ROWS
from llmchat.models.plan import ModelPlan

_SLOTS: Mapping[str, str] = {
    **{f"attention.{part}_proj": "QKV" for part in "qkv"},
    "attention.o_proj": "OUT",
    **{f"ffn.{part}_proj": part.upper() for part in ("gate", "up", "down")},
    **{f"ffn.shared.{part}_proj": f"SHARED_{part.upper()}" for part in ("gate", "up", "down")},
    "ffn.router": "ROUTER",
    "ffn.shared_gate": "SHARED_SCORE",
    "input.gate_proj": "INPUT_GATE",
    "input.out_proj": "INPUT_OUT",
}


_GLOBAL_SLOTS: Mapping[str, str] = {"head.weight": "QKV", "inputs.projection.weight": "INPUT_GATE"}


class PlacedPair(NamedTuple):
    """A pair, and the rows that it is added to."""

    layer: int
    """-1 for the output layer."""
    slot: str
    first_row: int
    pair: LowRank


def placed_pairs(plan: ModelPlan, adapter: Adapter) -> Iterator[PlacedPair]:
    """An adapter's pairs by the library's slots."""
    queries: dict[int, list[PlacedPair]] = {}
    for name, pair in adapter.added.items():
        if name in _GLOBAL_SLOTS:
            yield PlacedPair(-1, _GLOBAL_SLOTS[name], 0, pair)
            continue
        _, index, part = name.removesuffix(".weight").split(".", 2)
        placed = PlacedPair(int(index), _SLOTS[part], _first_row(plan, int(index), part), pair)
        if placed.slot == "QKV":
            queries.setdefault(placed.layer, []).append(placed)
        else:
            yield placed
    for layer, found in queries.items():
        attention = plan.layers[layer].attention
        rows = sum(rows for _, rows in attention.projections())
        # Where one part of the rows ends within a block, the library takes all of them at once.
        are_whole = attention.q_dim % BLOCK_ROWS == 0 and attention.kv_dim % BLOCK_ROWS == 0
        yield from found if are_whole else [PlacedPair(layer, "QKV", 0, _joined(found, rows))]


def _first_row(plan: ModelPlan, layer: int, part: str) -> int:
    attention = plan.layers[layer].attention
    starts = {"k_proj": attention.q_dim, "v_proj": attention.q_dim + attention.kv_dim}
    return starts.get(part.rpartition(".")[2], 0)


def _joined(found: list[PlacedPair], rows: int) -> LowRank:
    """Several pairs as one for all rows."""
    down = np.concatenate([_floats(placed.pair.down) for placed in found])
    up, first = np.zeros((rows, len(down)), np.float32), 0
    for placed in found:
        own = _floats(placed.pair.up) * np.float32(placed.pair.factor)
        up[placed.first_row : placed.first_row + len(own), first : first + placed.pair.rank] = own
        first += placed.pair.rank
    in_floats = [RawTensor("F32", half.shape, half.view(np.uint8)) for half in (down, up)]
    return LowRank(in_floats[0], in_floats[1], factor=1.0)


def _floats(tensor: RawTensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.ascontiguousarray(dequantise(tensor.kind, tensor.data), np.float32).reshape(tensor.shape)
