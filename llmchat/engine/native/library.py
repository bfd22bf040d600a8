"""Finding and calling the compiled decode step. No model is known here."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int, c_int32, c_size_t, c_void_p
from functools import cache
from pathlib import Path

from llmchat.engine.native.sources import sources_hash

KERNELS_VARIABLE = "LLMCHAT_KERNELS"
"""Environment variable that names the kernels to use (avx512, avx2, neon, portable), or "none" for torch."""

TILE = 4
"""Positions that one call takes at most."""

BLOCK_ROWS = 16
"""Rows of a block: matrices and logits are kept in whole blocks."""

MOST_THREADS = 256
"""As many as a model takes."""

INTERFACE = 3
"""Number of the functions' signatures, as in library.cpp; one more whenever one of them changes."""

NO_MEMORY = 2
"""What a function returns that found no memory; 0 is done, 1 refused."""


_DIMENSIONS = (
    "is_gpt", "dim", "ffn", "layers", "heads", "kv_heads",
    "head_dim", "vocab", "context", "interleaved", "threads",
)  # fmt: skip


class Shape(Structure):
    """Dimensions of a model, as the C++ side takes them."""

    _fields_ = [*((name, c_int32) for name in _DIMENSIONS), ("eps", c_float)]


@cache
def load_library() -> ctypes.CDLL | None:
    """The compiled library; None where it was not built, cannot be loaded, or is of another version."""
    for path in _library_paths():
        try:
            library = ctypes.CDLL(str(path))
            if library.llmchat_interface() == INTERFACE and _is_of_these_sources(library):
                return _declared(library)
        except (OSError, AttributeError):
            continue
    return None


def _is_of_these_sources(library: ctypes.CDLL) -> bool:
    """Whether it was built from the sources that lie beside it; where none do, it came together with this file."""
    wanted = sources_hash(Path(__file__).parent)
    library.llmchat_sources.restype = c_char_p
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


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions."""
    signatures: dict[str, tuple[object, list[object]]] = {
        "llmchat_kernels": (c_char_p, [c_char_p]),
        "llmchat_memory_new": (c_void_p, [c_size_t]),
        "llmchat_memory_free": (None, [c_void_p]),
        "llmchat_model_new": (c_void_p, [POINTER(Shape), c_char_p, c_void_p]),
        "llmchat_model_free": (None, [c_void_p]),
        "llmchat_set_matrix": (
            c_int,
            [c_void_p, c_int, c_int, c_int, c_void_p, POINTER(c_void_p), POINTER(c_size_t), c_void_p, c_int],
        ),
        "llmchat_set_vector": (c_int, [c_void_p, c_int, c_int, c_void_p, c_size_t]),
        "llmchat_set_embedding": (c_int, [c_void_p, c_int, c_void_p, c_size_t]),
        "llmchat_weight_bytes": (c_size_t, [c_void_p]),
        "llmchat_position_bytes": (c_size_t, [c_void_p]),
        "llmchat_read_bandwidth": (c_double, [c_void_p, c_size_t, c_int]),
        "llmchat_cache_new": (c_void_p, [c_void_p, c_int]),
        "llmchat_cache_free": (None, [c_void_p]),
        "llmchat_cache_copy": (c_int, [c_void_p, c_void_p, c_void_p, c_int]),
        "llmchat_workers": (c_int, [c_void_p]),
        "llmchat_step": (c_int, [c_void_p, c_void_p, c_void_p, POINTER(c_void_p), c_int, c_void_p, c_int]),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
