"""The KV cache: keys and values of every position already seen, in one preallocated block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KVCache:
    """Keys and values of all layers for `length` positions of `batch` sequences.

    Memory is taken once, for `capacity` positions, as two tensors of shape
    (n_layers, batch, n_kv_heads, capacity, head_dim). Going back is free: only
    `length` changes.
    """

    def __init__(
        self,
        *,
        n_layers: int,
        n_kv_heads: int,
        head_dim: int,
        capacity: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (n_layers, batch, n_kv_heads, capacity, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        """How many positions fit."""
        return self.keys.shape[3]

    @property
    def position_bytes(self) -> int:
        """Bytes of one position of one sequence."""
        return 2 * self.keys[:, 0, :, 0].nbytes

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions of one layer and return all of that layer's positions so far.

        `length` moves only with `advance`, once every layer has stored its part.

        Args:
            layer: Index of the layer.
            keys: Shape (batch, n_kv_heads, new positions, head_dim).
            values: The same shape.

        Returns:
            Views of keys and values, shape (batch, n_kv_heads, length + new, head_dim).
        """
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, positions: int) -> None:
        """Count new positions, after every layer has appended them."""
        self.length += positions

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        self.length = min(self.length, length)

    def copy_from(self, other: KVCache) -> None:
        """Take over the positions of a smaller cache of the same model; one sequence serves every lane."""
        length = other.length
        self.keys[:, :, :, :length] = other.keys[:, :, :, :length]
        self.values[:, :, :, :length] = other.values[:, :, :, :length]
        self.length = length

    def keep(self, lanes: Sequence[int]) -> None:
        """Keep some of the sequences, by their places, in this order; one that is named twice becomes two."""
        self.keys, self.values = self._of_lanes(self.keys, lanes), self._of_lanes(self.values, lanes)

    def _of_lanes(self, whole: Tensor, lanes: Sequence[int]) -> Tensor:
        # Only what is filled is copied: memory beyond it that nobody touches costs nothing.
        kept = whole.new_empty((whole.shape[0], len(lanes), *whole.shape[2:]))
        for place, lane in enumerate(lanes):
            kept[:, place, :, : self.length] = whole[:, lane, :, : self.length]
        return kept
