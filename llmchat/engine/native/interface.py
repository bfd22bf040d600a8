"""The library's structs, enums and functions, read out of the header that C++ includes: neither is written twice."""

from __future__ import annotations

import ctypes
import re
from ctypes import Structure, c_char_p, c_double, c_float, c_int, c_int32, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

_TYPES = {"int": c_int, "int32_t": c_int32, "size_t": c_size_t, "float": c_float, "double": c_double, "void": None}
_COMMENT = re.compile(r"//[^\n]*")
_STRUCT = re.compile(r"struct (\w+) \{(.*?)\};", re.DOTALL)
_ENUM = re.compile(r"enum \w+ \{(.*?)\};", re.DOTALL)
_FUNCTION = re.compile(r"^([\w ]+?\*?) ?(llmchat_\w+)\((.*?)\);", re.MULTILINE | re.DOTALL)


@cache
def _header() -> str:
    return _COMMENT.sub("", (Path(__file__).parent / "interface.h").read_text("utf-8"))


@cache
def struct(name: str) -> type[Structure]:
    """One of the header's structs; its fields start as 0."""
    body = next(body for found, body in _STRUCT.findall(_header()) if found == name)
    fields = []
    for line in filter(None, map(str.strip, body.split(";"))):
        kind, _, names = line.partition(" ")
        fields += [(field.strip(), _TYPES[kind]) for field in names.split(",")]
    return type(name, (Structure,), {"_fields_": fields})


@cache
def constants() -> dict[str, int]:
    """The numbers of all enumerators by their names."""
    bodies = _ENUM.findall(_header())
    listed = ([name.strip() for name in body.split(",") if name.strip()] for body in bodies)
    return {name: number for names in listed for number, name in enumerate(names)}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions.

    Raises:
        AttributeError: It lacks one.
    """
    for result, name, arguments in _FUNCTION.findall(_header()):
        function = getattr(library, name)
        function.restype = _type(result)
        given = [argument.strip() for argument in arguments.split(",") if argument.strip()]
        function.argtypes = [_type(argument.rpartition(" ")[0]) for argument in given]
    return library


def _type(declared: str) -> Any:
    declared = declared.strip()
    if declared == "const char*":
        return c_char_p
    return c_void_p if "*" in declared else _TYPES[declared]
