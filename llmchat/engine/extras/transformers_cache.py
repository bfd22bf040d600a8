"""A KV cache of transformers that can go back to where a text parts from another.

Layers that keep every position are cropped. What a recurrent layer knows, or a sliding window has let
go, cannot be had back: of those layers, copies are kept at some lengths, and the cache goes back to one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_MOST_COPIES = 8
_MOST_BYTES = 2**29
"""Of all copies together; the newest is kept whatever its size."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """The layers that cannot be cropped, as they were."""

    length: int
    layers: Mapping[int, Any]


class RewindableCache:
    """What was read of one text, or of several of the same length."""

    def __init__(self, make: Callable[[], Any]) -> None:
        """An empty cache.

        Args:
            make: Gives an empty one of transformers' caches.
        """
        self._make = make
        self.inner: Any = make()
        """What the model reads and writes."""
        self.length = 0
        """How many positions it holds; whoever has had the model write to `inner` says so here."""
        self._copies: deque[_Copy] = deque()

    @property
    def size(self) -> int:
        """Bytes, copies left out."""
        return sum(map(_size, self.inner.layers))

    @property
    def forgets(self) -> bool:
        """Whether it cannot go back to every length, now or once it has read more."""
        return any(map(_forgets, self.inner.layers))

    @property
    def copied_length(self) -> int:
        """The length of the longest copy; 0 if there is none."""
        return self._copies[-1].length if self._copies else 0

    def go_back(self, length: int) -> int:
        """Keep the first `length` positions at most.

        Returns:
            How many were kept.
        """
        if length >= self.length:
            return self.length
        while self._copies and self._copies[-1].length > length:
            self._copies.pop()
        if length and all(map(_can_be_cropped, self.inner.layers)):
            self.inner.crop(length - self.length)
            self.length = length
        elif self._copies:
            self._restore(self._copies[-1])
        else:
            self.clear()
        return self.length

    def clear(self) -> None:
        """Forget everything."""
        self.inner, self.length = self._make(), 0
        self._copies.clear()

    def copy_state(self) -> None:
        """Make it possible to go back to the present length."""
        layers = {at: deepcopy(layer) for at, layer in enumerate(self.inner.layers) if _forgets(layer)}
        if not layers:
            return
        self._copies.append(_Copy(self.length, layers))
        sizes = [sum(map(_size, copy.layers.values())) for copy in self._copies]
        while len(sizes) > _MOST_COPIES or (len(sizes) > 1 and sum(sizes) > _MOST_BYTES):
            self._copies.popleft()
            del sizes[0]

    def branches(self, lanes: Sequence[int]) -> RewindableCache:
        """A cache of its own for several texts, which go on from these of the present ones."""
        taken = RewindableCache(self._make)
        taken.inner, taken.length = deepcopy(self.inner), self.length
        taken.inner.reorder_cache(torch.tensor(lanes))
        return taken

    def _restore(self, copy: _Copy) -> None:
        for at, layer in enumerate(self.inner.layers):
            if at in copy.layers:
                self.inner.layers[at] = deepcopy(copy.layers[at])
            else:
                layer.crop(copy.length - self.length)
        self.length = copy.length


def _forgets(layer: Any) -> bool:
    """Whether a layer cannot be cropped, now or once it has read more."""
    return hasattr(layer, "conv_states") or bool(getattr(layer, "is_sliding", False)) or not layer.is_croppable


def _can_be_cropped(layer: Any) -> bool:
    """Whether a layer has all that it has read."""
    if getattr(layer, "is_sliding", False) and not hasattr(layer, "conv_states"):
        return bool(layer.get_seq_length() < layer.sliding_window)
    return not _forgets(layer)


def _size(layer: Any) -> int:
    return sum(tensor.nbytes for tensor in _tensors(vars(layer)))


def _tensors(values: Mapping[Any, Any]) -> Iterator[Tensor]:
    for value in values.values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from _tensors(value)
