"""The KV cache: keys and values of every position already seen, in one preallocated block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KVCache:
    """Keys and values of all layers for `length` positions of `batch` sequences.

    Memory is taken once, for `capacity` positions, as two tensors of shape
    (n_layers, batch, n_kv_heads, capacity, head_dim), and stays where it is. Going
    back is free: only `length` changes.
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
        self._written = capacity
        """From here on everything is 0; before it there may be more than `length` positions, or what memory held."""

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

    def at(self, position: Tensor) -> CacheAtPosition:
        """The cache as a step uses it that may be recorded once and run at any position."""
        return CacheAtPosition(self.keys, self.values, position)

    def advance(self, positions: int) -> None:
        """Count new positions, after every layer has appended them."""
        self.length += positions
        self._written = max(self._written, self.length)

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        self.length = min(self.length, length)

    def clear_rest(self) -> None:
        """Set all beyond `length` to 0, where it may be anything else."""
        if self._written > self.length:
            self.keys[:, :, :, self.length : self._written] = 0
            self.values[:, :, :, self.length : self._written] = 0
            self._written = self.length

    def copy_from(self, other: KVCache, lanes: Sequence[int]) -> None:
        """Take over the positions of another cache of the same model.

        Args:
            other: Its length must fit into this one's capacity.
            lanes: For each sequence, which of the other's it goes on from.
        """
        self.length, self._written = other.length, self.capacity
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            # Only what is filled is copied: memory beyond it that nobody touches costs nothing.
            for place, lane in enumerate(lanes):
                mine[:, place, :, : self.length] = theirs[:, lane, :, : self.length]


class CacheAtPosition:
    """A KV cache seen from a position that the device knows and Python does not.

    Nothing that a step does with it depends on the position but the numbers
    themselves: shapes and addresses are always the same. Attention runs over the
    whole capacity, with a mask. What lies beyond the position must be finite, for
    0 times NaN is NaN.
    """

    def __init__(self, keys: Tensor, values: Tensor, position: Tensor) -> None:
        """A view of a cache's tensors.

        Args:
            keys: Shape (n_layers, batch, n_kv_heads, capacity, head_dim).
            values: The same shape.
            position: int64, shape (1,): where every sequence's next token stands, below the capacity.
        """
        self.position = position
        self._keys, self._values = keys, values
        self._places = torch.arange(keys.shape[3], device=keys.device)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position of one layer and return all of that layer's capacity."""
        self._keys[layer].index_copy_(2, self.position, keys)
        self._values[layer].index_copy_(2, self.position, values)
        return self._keys[layer], self._values[layer]

    def mask(self, window: int = 0) -> Tensor:
        """What is added to the scores, shape (1, capacity): 0 where the position looks, else -inf.

        Args:
            window: How many of the last positions it sees, itself among them; 0 is all.
        """
        hidden = self._places > self.position
        if window:
            hidden = hidden | (self._places <= self.position - window)
        return self._keys.new_zeros(1, len(self._places)).masked_fill_(hidden, -torch.inf)


AnyCache = KVCache | CacheAtPosition
"""What layers append to."""
