"""Finding and calling the compiled decode step. No model is known here."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from llmchat.engine.native.interface import declare
from llmchat.engine.native.sources import sources_hash

KERNELS_VARIABLE = "LLMCHAT_KERNELS"
"""Environment variable that names the kernels to use (avx512, avx2, neon, portable), or "none" for torch."""

WIDTH = 96
"""Positions that one call takes at most."""

PAGE = 128
"""Positions of a page of a KV cache."""

BLOCK_ROWS = 16
"""Rows of a block: matrices and logits are kept in whole blocks."""

MOST_THREADS = 256
"""As many as a model takes."""


@cache
def load_library() -> ctypes.CDLL | None:
    """The compiled library; None where it was not built, cannot be loaded, or is of another version."""
    for path in _library_paths():
        try:
            library = declare(ctypes.CDLL(str(path)))
            if _is_of_these_sources(library):
                return library
        except (OSError, AttributeError):
            continue
    return None


def _is_of_these_sources(library: ctypes.CDLL) -> bool:
    """Whether it was built from the sources that lie beside it; where none do, it came together with this file."""
    wanted = sources_hash(Path(__file__).parent)
    return not wanted or library.llmchat_sources() == wanted.encode()


def _library_paths() -> list[Path]:
    paths = sorted(Path(__file__).parent.glob("_decode*"))
    return [path for path in paths if path.suffix in (".so", ".dylib", ".pyd")]


def kernels_name() -> str:
    """The kernels that would be used on this machine; "" if there are none or torch was asked for."""
    library, wanted = load_library(), os.environ.get(KERNELS_VARIABLE, "")
    if library is None or wanted == "none":
        return ""
    return str(library.llmchat_kernels(wanted.encode()).decode())


def why_not() -> str:
    """Why the native step is not used, in a few words; "" if it is."""
    if load_library() is None and _library_paths():
        return "the native step is of another version: install llmchat again"
    if load_library() is None:
        return "the native step was not built: there was no C++ compiler when llmchat was installed"
    if kernels_name():
        return ""
    wanted = os.environ.get(KERNELS_VARIABLE, "")
    if wanted == "none":
        return f"{KERNELS_VARIABLE}=none asks for torch"
    return f"this machine cannot run {KERNELS_VARIABLE}={wanted}"


class PreparedMemory:
    """Memory that the system gets ready while a file is read: to zero its pages takes about as long."""

    def __init__(self, size: int) -> None:
        """Begin.

        Args:
            size: Bytes.
        """
        self._library = load_library()
        assert self._library is not None
        self._handle: int | None = self._library.llmchat_memory_new(size) if size else None

    def hand_over(self) -> int | None:
        """Its handle, for whoever frees it from now on; None if there is none."""
        handle, self._handle = self._handle, None
        return handle

    def __del__(self) -> None:
        if getattr(self, "_handle", None) and self._library is not None:
            self._library.llmchat_memory_free(self._handle)
