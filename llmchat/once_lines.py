"""A file of many prompts, a JSON value a line, and the file that takes their replies."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from llmchat.chat.generation_config import SEED_LIMIT, GenerationConfig
from llmchat.chat.job import Job
from llmchat.chat.plain_text import checked_text
from llmchat.chat.turn import ROLES, Turn, under_system
from llmchat.errors import UsageError
from llmchat.files import PRIVATE, append_bytes, describe, lock

LINE_LIMIT = 16 * 2**20
"""Bytes of a line; no model's context holds as much."""

_BEGINNING = b'{"line": '
_OWN_KEYS = ("prompt", "messages", "system", "prefill", "raw", "id")
"""What an object may hold beside settings."""


@dataclass(frozen=True, slots=True)
class Given:
    """What holds for every line that does not say otherwise."""

    config: GenerationConfig
    seed: int
    """Of the first line; they count up."""
    system: str = ""
    prefill: str = ""
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One prompt of the file."""

    number: int
    """Which line it is, from 1."""
    job: Job | UsageError
    """What is to be done, or why it cannot be."""
    name: object = None
    """What the line itself says as its "id"."""

    @property
    def question(self) -> str:
        """What is asked: the last message, or the text to go on from."""
        return self.job.turns[-1].text if isinstance(self.job, Job) else ""


def read_lines(handle: BinaryIO, given: Given) -> list[Line]:
    """The prompts of a file; empty lines are none.

    Args:
        handle: Each line a JSON string, a list of messages, or an object with "prompt" or "messages" and
            any of "system", "prefill", "raw", "id" and the settings of a reply.
        given: What holds where a line does not say otherwise.

    Raises:
        OSError: It cannot be read.
    """
    lines, number = [], 0
    while data := handle.readline(LINE_LIMIT + 1):
        number += 1
        if len(data) > LINE_LIMIT:
            while data and not data.endswith(b"\n"):
                data = handle.readline(LINE_LIMIT)
            lines.append(Line(number, UsageError(f"It is longer than {LINE_LIMIT // 2**20} MiB. Shorten it.")))
        elif data.strip():
            lines.append(_line(number, data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data, given))
    return lines


def _line(number: int, data: bytes, given: Given) -> Line:
    try:
        value = _parsed(data)
        return Line(number, _job(value, given, number), value.get("id"))
    except UsageError as error:
        return Line(number, error)


def _parsed(data: bytes) -> dict[str, Any]:
    """A line as an object, whichever way it is written."""
    try:
        value = json.loads(data)
    except UnicodeDecodeError:
        raise UsageError("It is not UTF-8.") from None
    except RecursionError:
        raise UsageError("It is nested too deeply.") from None
    except ValueError:
        raise UsageError('It is no JSON. A prompt is a string in quotes: "Why is the sea salty?"') from None
    match value:
        case str():
            return {"prompt": value}
        case list():
            return {"messages": value}
        case dict():
            return value
    raise UsageError("It is neither a string, a list of messages nor an object.")


def _job(value: Mapping[str, Any], given: Given, number: int) -> Job:
    if ("prompt" in value) == ("messages" in value):
        raise UsageError('An object has either "prompt" or "messages".')
    named = {name: each for name, each in value.items() if name not in _OWN_KEYS}
    try:
        config = GenerationConfig.from_mapping(named, given.config)
    except UsageError as error:
        near = [difflib.get_close_matches(name, _OWN_KEYS, 1) for name in named]
        raise UsageError(f"{error.message} (Or {near[0][0]!r}?)") if any(near) and near[0] else error from None
    turns = _messages(value["messages"]) if "messages" in value else (Turn("user", _text(value, "prompt")),)
    if not turns[-1].text.strip():
        raise UsageError("The prompt is empty. Give some text to answer.")
    raw = value.get("raw", given.raw)
    if not isinstance(raw, bool):
        raise UsageError(f'"raw" takes true or false, not {raw!r}.')
    if "system" in value or turns[0].role != "system":
        turns = under_system(turns, _text(value, "system", given.system))
    seed = (given.seed + number - 1) % SEED_LIMIT if named.get("seed", -1) in (None, -1) else config.seed
    assert seed is not None
    return Job(turns, config, seed, raw, _text(value, "prefill", given.prefill))


def _messages(given: object) -> tuple[Turn, ...]:
    if not isinstance(given, list) or not given:
        raise UsageError("A conversation is a list of messages, the last of them to be answered.")
    turns = []
    for message in given:
        if not isinstance(message, dict) or set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise UsageError(f'A message is {{"role": …, "content": …}}, its role one of {", ".join(ROLES)}.')
        turns.append(Turn(message["role"], _text(message, "content")))
    if turns[-1].role != "user":
        raise UsageError("The last message must be the user's: it is what is answered.")
    if any(turn.role == "system" for turn in turns[1:]):
        raise UsageError("A system message stands at the beginning.")
    return tuple(turns)


def _text(value: Mapping[str, Any], name: str, default: str = "") -> str:
    text = value.get(name, default)
    if not isinstance(text, str):
        raise UsageError(f'"{name}" takes a string, not {text!r}.')
    return checked_text(text, f'"{name}"').removesuffix("\n")


class ResultsFile:
    """The file that takes the replies, a JSON object a line; what is there already is not done again."""

    def __init__(self, path: Path, lines: Sequence[Line]) -> None:
        """Open it, or make it; a last line that was torn is taken off.

        Args:
            path: The file.
            lines: The prompts.

        Raises:
            UsageError: It cannot be written, another llmchat writes it, or it holds something else than these replies.
        """
        self.done: set[int] = set()
        """The numbers of the lines whose replies are there."""
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE)
        except OSError as error:
            raise UsageError(f"The results cannot be written to {path}: {describe(error)}.") from None
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            if not stat.S_ISREG(os.fstat(self._handle).st_mode):
                raise UsageError(f"{path} is no file. Without --output the replies are printed.")
            if not lock(self._handle):
                raise UsageError(f"Another llmchat writes to {path}. Wait for it, or give another file.")
            self._take_up(path, {line.number: line for line in lines})
            on_failure.pop_all()

    def _take_up(self, path: Path, lines: Mapping[int, Line]) -> None:
        kept, torn = 0, b""
        with open(self._handle, "rb", closefd=False) as file:
            for row, data in enumerate(file, 1):
                if not data.endswith(b"\n"):
                    torn = data
                    break
                self.done.add(self._number_of(data, path, row, lines))
                kept += len(data)
        if not torn:
            return
        if not torn.startswith(_BEGINNING[: len(torn)]):
            raise UsageError(f"{path} holds something else than replies. Give another file.")
        os.ftruncate(self._handle, kept)

    def _number_of(self, data: bytes, path: Path, row: int, lines: Mapping[int, Line]) -> int:
        """Which prompt's reply a line is."""
        try:
            told = json.loads(data)
            number, question = told["line"], told["prompt"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise UsageError(f"{path} holds something else than replies in line {row}. Give another file.") from None
        known = lines.get(number) if isinstance(number, int) else None
        if known is None or known.question != question:
            raise UsageError(
                f"{path} has the reply to another prompt in line {row}. Give another file for these prompts."
            )
        return known.number

    def add(self, text: str) -> None:
        """Append a line, for good.

        Raises:
            OSError: It cannot be written; nothing of it is there.
        """
        append_bytes(self._handle, f"{text}\n".encode())

    def close(self) -> None:
        """Give it free."""
        os.close(self._handle)
