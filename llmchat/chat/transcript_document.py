"""A transcript file's bytes and the TOML tables in them: a header, then one `[[turns]]` table per turn.

Each turn is rendered alone, so that a file grows by appending. Where a conversation
was left at another turn than the last one written, a `[[selections]]` table follows
that says so; it holds until another turn is written. A process that is killed while
it appends leaves a torn last table, which is told from damage here. What the tables
mean is known to `transcript_toml`.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tomli_w

from llmchat.errors import TranscriptError
from llmchat.files import describe_toml

SCHEMA = 1
"""The version of the file's layout that this llmchat writes, and the newest it reads."""

Table = dict[str, Any]


def render_header(table: Mapping[str, Any]) -> str:
    """The header's lines. Tables that are not llmchat's own come after the plain keys."""
    return "".join(_render("", table))


def render_turn(table: Mapping[str, Any]) -> str:
    """One turn's lines, to be added to the end of the file."""
    return "\n[[turns]]\n" + "".join(_render("turns.", table))


def render_selection(turn_id: str | None, turn_count: int) -> str:
    """The lines that say at which turn a conversation was left, to be added to the end of the file.

    Args:
        turn_id: The selected turn; None: before the first.
        turn_count: How many turns the file has; with more of them, the selection no longer holds.
    """
    return "\n[[selections]]\n" + "".join(_render("selections.", {"turn": turn_id or "", "turns": turn_count}))


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


@dataclass(frozen=True, slots=True)
class Document:
    """A transcript file's tables as they stand, keys that are not llmchat's own among them."""

    header: Table
    turns: list[Table]
    length: int
    """How many of the file's bytes are whole; what comes after was torn off."""
    selected: str | None = None
    """The turn at which the conversation was left, "" for before the first; None: at the last turn written."""
    has_torn_turn: bool = False
    """Whether what was torn off was a turn."""


def parse_document(data: bytes, name: str) -> Document:
    """Read a transcript's bytes; a torn last table is left out.

    Args:
        data: The file's content.
        name: The file's name, for messages.

    Raises:
        TranscriptError: It is no transcript, was written by a newer llmchat, or is damaged before its end.
    """
    whole = _readable_part(data, name)
    document, whole = _parse_whole_turns(whole, name)
    selections = document.pop("selections", None)
    header, turns = _split(document, name)
    offset, kind = max(_tables(whole), default=(0, b""))
    if kind == b"turns" and turns and not _is_whole(turns[-1], whole):
        turns.pop()
        whole = whole[:offset]
    elif kind == b"selections" and not whole.endswith(b"\n"):
        selections, whole = None, whole[:offset]
    torn = data[len(whole) :]
    has_torn_turn = bool(torn) and not torn.lstrip().startswith(b"[[s")
    return Document(header, turns, len(whole), _selected(selections, len(turns)), has_torn_turn)


def _selected(selections: Any, turn_count: int) -> str | None:
    """What the last selection says, if no turn was written since."""
    last = selections[-1] if isinstance(selections, list) and selections else None
    if not isinstance(last, dict) or last.get("turns") != turn_count:
        return None
    return last["turn"] if isinstance(last.get("turn"), str) else None


def _parse_whole_turns(data: bytes, name: str) -> tuple[Table, bytes]:
    """The tables, and the bytes they stand in: all, or those before the torn end."""
    try:
        return tomllib.loads(data.decode("utf-8-sig")), data
    except tomllib.TOMLDecodeError as error:
        if not _is_at_end(error, data):
            raise _damaged(name, error, data) from None
        failure = error
    # What is torn is the line that begins a table, or the table that was begun last.
    torn_mark = _TORN_MARK.search(data)
    for offset in (torn_mark.start() if torn_mark else 0, max(_tables(data), default=(0, b""))[0]):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            if offset:
                return tomllib.loads(data[:offset].decode("utf-8-sig")), data[:offset]
    raise _damaged(name, failure, data)


def turn_offsets(data: bytes) -> list[int]:
    """Where each turn's lines begin, the empty line before them included, found without reading the TOML."""
    return [offset for offset, kind in _tables(data) if kind == b"turns"]


def _tables(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each turn and each selection begins, and which of the two it is.

    A line that looks like the start of one inside a text is not counted:
    quotes within a text are escaped, so triple quotes only stand around one.
    """
    position = 0
    for place, part in enumerate(data.split(b'"""')):
        if place % 2 == 0:
            yield from ((position + found.start(), found[1]) for found in _TABLE_MARK.finditer(part))
        position += len(part) + 3


_TABLE_MARK = re.compile(rb"\r?\n\[\[(turns|selections)\]\]")
_TORN_MARK = re.compile(rb"\r?\n\[\[?[a-z]*\]?\Z")
_ERROR_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def _readable_part(data: bytes, name: str) -> bytes:
    # After a power cut a file may end in zeros; a written NUL is always escaped.
    data = data.partition(b"\0")[0]
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:
            line = data.count(b"\n", 0, error.start) + 1
            raise TranscriptError(f"{name} is damaged at line {line}: it is not UTF-8 text.") from None
        return data[: error.start]
    return data


def _is_at_end(error: tomllib.TOMLDecodeError, data: bytes) -> bool:
    line = _ERROR_LINE.search(str(error))
    return line is None or int(line[1]) > data.count(b"\n")


def _damaged(name: str, error: tomllib.TOMLDecodeError, data: bytes) -> TranscriptError:
    problem = describe_toml(error, data.decode())
    return TranscriptError(f"{name} is damaged at {problem}. Repair it with a text editor, or start a new one.")


def _split(document: Table, name: str) -> tuple[Table, list[Table]]:
    turns = document.pop("turns", [])
    schema = document.get("schema")
    if not isinstance(schema, int) or not isinstance(turns, list):
        raise TranscriptError(f"{name} is not a transcript of llmchat: it has no schema number.")
    if schema > SCHEMA:
        raise TranscriptError(f"{name} was written by a newer llmchat (schema {schema}, not {SCHEMA}). Update llmchat.")
    if not all(isinstance(turn, dict) for turn in turns):
        raise TranscriptError(f"{name} is not a transcript of llmchat: its turns are no tables.")
    return document, turns


def _is_whole(turn: Table, data: bytes) -> bool:
    if "text" not in turn or (turn["text"] == "" and not data.endswith(b"\n")):
        return False
    return "finish_reason" not in turn or "stop" in turn.get("settings", {})
