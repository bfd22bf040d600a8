"""A transcript file's bytes and the TOML tables in them: a header, then one `[[turns]]` table per turn.

Each turn is rendered alone, so that a file grows by appending. A process that is
killed while it appends leaves a torn last turn, which is told from damage here.
What the tables mean is known to `transcript_toml`.
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


def parse_document(data: bytes, name: str) -> Document:
    """Read a transcript's bytes; a torn last turn is left out.

    Args:
        data: The file's content.
        name: The file's name, for messages.

    Raises:
        TranscriptError: It is no transcript, was written by a newer llmchat, or is damaged before its end.
    """
    whole = _readable_part(data, name)
    document, whole = _parse_whole_turns(whole, name)
    header, turns = _split(document, name)
    if turns and not _is_whole(turns[-1], whole):
        turns.pop()
        whole = whole[: last_turn_offset(whole)]
    return Document(header, turns, len(whole))


def _parse_whole_turns(data: bytes, name: str) -> tuple[Table, bytes]:
    """The tables, and the bytes they stand in: all, or those before the torn end."""
    try:
        return tomllib.loads(data.decode("utf-8-sig")), data
    except tomllib.TOMLDecodeError as error:
        if not _is_at_end(error, data):
            raise _damaged(name, error, data) from None
        failure = error
    # What is torn is the line that begins a turn, or the turn that was begun last.
    torn_mark = _TORN_MARK.search(data)
    for offset in (torn_mark.start() if torn_mark else 0, last_turn_offset(data)):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            if offset:
                return tomllib.loads(data[:offset].decode("utf-8-sig")), data[:offset]
    raise _damaged(name, failure, data)


def last_turn_offset(data: bytes) -> int:
    """Where the last turn's lines begin, the empty line before them included; 0 if there is no turn."""
    offsets = turn_offsets(data)
    return offsets[-1] if offsets else 0


def turn_offsets(data: bytes) -> list[int]:
    """Where each turn's lines begin, found without reading the TOML.

    A line that looks like the start of a turn inside a text is not counted:
    quotes within a text are escaped, so triple quotes only stand around one.
    """
    offsets: list[int] = []
    position = 0
    for place, part in enumerate(data.split(b'"""')):
        if place % 2 == 0:
            offsets.extend(position + found.start() for found in _TURN_MARK.finditer(part))
        position += len(part) + 3
    return offsets


_TURN_MARK = re.compile(rb"\r?\n\[\[turns\]\]")
_TORN_MARK = re.compile(rb"\r?\n\[(\[(t(u(r(n(s\]?)?)?)?)?)?)?\Z")
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
