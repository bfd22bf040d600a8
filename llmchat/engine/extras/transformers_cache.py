"""A KV cache of transformers that can go back to where a text parts from another.

Layers that keep every position are cropped. What a recurrent layer knows, or a sliding window has let
go, cannot be had back: of those layers, copies are kept at some lengths, and the cache goes back to one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from llmchat.engine.extras.copies import Copies

BROKEN = -1
"""The length of a cache that a model failed to write to."""


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
        self._copies = Copies[Mapping[int, Any]]()
        """Of the layers that cannot be cropped."""

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
        return self._copies.longest

    def go_back(self, length: int) -> int:
        """Keep the first `length` positions at most.

        Returns:
            How many were kept.
        """
        if self.length == BROKEN:
            self.clear()
        if length >= self.length:
            return self.length
        copy = self._copies.back_to(length)
        if length and all(map(_can_be_cropped, self.inner.layers)):
            self.inner.crop(length - self.length)
            self.length = length
        elif copy is not None:
            self._restore(*copy)
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
        if layers:
            self._copies.keep(self.length, layers, sum(map(_size, layers.values())))

    def branches(self, lanes: Sequence[int]) -> RewindableCache:
        """A cache of its own for several texts, which go on from these of the present ones."""
        taken = RewindableCache(self._make)
        taken.inner, taken.length = deepcopy(self.inner), self.length
        taken.inner.reorder_cache(torch.tensor(lanes))
        return taken

    def _restore(self, length: int, copied: Mapping[int, Any]) -> None:
        for at, layer in enumerate(self.inner.layers):
            if at in copied:
                self.inner.layers[at] = deepcopy(copied[at])
            else:
                layer.crop(length - self.length)
        self.length = length


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
