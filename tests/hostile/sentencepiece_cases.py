"""SentencePiece models: the protobuf's fields, pieces of strange kinds, and the normaliser's table."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

from llmchat.tokenizers.loading import load_tokenizer
from tests.hostile.damage import EXTREMES, damaged
from tests.hostile.opened import DATA, use

_PIECES, _TRAINER, _NORMALIZER, _TABLE = 1, 2, 3, 2
Field = tuple[int, int, bytes]
"""Number, wire type, value as it is written, without the length of a string."""


@cache
def _sources() -> list[list[Field]]:
    paths = [
        DATA / "llmbuilder-2.0.0-tiny" / "tokenizer" / "tokenizer.model",
        *sorted((DATA / "llmbuilder-formats").rglob("*.model")),
    ]
    return [list(fields(path.read_bytes())) for path in paths]


def sound(place: Path) -> None:
    """A model that opens."""
    shutil.copyfile(DATA / "llmbuilder-2.0.0-tiny" / "tokenizer" / "tokenizer.model", place / "tokenizer.model")


def write(rng: Random, place: Path) -> None:
    """A damaged model, mostly without the large table of its normaliser."""
    listed = list(rng.choice(_sources()))
    if rng.random() < 0.8:
        listed = [_without_table(field) for field in listed]
    data = message(listed)
    if rng.random() < 0.25:
        data = damaged(rng, data, within=rng.choice((64, 2000, None)))
    else:
        for _ in range(rng.choice((1, 1, 2, 5))):
            _damage(rng, listed)
        data = message(listed)
    (place / "tokenizer.model").write_bytes(data)


def _without_table(field: Field) -> Field:
    number, kind, value = field
    if number != _NORMALIZER:
        return field
    return number, kind, message([inner for inner in fields(value) if inner[0] != _TABLE])


def _damage(rng: Random, listed: list[Field]) -> None:
    if not listed:
        return
    places = [place for place, field in enumerate(listed) if field[0] in (_TRAINER, _NORMALIZER)]
    at = rng.choice(places) if places and rng.random() < 0.5 else rng.randrange(len(listed))
    number, kind, value = listed[at]
    match rng.randrange(9):
        case 0:
            del listed[at]
        case 1:
            listed[at:at] = [listed[at]] * rng.choice((1, 2, 500))
        case 2:
            listed[at] = (number, kind, damaged(rng, value))
        case 3:
            listed[at] = (rng.choice((0, 1, 2, 3, 4, 5, 2**28)), rng.choice((0, 1, 2, 3, 5, 7)), value)
        case 4:
            listed[at : at + rng.choice((1, 100, len(listed)))] = []
        case 5:
            listed[at] = (_PIECES, 2, _piece(rng))
        case _ if kind == 2:
            inner = _read(value)
            if inner:
                _damage_inside(rng, inner)
                listed[at] = (number, kind, message(inner))


def _damage_inside(rng: Random, inner: list[Field]) -> None:
    at = rng.randrange(len(inner))
    number, kind, value = inner[at]
    match rng.randrange(7):
        case 0:
            del inner[at]
        case 1:
            inner.append((rng.randrange(1, 60), 0, varint(rng.choice(EXTREMES))))
        case 2 if number == _TABLE and len(value) > 1000:
            inner[at] = (number, kind, damaged(rng, value, within=rng.choice((8, 4000, None))))
        case _ if kind == 0:
            inner[at] = (number, kind, varint(rng.choice((0, 1, 2, 3, 4, 5, 6, 7, *EXTREMES))))
        case _ if kind == 5:
            inner[at] = (
                number,
                kind,
                struct.pack("<f", rng.choice((0.0, -1e38, 1e38, float("nan"), float("inf"), float("-inf")))),
            )
        case _:
            inner[at] = (
                number,
                kind,
                rng.choice((b"", b"\xff", b"\x00" * 9, b"a", b"<unk>", b"<0x00>", value * 3, damaged(rng, value))),
            )


def _piece(rng: Random) -> bytes:
    text = rng.choice(
        (b"", b"a", b"<s>", b"<unk>", b"<0x41>", b"<0xZZ>", b"\xe2\x96\x81" * 2000, b"\xff\xfe", b"\x00", b" ")
    )
    score = struct.pack("<f", rng.choice((0.0, 1e38, float("nan"), float("-inf"))))
    return message([(1, 2, text), (2, 5, score), (3, 0, varint(rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 2**31))))])


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        start = at
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                size, start = _varint(data, at)
                at = start + size
            case _:
                raise ValueError("no message")
        yield tag >> 3, tag & 7, data[start:at]


def _read(value: bytes) -> list[Field]:
    try:
        return list(fields(value))
    except (ValueError, IndexError):
        return []


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def message(listed: list[Field]) -> bytes:
    """Fields as a protobuf message."""
    return b"".join(
        varint(number << 3 | kind) + (varint(len(value)) if kind == 2 else b"") + value
        for number, kind, value in listed
    )


def attempt(place: Path) -> None:
    """Open it and use it."""
    use(load_tokenizer(place))
