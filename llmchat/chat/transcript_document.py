"""A transcript file's bytes and the TOML tables in them: a header, then a table for each record.

    [[turns]]        what was said; `text` is its last plain key
    [[selections]]   at which turn the conversation was left
    [[deletions]]    a turn was deleted with all that follows it
    [[undos]]        a change was taken back
    [[redos]]        and made again
    [[headers]]      what stands in the header from then on
    [[templates]]    a chat template that was asked for, before the first reply that it made the prompt of
    [[states]]       the settings, the system prompt and the prefill from then on

Each record is rendered alone, so that a file grows by appending and is never written
over; records of other kinds are kept as they are. A process that is killed while it
appends leaves a torn last record, which is told from damage here. What the tables mean
is known to `transcript_toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import tomli_w

from llmchat.errors import TranscriptError
from llmchat.files import describe_toml, parse_toml

SCHEMA = 1
"""The version of the file's layout that this llmchat writes, and the newest it reads."""

Table = dict[str, Any]


class Record(NamedTuple):
    """One table of the file."""

    kind: str
    """The name in its brackets."""
    table: Table


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a file that cannot be read, with what can be read around it."""

    first_line: int
    last_line: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Document:
    """A transcript file's tables as they stand, keys and records that are not llmchat's own among them."""

    header: Table
    records: list[Record]
    length: int
    """How many of the file's bytes are whole; what comes after was torn off."""
    has_torn_turn: bool = False
    """Whether what was torn off was a turn."""
    damage: tuple[Damage, ...] = ()
    """What could not be read before the end."""
    repaired: bytes | None = None
    """The file without what could not be read; None if all could."""

    @property
    def turns(self) -> list[Table]:
        """The tables of the turns."""
        return [record.table for record in self.records if record.kind == "turns"]


def render_header(table: Mapping[str, Any]) -> str:
    """The header's lines. Tables that are not llmchat's own come after the plain keys."""
    return "".join(_render("", table))


def render_record(kind: str, table: Mapping[str, Any]) -> str:
    """One record's lines, to be added to the end of the file."""
    return f"\n[[{kind}]]\n" + "".join(_render(f"{kind}.", table))


def render_turn(table: Mapping[str, Any]) -> str:
    """One turn's lines, to be added to the end of the file."""
    return render_record("turns", table)


def render_document(header: Mapping[str, Any], records: Iterable[Record]) -> str:
    """A whole file."""
    return render_header(header) + "".join(render_record(*record) for record in records)


def _render(prefix: str, table: Mapping[str, Any]) -> Iterator[str]:
    # tomli_w alone would write short tables inline, and those cannot be appended to.
    plain = {key: value for key, value in table.items() if not _is_table(value)}
    # It also turns \r\n into \n inside multi-line strings.
    yield tomli_w.dumps(plain, multiline_strings=not _has_crlf(plain))
    for key, value in table.items():
        if _is_table(value):
            name = prefix + tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
            heading, items = (f"[[{name}]]", value) if isinstance(value, list) else (f"[{name}]", [value])
            for item in items:
                yield f"\n{heading}\n"
                yield from _render(f"{name}.", item)


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping)


def _has_crlf(value: Any) -> bool:
    if isinstance(value, str):
        return "\r\n" in value
    if isinstance(value, Mapping):
        return any(_has_crlf(item) for item in value.values())
    return isinstance(value, list) and any(_has_crlf(item) for item in value)


def parse_document(data: bytes, name: str) -> Document:
    """Read a transcript's bytes; a torn last record is left out, and so is what is damaged.

    Args:
        data: The file's content.
        name: The file's name, for messages.

    Raises:
        TranscriptError: It is no transcript, was written by a newer llmchat, or nothing of it can be read.
    """
    from llmchat.chat.transcript_salvage import salvage

    try:
        return _parse_to_end(data, name)
    except tomllib.TOMLDecodeError as error:
        saved = salvage(data, name)
        if saved is None:
            problem = describe_toml(error, data.decode(errors="replace"))
            raise TranscriptError(
                f"{name} is damaged, {problem}. Repair it with a text editor, or start a new one."
            ) from None
        return saved


def _parse_to_end(data: bytes, name: str) -> Document:
    """The document, but for its torn end.

    Raises:
        TOMLDecodeError: It is damaged before its end.
    """
    tables, whole = _parse_whole(_readable_part(data))
    marks = list(table_marks(whole))
    header, records = split_tables(tables, [kind for _, kind in marks], name)
    if marks and records and not is_whole(records[-1], whole):
        records.pop()
        whole = whole[: marks[-1][0]]
    if not all(map(has_text, records)):
        raise tomllib.TOMLDecodeError("a turn ends before its text")
    return Document(header, records, len(whole), has_torn_turn=_was_turn(data[len(whole) :]))


