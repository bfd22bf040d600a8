"""Unpickling without trust: what a .pt file describes is built from plain values and containers alone.

Python's own unpickler calls whatever a pickle names, changes any object, and takes the time and memory
that a pickle claims to need. Here each name is looked up by the reader at hand, which gives a `Named`; nothing
else can be called, and nothing has a state that could be set.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

INDEX_LIMIT = 16 * 2**20
"""Bytes of a pickle. The description of a checkpoint takes kilobytes; its tensors are not part of it."""

READ_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
"""What the reading of a zip file and its pickle raises on bytes that are not as they should be."""

_OPCODES = (
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "MEMOIZE",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS",
    "GLOBAL", "STACK_GLOBAL", "BINPERSID", "REDUCE", "NEWOBJ", "BUILD",
)  # fmt: skip
"""What pickles of plain values are made of, in every protocol since 2."""

_PYTHONS: dict[int, Any] = pickle._Unpickler.dispatch
"""What Python's own unpickler does for each opcode."""

_LARGEST_INTEGER_KEY = 2**61 - 2
"""Larger ones share their hash with others, as many as one likes: filling a table would take for ever."""
_LONGEST_KEY = 8


class Named:
    """Stands for a function or class that a pickle names; can be called, and has nothing that can be changed."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., object]) -> None:
        self.build = build


# The one in C gives a hostile file's memo as much memory as it asks for.
class CheckedUnpickler(pickle._Unpickler):
    """Reads a pickle; a subclass says in `find_class` and `persistent_load` what its names stand for."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = {
        code: _PYTHONS[code] for code in (getattr(pickle, name)[0] for name in _OPCODES)
    }

    def __init__(self, index: bytes) -> None:
        super().__init__(io.BytesIO(index))

    def _call(self) -> None:
        arguments, named = self.stack.pop(), self.stack.pop()
        if not isinstance(named, Named) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("something is called that is no function")
        self.stack.append(named.build(*arguments))

    def _drop_state(self) -> None:
        """Leave out what torch adds to its ordered dicts: the versions of their modules."""
        self.stack.pop()

    def _set_item(self) -> None:
        _check_keys(self.stack[-2:-1])
        _PYTHONS[pickle.SETITEM[0]](self)

    def _set_items(self) -> None:
        _check_keys(self.stack[::2])  # The stack since the last mark.
        _PYTHONS[pickle.SETITEMS[0]](self)

    dispatch |= {
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _drop_state,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
    }


def empty_dict() -> dict[object, object]:
    """What an ordered dict is made as; its items follow."""
    return {}


def _check_keys(keys: Iterable[object]) -> None:
    if not all(map(_is_quickly_hashed, keys)):
        raise pickle.UnpicklingError("a key is no plain value")


def _is_quickly_hashed(key: object) -> bool:
    """Whether a key is no tuple of tuples, which may hold one another a million times over, and no giant."""
    if isinstance(key, tuple):
        return len(key) <= _LONGEST_KEY and all(
            not isinstance(part, tuple) and _is_quickly_hashed(part) for part in key
        )
    return not isinstance(key, int) or abs(key) <= _LARGEST_INTEGER_KEY
