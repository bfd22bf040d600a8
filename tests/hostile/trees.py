"""Damage to JSON and TOML: values of other types and sizes, in files that are well-formed or nearly."""

from __future__ import annotations

import json
from random import Random
from typing import Any


class Raw(str):
    """Stands in a tree for text that is written as it is."""


def _nested(opening: str, closing: str, depth: int) -> Raw:
    return Raw(opening * depth + closing * depth)


_STRINGS = (
    "", " ", "a", "\x00", "\n", "é" * 300, "x" * 100_000, "<s>", "</s>", "<0x00>", "▁", "../../etc/passwd", "%s%n{0}",
    "{{ messages }}", "\u202e\u2066", "\x1b]52;c;YQ==\x07", "😀", "true", "NaN", "1e999",
)  # fmt: skip
_NUMBERS = (
    0, 1, 2, -1, -2, 7, 64, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, -(2**31), 2**32,
    2**53, 2**63 - 1, 2**63, -(2**63), 2**64,
    10**30, -(10**30), 10**400, 0.0, -0.0, 0.5, 1.5, -3.7, 1e-300, 1e300, 1e-45, 3.4e38,
)  # fmt: skip
_JSON_RAW = (
    Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("-1e999"), Raw("1" * 5000), Raw('"\\ud800"'),
    Raw('"\\udfff\\ud800"'), Raw('"\\u0000"'), Raw("0x10"), Raw("01"), Raw("'a'"), Raw("{,}"), Raw("nul"), Raw('"'),
    _nested("[", "]", 50), _nested("[", "]", 900), _nested("[", "]", 100_000), _nested('{"a":', "}", 500),
)  # fmt: skip
_TOML_RAW = (
    Raw("nan"), Raw("inf"), Raw("-inf"), Raw("1e999"), Raw("1" * 5000), Raw("0x" + "f" * 5000), Raw("0b" + "1" * 90),
    Raw('"\\ud800"'), Raw('"\\u0000"'), Raw('"\\U00110000"'), Raw("0001-01-01T00:00:00+12:00"), Raw("0001-01-01"),
    Raw("9999-12-31T23:59:59-12:00"), Raw("2026-02-30"), Raw("2026-01-01T00:00:00+99:99"), Raw("07:32:00"),
    Raw("2026-01-01 00:00:00"), Raw("2026-01-01T00:00:00Z"), Raw('"""a"""""'), Raw("_1"), Raw("1__0"), Raw("'"),
    _nested("[", "]", 50), _nested("[", "]", 900), _nested("[", "]", 100_000), Raw("{a={" * 300 + "}}" * 300),
)  # fmt: skip


def strange_value(rng: Random, *, toml: bool = False) -> Any:
    """A value that nobody expects."""
    match rng.randrange(8):
        case 0 | 1 | 2:
            return rng.choice(_NUMBERS)
        case 3:
            return rng.choice(_STRINGS)
        case 4:
            return rng.choice((True, False) if toml else (None, True, False))
        case 5:
            return rng.choice(
                ([], {}, [0], [[]], [{}], {"": 0}, {"a": {}}, [1, "a"], ["a"] * 300, [-1] * 300, ["a", "a"])
            )
        case _:
            return rng.choice(_TOML_RAW if toml else _JSON_RAW)


def damaged_tree(rng: Random, tree: Any, *, toml: bool = False) -> Any:
    """A tree of plain values with some of them replaced, removed, moved or repeated; the one given stays."""
    tree = json.loads(json.dumps(tree)) if not toml else _copy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if isinstance(tree, dict | list) and tree:
            _damage(rng, tree, toml)
        else:
            return strange_value(rng, toml=toml)
    if not toml and rng.random() < 0.02:
        return strange_value(rng)
    return tree


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _place(rng: Random, tree: Any) -> tuple[Any, Any]:
    """A container in the tree and one of its keys; those near the root are more likely than their number."""
    while True:
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        inner = tree[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.2:
            return tree, key
        tree = inner


def _damage(rng: Random, tree: Any, toml: bool) -> None:
    holder, key = _place(rng, tree)
    value = holder[key]
    match rng.randrange(13):
        case 0 | 1 | 2 | 3:
            holder[key] = strange_value(rng, toml=toml)
        case 4:
            del holder[key]
        case 5:
            other, place = _place(rng, tree)
            holder[key] = _copy(other[place])
        case 6:
            holder[key] = rng.choice(([value], {"value": value}, [value] * 50, {str(value)[:50]: 0}))
        case 7 if isinstance(holder, dict):
            del holder[key]
            holder[rng.choice((*_STRINGS, str(key) + "s", str(key).upper()))] = value
        case 8 if isinstance(holder, list) and len(holder) < 2000:
            holder *= rng.choice((2, 3, 20))
        case 9 if isinstance(holder, list):
            rng.shuffle(holder)
        case 10 if isinstance(holder, dict) and not toml:
            again = f"{json.dumps(key)}: {json_text(strange_value(rng))}"
            holder[key] = Raw(f"{json_text(value)}, {again}")
        case _:
            holder[key] = _changed(rng, value, toml)


def _changed(rng: Random, value: Any, toml: bool) -> Any:
    """A value of the same type, but another."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        fraction = value / 3 if abs(value) < 1e300 else 0.1
        return rng.choice((-value, value + 1, value - 1, value * 2, value * 1000, str(value), fraction))
    if isinstance(value, str) and not isinstance(value, Raw):
        at = rng.randrange(len(value) + 1)
        piece = rng.choice(_STRINGS)
        return rng.choice((value[:at], value[at:], value[:at] + piece + value[at:], value * 3, value.swapcase(), piece))
    return strange_value(rng, toml=toml)


def json_text(value: Any) -> str:
    """A tree as JSON."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {json_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_text, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value) if abs(value) >= 10**4000 else str(value)
    return json.dumps(value)


def toml_text(tree: dict[str, Any], prefix: str = "") -> str:
    """A table as TOML, with its inner tables under headings of their own."""
    plain = {key: value for key, value in tree.items() if not _is_table(value)}
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain.items()]
    for key, value in tree.items():
        if _is_table(value):
            name = prefix + _toml_key(key)
            heading = f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            for item in value if isinstance(value, list) else [value]:
                lines += ["", heading, toml_text(item, f"{name}.")]
    return "\n".join(lines)


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict)


def _toml_key(key: Any) -> str:
    text = str(key)
    return text if text.replace("_", "a").replace("-", "a").isalnum() and text.isascii() else json.dumps(text)


def _toml_value(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items()) + "}"
    return str(value)
