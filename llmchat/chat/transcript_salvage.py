"""What can be read of a transcript file that is damaged before its end: the records around the damage.

The file is cut where records begin, and each piece is read alone. Where a turn is lost
that others follow, a stand-in takes its place, so that what was said before and after
stays one conversation.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from llmchat.chat.transcript_document import (
    SCHEMA,
    TABLE_MARK,
    Damage,
    Document,
    Record,
    Table,
    error_line,
    has_text,
    render_header,
    render_record,
    split_tables,
)
from llmchat.files import parse_toml

STAND_IN = "[What was said here is damaged and cannot be read.]"
"""The text of a turn that is lost."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of the file: a record, or what cannot be read (None)."""

    start: int
    end: int
    record: Record | None = None


def salvage(data: bytes, name: str, is_good: Callable[[Record], bool] = has_text) -> Document | None:
    """Read what can be read of a damaged file; None if there is not one whole turn in it.

    Args:
        data: The file's content.
        name: The file's name, for messages.
        is_good: Whether a record that was read is to be taken in.

    Raises:
        TranscriptError: It was written by a newer llmchat.
    """
    starts = [found.start() for found in TABLE_MARK.finditer(data)]
    if not starts:
        return None
    header, header_piece = _read_header(data[: starts[0]])
    pieces = [*header_piece, *_without_twins(_read_records(data, starts, is_good))]
    if not any(piece.record is not None and piece.record.kind == "turns" for piece in pieces):
        return None
    header, _ = split_tables({"schema": SCHEMA} | header, [], name)
    parts: list[bytes] = [render_header(header).encode()]
    records: list[Record] = []
    for record, original in _with_stand_ins(pieces, data):
        records.append(record)
        parts.append(render_record(*record).encode() if original is None else original)
    damage = tuple(_damage(data, start, end) for start, end in _lost(pieces))
    return Document(header, records, len(data), damage=damage, repaired=b"".join(parts))


def _read_header(data: bytes) -> tuple[Table, list[_Piece]]:
    """The header, line by line if need be, and what of it cannot be read."""
    whole = _parse(data)
    if whole is not None:
        return whole, []
    table: Table = {}
    pieces, position = [], 0
    for line in data.splitlines(keepends=True):
        found = _parse(line)
        if found is None:
            pieces.append(_Piece(position, position + len(line)))
        else:
            table |= found
        position += len(line)
    return {key: value for key, value in table.items() if not isinstance(value, dict | list)}, pieces


def _read_records(data: bytes, starts: list[int], is_good: Callable[[Record], bool]) -> Iterator[_Piece]:
    """Each record, from its beginning to the next one outside of its texts, and each stretch that is none."""
    ends = [*starts[1:], len(data)]
    quotes = list(
        accumulate((data.count(b'"""', start, end) for start, end in zip(starts, ends, strict=True)), initial=0)
    )
    place = 0
    while place < len(starts):
        last = place
        while last + 1 < len(starts) and (quotes[last + 1] - quotes[place]) % 2:
            last += 1
        start, end = starts[place], ends[last]
        record, length = _read_record(data[start:end], is_good)
        if record is None:
            yield _Piece(start, ends[place])
            place += 1
            continue
        yield _Piece(start, start + length, record)
        if start + length < end:
            yield _Piece(start + length, end)
        place = last + 1


def _read_record(data: bytes, is_good: Callable[[Record], bool]) -> tuple[Record | None, int]:
    """The record in these bytes, and how many of them it takes: those before the first line that cannot be read."""
    for _ in range(_TRIES):
        try:
            record = _record(data.decode())
            return (record if record is not None and is_good(record) else None), len(data)
        except UnicodeDecodeError as error:
            bad_line = data.count(b"\n", 0, error.start)
        except tomllib.TOMLDecodeError as error:
            bad_line = (error_line(error) or 1) - 1
        data = data[: _line_start(data, bad_line)]
    return None, 0


_TRIES = 4
"""So often a record is read without its last lines."""


def _line_start(data: bytes, line: int) -> int:
    """Where a line begins, counted from 0."""
    return len(data) - len(data.split(b"\n", line)[-1])


def _record(text: str) -> Record | None:
    """The record that a text is; None if it is none."""
    kind, tables = next(iter(parse_toml(text).items()), ("", []))
    if not isinstance(tables, list) or len(tables) != 1 or not isinstance(tables[0], dict):
        return None
    return Record(kind, tables[0])


def _without_twins(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """The pieces; a turn under the id of one before it cannot be taken in."""
    known: set[str | None] = set()
    for piece in pieces:
        given = None if piece.record is None or piece.record.kind != "turns" else piece.record.table.get("id")
        own = given if isinstance(given, str) else None
        yield piece if own is None or own not in known else _Piece(piece.start, piece.end)
        known.add(own)


def _parse(data: bytes) -> Table | None:
    try:
        return parse_toml(data.decode("utf-8-sig"))
    except ValueError:
        return None


def _with_stand_ins(pieces: list[_Piece], data: bytes) -> Iterator[tuple[Record, bytes | None]]:
    """The records with their bytes; a turn whose parent is lost comes after a stand-in for that, which has none."""
    known: set[str] = set()
    before: str | None = None
    for piece in pieces:
        if piece.record is None:
            continue
        table = piece.record.table
        if piece.record.kind == "turns":
            parent, own = table.get("parent"), table.get("id")
            if isinstance(parent, str) and parent and parent not in known:
                role = "user" if table.get("role") == "assistant" else "assistant"
                stand_in = {"id": parent, "role": role} | {key: table[key] for key in ("created",) if key in table}
                stand_in |= {"parent": before} if before is not None else {}
                known.add(parent)
                yield Record("turns", stand_in | {"text": STAND_IN}), None
            if isinstance(own, str):
                known.add(own)
                before = own
        yield piece.record, data[piece.start : piece.end]


def _lost(pieces: list[_Piece]) -> Iterator[tuple[int, int]]:
    """The stretches that cannot be read, those side by side in one."""
    start = end = -1
    for piece in pieces:
        if piece.record is not None:
            continue
        if piece.start != end:
            if end > start:
                yield start, end
            start = piece.start
        end = piece.end
    if end > start:
        yield start, end


def _damage(data: bytes, start: int, end: int) -> Damage:
    lost = data[start:end]
    first = data.count(b"\n", 0, start) + 1 + len(re.match(rb"[\r\n]*", lost)[0].splitlines())  # type: ignore[index]
    return Damage(first, data.count(b"\n", 0, end - 1) + 1, lost)
