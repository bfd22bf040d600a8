"""llama.cpp's bindings, told to print nothing."""

from __future__ import annotations

import ctypes
from typing import Any

_SILENCE = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
"""What the library tells its messages, which would go over the window."""


def silent_library() -> Any:
    """The module `llama_cpp`, ready for use."""
    import llama_cpp

    llama_cpp.llama_log_set(_SILENCE, None)
    llama_cpp.llama_backend_init()
    return llama_cpp
