"""What an engine has read of a text, kept in memory or in a file to be gone on from.

A file is never trusted: it is of use only to the same weights, run by the same kernels of the same build, for a text
that begins with the very same tokens, and only if its digest is that of its content. Anything else is as if it were
not there. It holds numbers alone, and nothing of it is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmchat import disk_cache
from llmchat.files import write_all

MAGIC = b"llmchat KV snapshot 1\n"
_HEAD_LIMIT = 1 << 16
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class KVSnapshot:
    """Tokens that were read, and what is needed to go on behind them."""

    token_ids: NDArray[np.int32]
    scales: NDArray[np.float64]
    """How much of the adapter counted at each of them."""
    image: NDArray[np.uint8]
    """Of the KV cache, as the engine lays it out."""

    @property
    def parts(self) -> tuple[memoryview, ...]:
        """All of it as bytes."""
        return tuple(part.view(np.uint8).data for part in (self.token_ids, self.scales, self.image) if part.size)


def common_prefix(first: Sequence[object], second: Sequence[object]) -> int:
    """How many leading items two sequences share."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length


def write_snapshot(path: Path, snapshot: KVSnapshot, kind: str, about: Mapping[str, str]) -> None:
    """Put a snapshot into a file, whole or not at all.

    Args:
        path: The file; its directory must exist.
        snapshot: What is kept.
        kind: What it is of use to, as `KeepsSnapshots.snapshot_kind`.
        about: What else is to be told of it, as `read_about` gives it back.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    told = {"kind": kind, "tokens": len(snapshot.token_ids), "image": snapshot.image.nbytes, "about": dict(about)}
    head = json.dumps(told).encode() + b"\n"
    with disk_cache.writing(path, durable=False) as file:
        whole: list[bytes | memoryview] = [MAGIC, _digest(head, *snapshot.parts), head, *snapshot.parts]
        for part in whole:
            write_all(file.fileno(), part)


def read_snapshot(path: Path, kind: str, token_ids: Sequence[int], least: int) -> KVSnapshot | None:
    """The snapshot in a file, where it is of use.

    Args:
        path: The file, which may not be there.
        kind: What runs here.
        token_ids: The text that is to be read.
        least: So many leading tokens must be the same.

    Returns:
        None where there is none, it is of something else, is damaged, or shares too little.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        if (opened := _open(file)) is None:
            return None
        digest, head, told = opened
        if told.get("kind") != kind or not _fits(path, file.tell(), told):
            return None
        ids = _array(file, np.dtype(np.int32), told["tokens"])
        if ids is None or common_prefix(ids[: len(token_ids)].tolist(), token_ids) < least:
            return None
        scales = _array(file, np.dtype(np.float64), told["tokens"])
        image = _array(file, np.dtype(np.uint8), told["image"])
        if scales is None or image is None:
            return None
        snapshot = KVSnapshot(ids, scales, image)
        return snapshot if _digest(head, *snapshot.parts) == digest else None
    return None


def read_about(path: Path) -> dict[str, str]:
    """What was told of a snapshot; nothing where the file is none. Only its beginning is looked at."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if (opened := _open(file)) is not None and isinstance(about := opened[2].get("about"), dict):
            return {name: value for name, value in about.items() if isinstance(value, str)}
    return {}


def _open(file: BufferedReader) -> tuple[bytes, bytes, dict[str, Any]] | None:
    """The digest, the head as it stands and as values; None where the file begins with something else."""
    if file.read(len(MAGIC)) != MAGIC:
        return None
    digest, head = file.read(_DIGEST_BYTES), file.readline(_HEAD_LIMIT)
    try:
        told = json.loads(head)
    except (ValueError, RecursionError):
        return None
    return (digest, head, told) if isinstance(told, dict) else None


def _fits(path: Path, start: int, told: dict[str, Any]) -> bool:
    """Whether a file is as long as it says, before memory is taken for it."""
    tokens, image = told.get("tokens"), told.get("image")
    if not (isinstance(tokens, int) and isinstance(image, int) and tokens >= 0 and image >= 0):
        return False
    return path.stat().st_size == start + tokens * (4 + 8) + image


def _array(file: BufferedReader, kind: np.dtype[Any], count: int) -> NDArray[Any] | None:
    """Numbers of a file; None where it ends before."""
    numbers = np.empty(count, kind)
    return numbers if not count or file.readinto(numbers.view(np.uint8).data) == numbers.nbytes else None


def _digest(*parts: bytes | memoryview) -> bytes:
    whole = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        whole.update(part)
    return whole.digest()
