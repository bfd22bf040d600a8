"""How fast memory can be read: what bounds the decoding of one token at a time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from llmchat.engine.native.library import load_library
from llmchat.errors import GenerationError

BUFFER_BYTES = 512 << 20
"""Much more than any cache holds."""

_DEVICE_READS = 8
"""Times that a GPU reads the buffer in one measurement, so that waiting for it does not count."""


class BandwidthProbe:
    """A large buffer, to be read again and again where a model runs."""

    def __init__(self, device: str, threads: int) -> None:
        """Fill the buffer.

        Args:
            device: The model's device, as torch names it.
            threads: How many threads read on a CPU.

        Raises:
            MemoryError: There is no room for it.
            GenerationError: torch does not know the device.
        """
        self._threads = threads
        self._library = load_library()
        self._on_device: Any = None
        if device != "cpu":
            import torch

            try:
                self._on_device = torch.ones(BUFFER_BYTES // 4, device=device)
                self._on_device.sum().item()  # The first time, the device gets ready.
            except torch.OutOfMemoryError as error:
                raise MemoryError from error
            except (RuntimeError, AssertionError) as error:
                raise GenerationError(f"torch cannot measure how fast {device} reads, so bench cannot.") from error
        else:
            # numpy asks for huge pages for an array of this size, as the native step does for weights.
            self._buffer = np.ones(BUFFER_BYTES // 8, dtype=np.uint64)

    def bytes_per_second(self) -> float:
        """Read the buffer, and tell how fast it went."""
        if self._on_device is None and self._library is not None:
            data = self._buffer.ctypes.data
            return float(self._library.llmchat_read_bandwidth(data, BUFFER_BYTES, self._threads))
        began = time.perf_counter()
        if self._on_device is not None:
            sums = [self._on_device.sum() for _ in range(_DEVICE_READS)]
            sums[-1].item()  # Waits until all are done.
            return _DEVICE_READS * BUFFER_BYTES / (time.perf_counter() - began)
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(np.max, np.array_split(self._buffer, self._threads)))
        return BUFFER_BYTES / (time.perf_counter() - began)
