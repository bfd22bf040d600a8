"""Repacked weights in a file of the cache directory, which is mapped when the same model is opened again.

    "LLMCHATW" │ length of the index │ SHA-256 of the index │ index (JSON) │ … │ matrices, embedding, as they are kept

The file's name is a hash of all that its content depends on: place, size, time and beginning of the model's files, and
the library's sources and kernels. Its length stands in the index too, so one that was cut short is known.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import json
import os
import threading
from collections.abc import Generator, Sequence
from ctypes import byref, c_int32, c_size_t, c_ubyte, c_void_p
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from llmchat import disk_cache, paths
from llmchat.checkpoints.fingerprint import fingerprint
from llmchat.engine.native.interface import constants
from llmchat.engine.native.library import kernels_name, load_library
from llmchat.errors import UsageError
from llmchat.files import write_all
from llmchat.models.plan import Experts, ModelPlan

ALIGNMENT = 4096
"""Bytes to a multiple of which each matrix begins."""

_MAGIC = b"LLMCHATW"
_VERSION = 1
_MOST_INDEX = 64 * 2**20
_CHUNK = 32 * 2**20
"""Bytes that are written between two looks at whether to go on."""
_FIXED = len(_MAGIC) + 8 + 32
_SLOTS = (
    *("QKV", "OUT", "GATE", "UP", "DOWN", "ROUTER"),
    *("SHARED_GATE", "SHARED_UP", "SHARED_DOWN", "SHARED_SCORE", "INPUT_GATE", "INPUT_OUT"),
)


class KeptMatrix(NamedTuple):
    """Matrices of one slot, one below the other."""

    layer: int
    slot: int
    expert: int
    columns: int
    parts: Sequence[Sequence[int]]
    """Format, rows and beginning in the file of each."""


class KeptIndex(NamedTuple):
    """What lies where in a file."""

    matrices: Sequence[KeptMatrix]
    embedding: Sequence[int]
    """Format, beginning and bytes."""
    file_bytes: int


def place_for(path: Path) -> Path | None:
    """Where the weights of the model of a file are kept, or of several of which it is one; None where they are not."""
    library = load_library()
    if library is None or not (of_model := fingerprint(path)):
        return None
    made_by = f"{_VERSION} {library.llmchat_sources().decode()} {kernels_name()}"
    name = hashlib.sha256(f"{of_model} {made_by}".encode()).hexdigest()[:32]
    with contextlib.suppress(UsageError):
        return paths.weights_dir() / f"{name}.weights"
    return None


def take_over(library: Any, model: int, path: Path) -> bool:
    """Give a model without matrices those of a file, mapped; a file that is damaged or does not fit is removed.

    Args:
        library: The native library.
        model: The model's handle.
        path: The file.

    Returns:
        Whether the model has its matrices and its embedding; if not, all of them are to be set.
    """
    try:
        file = path.open("rb")
    except OSError:
        return False
    with file:
        try:
            index = _read_index(file)
            is_taken = _place(library, model, file.fileno(), index)
        except (OSError, ValueError, KeyError, TypeError, ctypes.ArgumentError):
            is_taken = False
    (disk_cache.note_use if is_taken else disk_cache.throw_away)(path)
    return is_taken


def _place(library: Any, model: int, file: int, index: KeptIndex) -> bool:
    base = library.llmchat_map(model, file, index.file_bytes)
    if not base:
        return False
    for one in index.matrices:
        count, (formats, rows, offsets) = len(one.parts), zip(*one.parts, strict=True)
        arrays = (c_int32 * count)(*formats), (c_size_t * count)(*offsets), (c_int32 * count)(*rows)
        if library.llmchat_place_matrix(model, one.layer, one.slot, one.expert, count, *arrays, one.columns):
            return False
    form, start, size = index.embedding
    return not library.llmchat_set_embedding(model, form, base + start, size)


def _read_index(file: BinaryIO) -> KeptIndex:
    """Raises ValueError, KeyError or TypeError if it is damaged."""
    head = file.read(_FIXED)
    length = int.from_bytes(head[8:16], "little")
    if not head.startswith(_MAGIC) or len(head) < _FIXED or length > _MOST_INDEX:
        raise ValueError("it is no such file")
    text = file.read(length)
    if hashlib.sha256(text).digest() != head[16:]:
        raise ValueError("its index is damaged")
    matrices, embedding, file_bytes = json.loads(text)
    index = KeptIndex([KeptMatrix(*one) for one in matrices], embedding, file_bytes)
    if os.fstat(file.fileno()).st_size != index.file_bytes:
        raise ValueError("it was cut short")
    _, start, size = embedding
    if not 0 <= start <= start + size <= file_bytes:
        raise ValueError("its embedding lies outside")
    return index


def matrices_of(library: Any, model: int, plan: ModelPlan) -> list[Piece]:
    """All matrices of a model, as they lie in its memory."""
    slots = [constants()[name] for name in _SLOTS]
    places = [(-1, constants()["QKV"], 0)]
    for index, layer in enumerate(plan.layers):
        experts = layer.ffn.count if isinstance(layer.ffn, Experts) else 1
        places += [(index, slot, expert) for slot in slots for expert in range(experts)]
    found = (_piece(library, model, *place) for place in places)
    return [piece for piece in found if piece.parts]


def _piece(library: Any, model: int, layer: int, slot: int, expert: int) -> Piece:
    form, rows, columns = c_int32(), c_int32(), c_int32()
    data, size = c_void_p(), c_size_t()
    given = byref(form), byref(rows), byref(columns), byref(data), byref(size)
    parts: list[tuple[int, int, memoryview]] = []
    while not library.llmchat_part(model, layer, slot, expert, len(parts), *given):
        assert data.value is not None
        content = memoryview((c_ubyte * size.value).from_address(data.value)).cast("B")
        parts.append((form.value, rows.value, content))
    return Piece(layer, slot, expert, columns.value, tuple(parts))


class Piece(NamedTuple):
    """Matrices of a slot as they lie in memory."""

    layer: int
    slot: int
    expert: int
    columns: int
    parts: tuple[tuple[int, int, memoryview], ...]
    """Format, rows and bytes of each."""


class Keeper:
    """Writes a model's weights to a file on a thread of its own, until that is done or it is closed.

    Args:
        path: The file.
        pieces: All matrices of the model, whose memory must stay until this is closed.
        embedding: Its format, and its rows as a model's file has them.
    """

    DELAY = 1.0
    """Seconds before it begins, so that a first answer has the machine for itself."""

    def __init__(self, path: Path, pieces: Sequence[Piece], embedding: tuple[int, memoryview]) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._write, args=(path, pieces, embedding), name="keeping weights", daemon=True
        )
        self._thread.start()
        atexit.register(self.close)

    def join(self) -> None:
        """Wait until the file is written, or cannot be."""
        self._thread.join()

    def close(self) -> None:
        """Give up what is not written yet."""
        self._over.set()
        self._thread.join()
        atexit.unregister(self.close)

    def _write(self, path: Path, pieces: Sequence[Piece], embedding: tuple[int, memoryview]) -> None:
        if self._over.wait(self.DELAY):
            return
        with contextlib.suppress(OSError), contextlib.closing(_written(path, pieces, embedding)) as steps:
            for _ in steps:
                if self._over.is_set():
                    return


def _written(path: Path, pieces: Sequence[Piece], embedding: tuple[int, memoryview]) -> Generator[None]:
    """Write a file, with a pause after each chunk: go on, or close this to leave nothing of it.

    Nothing is written where the disk has no room.

    Raises:
        OSError: It cannot be written.
    """
    index, sizes = _index_of(pieces, embedding)
    if not disk_cache.make_room(path.parent, index.file_bytes):
        return
    head = _head(index)
    with disk_cache.writing(path) as file:
        file.write(head)
        unsynced = 0
        for offset, data in sizes:
            file.seek(offset)
            for at in range(0, len(data), _CHUNK):
                part = data[at : at + _CHUNK]
                write_all(file.fileno(), part)
                unsynced += len(part)
                if unsynced >= _CHUNK:
                    # Little by little, so that whoever ends this does not wait for the disk to take all of it.
                    os.fsync(file.fileno())
                    unsynced = 0
                yield
        file.truncate(index.file_bytes)


def _index_of(
    pieces: Sequence[Piece], embedding: tuple[int, memoryview]
) -> tuple[KeptIndex, list[tuple[int, memoryview]]]:
    """What lies where, and what is to be written there."""
    # The index's length depends on the offsets' digits, so there is room for more than it takes.
    at = _aligned(_FIXED + 4096 + sum(128 + 64 * len(piece.parts) for piece in pieces))
    matrices, placed = list[KeptMatrix](), list[tuple[int, memoryview]]()
    for piece in pieces:
        parts = []
        for form, rows, data in piece.parts:
            parts.append((form, rows, at))
            placed.append((at, data))
            at = _aligned(at + len(data))
        matrices.append(KeptMatrix(piece.layer, piece.slot, piece.expert, piece.columns, parts))
    form, data = embedding
    placed.append((at, data))
    return KeptIndex(matrices, (form, at, len(data)), _aligned(at + len(data)) + ALIGNMENT), placed


def _head(index: KeptIndex) -> bytes:
    text = json.dumps(index, separators=(",", ":")).encode()
    return _MAGIC + len(text).to_bytes(8, "little") + hashlib.sha256(text).digest() + text


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT
