"""The KV cache: keys and values of the positions that are still seen, in preallocated blocks, one for each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llmchat.engine.delta_state import DeltaState, DeltaStates
from llmchat.models.plan import Attention, DeltaNet


class LayerCache:
    """Keys and values of one layer, each of shape (batch, n_kv_heads, places, head_dim).

    Position p lies at place p % places: a layer with a window has as many places as it sees,
    and what leaves the window is written over.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values

    @property
    def places(self) -> int:
        """How many positions fit."""
        return self.keys.shape[2]

    def append(self, keys: Tensor, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Store new positions from `start` on and return what the last of them sees, and what others do.

        Of a single position that is in no order; else it is in the order of positions.
        """
        count, end = keys.shape[2], start + keys.shape[2]
        if count == 1:
            at = start % self.places
            self.keys[:, :, at : at + 1], self.values[:, :, at : at + 1] = keys, values
            seen = min(end, self.places)
            return self.keys[:, :, :seen], self.values[:, :, :seen]
        if end <= self.places:
            self.keys[:, :, start:end], self.values[:, :, start:end] = keys, values
            return self.keys[:, :, :end], self.values[:, :, :end]
        places = torch.arange(max(start - self.places + 1, 0), end, device=keys.device) % self.places
        before = places[:-count]
        all_keys = torch.cat((self.keys[:, :, before], keys), dim=2)
        all_values = torch.cat((self.values[:, :, before], values), dim=2)
        kept = places[-self.places :]
        self.keys[:, :, kept], self.values[:, :, kept] = all_keys[:, :, -len(kept) :], all_values[:, :, -len(kept) :]
        return all_keys, all_values


class KVCache:
    """Keys and values of all layers for `length` positions of `batch` sequences.

    Memory is taken once, for `capacity` positions or the layer's window, and stays where it
    is. Going back is free, but behind a full window only to where `mark` was called.
    """

    def __init__(
        self,
        layers: Sequence[Attention],
        deltas: Mapping[int, DeltaNet] | None = None,
        *,
        capacity: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """An empty cache.

        Args:
            layers: Of the model.
            deltas: Layers that have a state in place of keys, by their numbers.
            capacity: Positions that fit.
            batch: Sequences.
            dtype: Of keys and values.
            device: Where they are.
        """
        self.windows = tuple(layer.window for layer in layers)
        self.capacity, self.batch, self.device = capacity, batch, torch.device(device)

        def empty(layer: Attention) -> Tensor:
            places = min(layer.window or capacity, capacity)
            heads = layer.kv_heads if layer.keys_of is None else 0
            return torch.empty(batch, heads, places, layer.head_dim, dtype=dtype, device=device)

        self.layers = [LayerCache(empty(layer), empty(layer)) for layer in layers]
        self.states = DeltaStates(
            {at: DeltaState.empty(delta, batch, dtype, self.device) for at, delta in (deltas or {}).items()}
        )
        """What layers without keys have read."""
        self.length = 0
        self.text_length = 0
        """How long the text will be at least, for positions that depend on it."""
        self._read = 0
        """How many positions were stored behind each other: a full window holds the last of them."""
        self._written = capacity
        """From here on everything is 0; before it there may be more than `length` positions, or what memory held."""
        self._marked: tuple[int, list[tuple[Tensor, Tensor] | None]] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self.layers[0].keys.dtype

    @property
    def held_bytes(self) -> int:
        """Bytes of all memory that was taken, but for what is marked."""
        return sum(2 * layer.keys.nbytes for layer in self.layers)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions of one layer and return those that they see.

        `length` moves only with `advance`, once every layer has stored its part.

        Args:
            layer: Index of the layer.
            keys: Shape (batch, n_kv_heads, new positions, head_dim).
            values: The same shape.

        Returns:
            Keys and values, shape (batch, n_kv_heads, length + new, head_dim) or, of a layer with a window, with at
            most window - 1 positions before the new ones.
        """
        return self.layers[layer].append(keys, values, self.length)

    def at(self, position: Tensor) -> CacheAtPosition:
        """The cache as a step uses it that may be recorded once and run at any position."""
        return CacheAtPosition(self.layers, self.windows, position)

    def advance(self, positions: int) -> None:
        """Count new positions, after every layer has appended them."""
        self.length += positions
        self._read = max(self._read, self.length)
        self._written = max(self._written, self.length)

    def mark(self) -> None:
        """Let `rewind` come back to this length, whatever is appended."""
        if self.states.of_layer:
            self.states.mark(self.length)
        if any(self.windows):
            self._marked = (
                self.length,
                [
                    (layer.keys[:, :, : self._read].clone(), layer.values[:, :, : self._read].clone())
                    if window
                    else None
                    for layer, window in zip(self.layers, self.windows, strict=True)
                ],
            )

    def rewind(self, length: int) -> int:
        """Forget every position from `length` on, and more where windows have let go of what is needed there.

        Returns:
            How many positions are left.
        """
        length = min(length, self.length)
        if self.states.of_layer and length < self.length:
            length = self.states.rewind(length)
        if not self._can_go_on(length):
            length = self._restored(length)
        self.length = length
        if not length:
            self._read = 0
        if self._marked is not None and self._marked[0] > length:
            self._marked = None
        return length

    def clear_rest(self) -> None:
        """Set all beyond `length` to 0, where it may be anything else."""
        if self._written > self.length:
            for layer in self.layers:
                if self._read <= layer.places:
                    layer.keys[:, :, self.length : self._written] = 0
                    layer.values[:, :, self.length : self._written] = 0
            self._written = self.length

    def copy_from(self, other: KVCache, lanes: Sequence[int]) -> None:
        """Take over the positions of another cache of the same model, and what is marked.

        Args:
            other: Its length must fit into this one's capacity.
            lanes: For each sequence, which of the other's it goes on from.
        """
        self.length, self._read, self._written = other.length, other._read, self.capacity
        self.text_length, self._marked = other.text_length, other._marked
        self.states = other.states.of_lanes(lanes)
        for own, source, window in zip(self.layers, other.layers, self.windows, strict=True):
            # Only what is filled is copied: memory beyond it that nobody touches costs nothing.
            filled = min(other._read, source.places, own.places) if window else self.length
            for place, lane in enumerate(lanes):
                own.keys[place, :, :filled] = source.keys[lane, :, :filled]
                own.values[place, :, :filled] = source.values[lane, :, :filled]

    def _can_go_on(self, length: int) -> bool:
        """Whether windows hold all that the position behind `length` others sees."""
        return all(
            not window or max(length + 1 - window, 0) >= self._read - layer.places
            for layer, window in zip(self.layers, self.windows, strict=True)
        )

    def _restored(self, length: int) -> int:
        """Bring back what was marked, if that is not longer; returns how many positions there are then."""
        if self._marked is None or self._marked[0] > length:
            return 0
        length, copies = self._marked
        for layer, copied in zip(self.layers, copies, strict=True):
            if copied is not None:
                filled = copied[0].shape[2]
                layer.keys[:, :, :filled], layer.values[:, :, :filled] = copied
        self._read = length
        return length


class CacheAtPosition:
    """A KV cache seen from a position that the device knows and Python does not.

    Nothing that a step does with it depends on the position but the numbers
    themselves: shapes and addresses are always the same. Attention runs over all
    places, with a mask. What lies beyond the position must be finite, for 0 times
    NaN is NaN.
    """

    def __init__(self, layers: Sequence[LayerCache], windows: Sequence[int], position: Tensor) -> None:
        """A view of a cache's tensors.

        Args:
            layers: The cache's.
            windows: How many positions each sees; 0 is all.
            position: int64, shape (1,): where every sequence's next token stands, below the capacity.
        """
        self.position = position
        self._layers = layers
        self._places = {
            window: torch.arange(layer.places, device=position.device)
            for layer, window in zip(layers, windows, strict=True)
        }

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position of one layer and return all of that layer's places."""
        own = self._layers[layer]
        place = self.position % own.places
        own.keys.index_copy_(2, place, keys)
        own.values.index_copy_(2, place, values)
        return own.keys, own.values

    def mask(self, window: int = 0) -> Tensor:
        """What is added to the scores, shape (1, places): 0 where a position lies that is seen, else -inf.

        Args:
            window: Which layers are meant: those that see so many positions; 0 is all.
        """
        places = self._places[window]
        # What a place holds is the last position that belongs there; before the first there is none.
        hidden = places > self.position
        return self._layers[0].keys.new_zeros(1, len(places)).masked_fill_(hidden, -torch.inf)


AnyCache = KVCache | CacheAtPosition
"""What layers append to."""
