"""What gated delta nets have read: states of fixed size, kept at some lengths because no token can be taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llmchat.models.plan import DeltaNet

_MOST_SNAPSHOTS = 4
"""Borders of turns: to regenerate a reply, to branch or to edit behind one of them reads nothing before it again."""


class DeltaState:
    """What the delta net of one layer has read of some sequences."""

    def __init__(self, last: Tensor, memory: Tensor) -> None:
        self.last = last
        """What the convolution still needs of the positions before, shape (batch, channels, kernel - 1)."""
        self.memory = memory
        """The state of each head, float32, shape (batch, value heads, key channels, value channels)."""

    @classmethod
    def empty(cls, delta: DeltaNet, batch: int, dtype: torch.dtype, device: torch.device) -> DeltaState:
        """Of sequences that have read nothing."""
        return cls(
            torch.zeros(batch, delta.channels, delta.kernel - 1, dtype=dtype, device=device),
            torch.zeros(batch, delta.value_heads, delta.key_dim, delta.value_dim, device=device),
        )

    def become(self, other: DeltaState | None) -> None:
        """Take over another's numbers; None has read nothing."""
        if other is None:
            self.last.zero_()
            self.memory.zero_()
        else:
            self.last.copy_(other.last)
            self.memory.copy_(other.memory)

    def of_lanes(self, lanes: Sequence[int]) -> DeltaState:
        """That of some of the sequences, in memory of its own."""
        return DeltaState(self.last[list(lanes)], self.memory[list(lanes)])


class DeltaStates:
    """Those of all layers that have one, and snapshots of them."""

    def __init__(self, of_layer: Mapping[int, DeltaState]) -> None:
        """States of these layers, by their numbers; there may be none."""
        self.of_layer = of_layer
        self._snapshots: dict[int, Mapping[int, DeltaState]] = {}

    def mark(self, length: int) -> None:
        """Keep the present states, of so many positions, and let go of the oldest that are kept."""
        every = range(len(next(iter(self.of_layer.values())).last)) if self.of_layer else ()
        self._snapshots[length] = {at: state.of_lanes(every) for at, state in self.of_layer.items()}
        while len(self._snapshots) > _MOST_SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]

    def rewind(self, length: int) -> int:
        """Go back to the longest kept length that is no more than this; returns which: 0 is the beginning."""
        self._snapshots = {kept: states for kept, states in self._snapshots.items() if kept <= length}
        length = max(self._snapshots, default=0)
        for at, state in self.of_layer.items():
            state.become(self._snapshots[length][at] if length else None)
        return length

    def of_lanes(self, lanes: Sequence[int]) -> DeltaStates:
        """Those of some of the sequences; what is kept stays with them."""
        own = DeltaStates({at: state.of_lanes(lanes) for at, state in self.of_layer.items()})
        own._snapshots = dict(self._snapshots)
        return own
