"""Makes .pt files that no honest `torch.save` would write, for the tests of their opening."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


class Storage:
    """Stands for the bytes of record `key`, claimed to be `numel` numbers."""

    def __init__(self, key: str, numel: int, kind: type = torch.FloatStorage) -> None:
        self.key = key
        self.numel = numel
        self.kind = kind


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def tensor_claim(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Call:
    """A tensor that describes itself as it likes."""
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, storage, offset, size, stride, False, OrderedDict())


def qtensor_claim(quantiser: tuple[Any, ...]) -> Call:
    """A tensor of 4 integers that is quantised as it likes."""
    rebuild = torch._utils._rebuild_qtensor
    return Call(rebuild, Storage("0", 4, torch.QInt8Storage), 0, (2, 2), (2, 1), quantiser, False, OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Storage):
            return ("storage", obj.kind, obj.key, "cpu", obj.numel)
        return None


def pickled(payload: object) -> bytes:
    """A payload as `torch.save` would describe it."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(payload)
    return buffer.getvalue()


def write_archive(
    path: Path,
    payload: object = None,
    *,
    index: bytes | None = None,
    records: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
    byteorder: bytes = b"little",
) -> Path:
    """Write a zip in the layout of `torch.save`, with 4 float32 zeros as record 0."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled(payload) if index is None else index)
        archive.writestr("model/byteorder", byteorder)
        archive.writestr("model/data/0", bytes(16))
        archive.writestr("model/version", "3\n")
        for name, content in (records or {}).items():
            archive.writestr(name, content)
    return path