def split_tables(tables: Table, kinds: list[str], name: str) -> tuple[Table, list[Record]]:
    """The header, and the records in their order.

    Args:
        tables: A whole file, parsed.
        kinds: The kind of each record in the order of the file; any that does not fit comes last.
        name: The file's name, for messages.

    Raises:
        TranscriptError: It is no transcript, or one of a newer llmchat.
    """
    schema, turns = tables.get("schema"), tables.setdefault("turns", [])
    if not isinstance(schema, int) or not isinstance(turns, list):
        raise TranscriptError(f"{name} is not a transcript of llmchat: it has no schema number.")
    if schema > SCHEMA:
        raise TranscriptError(f"{name} was written by a newer llmchat (schema {schema}, not {SCHEMA}). Update llmchat.")
    if not all(isinstance(turn, dict) for turn in turns):
        raise TranscriptError(f"{name} is not a transcript of llmchat: its turns are no tables.")
    names = ["turns", *(kind for kind in dict.fromkeys(kinds) if kind != "turns" and _is_table(tables.get(kind)))]
    lists = {kind: tables.pop(kind) for kind in names}
    if any(len(items) != kinds.count(kind) for kind, items in lists.items()):
        # By another hand, in another form: the order is not to be told.
        return tables, [Record(kind, item) for kind, items in lists.items() for item in items]
    waiting = {kind: iter(items) for kind, items in lists.items()}
    return tables, [Record(kind, next(waiting[kind])) for kind in kinds if kind in waiting]


def has_text(record: Record) -> bool:
    """Whether a record, if it is a turn, says something: `text` comes last but for what is known of a reply."""
    return record.kind != "turns" or "text" in record.table


def is_whole(record: Record, data: bytes) -> bool:
    """Whether the last record of these bytes was written to its end."""
    turn = record.table
    if record.kind == "states":
        return data.endswith(b"\n") and _has_stop(turn)
    if record.kind != "turns":
        return data.endswith(b"\n") and _LAST_KEYS.get(record.kind, "") in (*record.table, "")
    if "text" not in turn or (turn["text"] == "" and not data.endswith(b"\n")):
        return False
    return "finish_reason" not in turn or _has_stop(turn)


def _has_stop(table: Table) -> bool:
    """Whether the settings are there to their last key; a damaged value, which is another thing, counts as there."""
    settings = table.get("settings", {})
    return not isinstance(settings, dict) or "stop" in settings


_LAST_KEYS = {"templates": "text", "selections": "turns", "deletions": "leaf", "undos": "leaf", "redos": "leaf"}


def _was_turn(torn: bytes) -> bool:
    mark = re.match(rb"\s*\[\[([a-z_]*)", torn)
    return bool(torn) and (mark is None or b"turns".startswith(mark[1]))


def _parse_whole(data: bytes) -> tuple[Table, bytes]:
    """The tables, and the bytes they stand in: all, or those before the torn end."""
    try:
        return _parse(data), data
    except tomllib.TOMLDecodeError as error:
        if not _is_at_end(error, data):
            raise
        failure = error
    # What is torn is the line that begins a table, or the table that was begun last.
    torn_mark = _TORN_MARK.search(data)
    for offset in (torn_mark.start() if torn_mark else 0, max(table_marks(data), default=(0, ""))[0]):
        if offset:
            try:
                return _parse(data[:offset]), data[:offset]
            except tomllib.TOMLDecodeError:
                continue
    raise failure


def _parse(data: bytes) -> Table:
    try:
        return parse_toml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise tomllib.TOMLDecodeError(f"it is not UTF-8 text (at line {line}, column 1)") from None


def turn_offsets(data: bytes) -> list[int]:
    """Where each turn's lines begin, the empty line before them included, found without reading the TOML."""
    return [offset for offset, kind in table_marks(data) if kind == "turns"]


def table_marks(data: bytes) -> Iterator[tuple[int, str]]:
    """Where each record begins, and of which kind it is.

    A line that looks like the start of one inside a text is not counted:
    quotes within a text are escaped, so triple quotes only stand around one.
    """
    position = 0
    for place, part in enumerate(data.split(b'"""')):
        if place % 2 == 0:
            yield from ((position + found.start(), found[1].decode()) for found in TABLE_MARK.finditer(part))
        position += len(part) + 3


TABLE_MARK = re.compile(rb"\r?\n\[\[([a-z_]+)\]\]")
"""How a record begins."""
_TORN_MARK = re.compile(rb"\r?\n\[\[?[a-z_]*\]?\Z")
_ERROR_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def _readable_part(data: bytes) -> bytes:
    # After a power cut a file may end in zeros; a written NUL is always escaped.
    data = data.rstrip(b"\0")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # A character may have been torn too.
        return data[: error.start] if error.start >= len(data) - 3 else data
    return data


def _is_at_end(error: tomllib.TOMLDecodeError, data: bytes) -> bool:
    line = error_line(error)
    return line is None or line > data.count(b"\n")


def error_line(error: tomllib.TOMLDecodeError) -> int | None:
    """The line that an error names, counted from 1."""
    found = _ERROR_LINE.search(str(error))
    return int(found[1]) if found else None
