"""The KV cache of one sequence in the native decode step's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmchat.engine.native.interface import constants
from llmchat.engine.native.library import PAGE

if TYPE_CHECKING:
    from llmchat.engine.native.model import NativeModel


class NativeCache:
    """Keys and values of one sequence, in pages: it grows without being copied, and keeps of windows what they need."""

    def __init__(self, model: NativeModel, positions: int = 0) -> None:
        """An empty cache with room for some positions."""
        self._model = model
        self._library = model.library
        self.capacity = 0
        self.handle = self._library.llmchat_cache_new(model.handle)
        if not self.handle:
            raise MemoryError("the KV cache does not fit into memory")
        self.reserve(0, positions)

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.llmchat_cache_free(self.handle)

    @property
    def held_bytes(self) -> int:
        """Bytes of the pages that it holds now."""
        return int(self._library.llmchat_cache_bytes(self.handle))

    def reserve(self, length: int, end: int) -> None:
        """Make room behind the first `length` positions for those up to `end`."""
        if end <= self.capacity:
            return
        if self._library.llmchat_cache_reserve(self.handle, length, end):
            raise MemoryError("the KV cache does not fit into memory")
        self.capacity = -(-end // PAGE) * PAGE

    def rewind(self, length: int) -> int:
        """Go back to the first `length` positions, or to as many of them as it still can; returns how many."""
        self.capacity = int(self._library.llmchat_cache_rewind(self.handle, length))
        return self.capacity

    def mark(self, length: int) -> None:
        """Keep what is needed to go back to the first `length` positions."""
        self._library.llmchat_cache_mark(self.handle, length)

    def image(self, length: int) -> NDArray[np.uint8]:
        """What is needed to go on behind the first `length` positions, which it must hold; its order is the build's."""
        image = np.empty(self._library.llmchat_cache_image_bytes(self.handle, length), np.uint8)
        if self._library.llmchat_cache_write_image(self.handle, length, image.ctypes.data, image.size):
            raise ValueError(f"the KV cache does not hold {length} positions")
        return image

    def take_up(self, image: NDArray[np.uint8], length: int) -> bool:
        """Become what an image was made of, if it is one of `length` positions; this cache must hold nothing yet."""
        data = np.ascontiguousarray(image)
        result = self._library.llmchat_cache_read_image(self.handle, length, data.ctypes.data, data.size)
        if result == constants()["NO_MEMORY"]:
            raise MemoryError("the KV cache does not fit into memory")
        self.capacity = 0 if result else length
        return not result

    def copy(self, length: int) -> NativeCache:
        """A cache of its own with the first `length` positions, which this one must hold."""
        copied = NativeCache(self._model)
        if self._library.llmchat_cache_copy(self.handle, copied.handle, length):
            raise MemoryError("the KV cache does not fit into memory")
        return copied
