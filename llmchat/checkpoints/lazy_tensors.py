"""A checkpoint's tensors, read one by one as a model is built from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from llmchat.checkpoints.checkpoint import Progress, RawTensor

if TYPE_CHECKING:
    from torch import Tensor


class RawTensors(Mapping[str, RawTensor]):
    """Tensors by name, each read from the file when it is asked for and not kept."""

    def __init__(self, readers: Mapping[str, Callable[[], RawTensor]]) -> None:
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
    """Tensors by name, each read from the file when it is asked for and not kept.

    So a model's weights are never in memory twice.
    """

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]], progress: Progress) -> None:
        self._readers = readers
        self._progress = progress
        self._count = 0

    def __getitem__(self, name: str) -> Tensor:
        reader = self._readers[name]
        self._count += 1
        self._progress("reading weights", min(self._count / len(self._readers), 1.0))
        return reader()

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def lazy_tensors(raw: Mapping[str, RawTensor], progress: Progress) -> LazyTensors:
    """The tensors of a file that holds plain floating-point numbers."""
    return LazyTensors({name: partial(_read, raw, name) for name in raw}, progress)


def _read(raw: Mapping[str, RawTensor], name: str) -> Tensor:
    import torch

    tensor = raw[name]
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[tensor.kind]
    return torch.from_numpy(tensor.data).view(dtype)
