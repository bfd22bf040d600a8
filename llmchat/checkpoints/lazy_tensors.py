"""A checkpoint's tensors, read one by one as a model is built from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import Progress, RawTensor

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_ROWS = 4096
"""Rows that are dequantised at a time."""


class RawTensors(Mapping[str, RawTensor]):
    """Tensors by name, each read from the file when it is asked for and not kept."""

    def __init__(self, readers: Mapping[str, Callable[[], RawTensor]], kinds: Mapping[str, str]) -> None:
        """Tensors that are not read yet.

        Args:
            readers: What reads each.
            kinds: The format of each.
        """
        self.kinds = kinds
        self._readers = readers

    def __getitem__(self, name: str) -> RawTensor:
        return self._readers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


class LazyTensors(Mapping[str, "Tensor"]):
    """The same tensors for torch: numbers as they are, quantised ones as float32.

    So a model's weights are never in memory twice.
    """

    def __init__(self, raw: Mapping[str, RawTensor], progress: Progress) -> None:
        self._raw = raw
        self._progress = progress
        self._count = 0

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._raw[name]
        self._count += 1
        self._progress("reading weights", min(self._count / len(self._raw), 1.0))
        return _for_torch(tensor)

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def _for_torch(tensor: RawTensor) -> Tensor:
    import torch

    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}.get(tensor.kind)
    if dtype is not None:
        return torch.from_numpy(np.ascontiguousarray(rows)).view(dtype).view(tensor.shape)
    values = torch.empty(len(rows), tensor.shape[-1])
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        values.numpy()[part] = dequantise(tensor.kind, rows[part])
    return values.view(tensor.shape)
