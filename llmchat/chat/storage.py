"""Transcript files: made, opened, appended to.

A file only grows while a conversation goes on: each turn is appended, and on the
disk, when it ends. The reply in progress lies in a small file beside it, NAME.partial,
so that a killed process loses a second or two. Where the conversation is left at
another turn than the last one written, closing the file adds a few bytes that say so. Whatever fails, what was kept
before stays as it was, and turns that could not be kept are tried again with the next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmchat.chat.archive import SUFFIX, TranscriptSummary, latest_transcript, list_transcripts, read_transcript
from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import (
    SCHEMA,
    Document,
    parse_document,
    render_header,
    render_selection,
    render_turn,
)
from llmchat.chat.transcript_toml import header_table, make_transcript, parse_turn, turn_table
from llmchat.chat.turn import Turn
from llmchat.errors import TranscriptError, UsageError
from llmchat.files import PRIVATE, append_bytes, append_text, describe, lock, replace_file, sync_directory, write_text
from llmchat.paths import ensure, transcripts_dir

__all__ = ["TranscriptFile", "TranscriptSummary", "latest_transcript", "list_transcripts", "read_transcript"]

_READ_CHUNK = 1 << 20


class TranscriptFile:
    """One open transcript file. No other process can open it until it is closed."""

    def __init__(self, path: Path, transcript: Transcript, handle: int, *, writable: bool = True) -> None:
        self.path = path
        self.transcript = transcript
        self.writable = writable
        """Whether turns can be kept; False for a file that may only be read."""
        self._handle = handle
        self._header = header_table(transcript)  # as it stands in the file
        self._selected = transcript.leaf_id  # what opening the file would select
        self._pending: list[Turn] = []  # turns that could not be written yet
        self._foreign_header: dict[str, Any] = {}  # keys that are not llmchat's own
        self._foreign_turns: dict[str, tuple[Turn, Mapping[str, Any]]] = {}
        self._checkpoint_failed = False

    # ── opening ──

    @classmethod
    def create(cls, transcript: Transcript, path: Path | None = None) -> Self:
        """Make a file that holds the conversation as it is.

        Args:
            transcript: The conversation; turns it already has are written at once.
            path: A new file; by default one in the transcripts directory, named after date and title.

        Raises:
            TranscriptError: The file exists already, or cannot be written.
        """
        target, handle = _create_new(_default_names(transcript) if path is None else iter((path,)))
        file = cls(target, transcript, handle)
        lock(handle)
        try:
            append_bytes(handle, file._content())
        except OSError as error:
            file.close()
            with contextlib.suppress(OSError):
                target.unlink()
            raise _unsaved(target, describe(error)) from error
        sync_directory(target.parent)
        return file

    @classmethod
    def open(cls, path: Path) -> tuple[Self, list[str]]:
        """Open a file to go on with its conversation.

        A torn last turn is cut off the file, and a reply that was in progress when
        llmchat ended is taken in from the file beside it.

        Returns:
            The open file, and a sentence for the person about each repair.

        Raises:
            TranscriptError: It cannot be read, is damaged, or is open elsewhere.
        """
        handle, writable = _open_locked(path)
        try:
            data = _read_all(handle)
            document = parse_document(data, path.name)
            file = cls(path, make_transcript(document, path.name), handle, writable=writable)
        except OSError as error:
            os.close(handle)
            raise TranscriptError(f"{path} cannot be read: {describe(error)}.") from error
        except TranscriptError:
            os.close(handle)
            raise
        file._remember_foreign_keys(document)
        notices = [] if writable else [f"{path.name} may only be read: the conversation goes on unsaved."]
        notices += file._cut(data, document)
        notices += file._recover()
        return file, notices

    def _remember_foreign_keys(self, document: Document) -> None:
        own = header_table(self.transcript)
        self._foreign_header = {key: value for key, value in document.header.items() if key not in own}
        for turn, table in zip(self.transcript, document.turns, strict=True):
            if turn_table(turn) != table:
                self._foreign_turns[turn.id] = (turn, table)

    def _cut(self, data: bytes, document: Document) -> list[str]:
        """Take off the file what was torn, so that more can be added."""
        if document.length == len(data):
            return []
        notice = f"The last turn in {self.path.name} was incomplete and was left out."
        if not self.writable:
            return [notice] if document.has_torn_turn else []
        kept = self.path.with_name(self.path.name + ".cut")
        try:
            if document.has_torn_turn:
                append_text(kept, data[document.length :].decode(errors="replace"))
            os.ftruncate(self._handle, document.length)
            os.fsync(self._handle)
        except OSError as error:
            self.writable = False
            return [f"{notice} The conversation goes on unsaved: {describe(error)}."]
        return [f"{notice} Its remains are in {kept.name}."] if document.has_torn_turn else []

    def _recover(self) -> list[str]:
        """Take in the reply that was in progress when llmchat was ended."""
        try:
            data = self._side_path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            return [f"{self._side_path.name} cannot be read: {describe(error)}."]
        try:
            turn = _parse_checkpoint(data, self._side_path.name, self.transcript)
        except TranscriptError as error:
            return [f"The reply that was in progress could not be recovered. {error.message}"]
        if turn is None:
            self.clear_checkpoint()
            return []
        self.transcript.add(turn)
        notice = "llmchat ended during the last reply; what there was of it has been recovered."
        try:
            self.append(turn)
        except TranscriptError as error:
            return [notice, error.message]
        return [notice]

    # ── keeping ──

    def append(self, turn: Turn) -> None:
        """Keep a turn of the conversation that ended, and wait until the disk has it.

        An assistant's turn ends the reply in progress. If the title or the model has
        changed since, the file is written anew.

        Raises:
            TranscriptError: It cannot be written. The conversation can go on; the turn is
                kept with the next one, if that succeeds.
        """
        # What could not be kept before goes first, unless it has been deleted since.
        self._pending = [*(item for item in self._pending if item.id in self.transcript), turn]
        self._check_writable()
        if header_table(self.transcript) != self._header or not self.path.exists():
            self.rewrite()
        else:
            chunk = "".join(render_turn(turn_table(item)) for item in self._pending).encode()
            try:
                append_bytes(self._handle, self._missing_line_end() + chunk)
            except OSError as error:
                raise _unsaved(self.path, describe(error)) from error
            self._pending.clear()
            self._selected = turn.id
        if turn.role == "assistant":
            self.clear_checkpoint()

    def checkpoint(self, turn: Turn) -> None:
        """Keep what there is of the reply in progress, in place of what was kept of it before.

        Raises:
            TranscriptError: It cannot be written; said once, until it succeeds again.
        """
        if not self.writable:
            return
        header = render_header({"schema": SCHEMA, "transcript": self.transcript.id})
        try:
            write_text(self._side_path, header + render_turn(turn_table(turn)), durable=False)
        except OSError as error:
            if self._checkpoint_failed:
                return
            self._checkpoint_failed = True
            raise TranscriptError(f"The reply in progress cannot be kept: {describe(error)}.") from error
        self._checkpoint_failed = False

    def clear_checkpoint(self) -> None:
        """Remove what was kept of the reply in progress."""
        with contextlib.suppress(OSError):
            self._side_path.unlink(missing_ok=True)

    def rewrite(self) -> None:
        """Write the whole conversation anew, after a rename or a deletion.

        Raises:
            TranscriptError: It cannot be written; the file stays as it was.
        """
        self._check_writable()
        try:
            handle = replace_file(self.path, self._content(), prepare=lock)
        except OSError as error:
            raise _unsaved(self.path, describe(error)) from error
        os.close(self._handle)
        self._handle = handle
        self._header = header_table(self.transcript)
        self._selected = self.transcript.leaf_id
        self._pending.clear()

    def keep_selection(self) -> None:
        """Keep which turn is selected, so that the conversation opens where it is left.

        Raises:
            TranscriptError: It cannot be written.
        """
        if self.transcript.leaf_id == self._selected or self._pending or not self.writable:
            return
        self._check_writable()
        try:
            append_bytes(self._handle, self._missing_line_end() + self._selection().encode())
        except OSError as error:
            raise _unsaved(self.path, describe(error)) from error
        self._selected = self.transcript.leaf_id

    def _selection(self) -> str:
        return render_selection(self.transcript.leaf_id, len(self.transcript))

    def _check_writable(self) -> None:
        if not self.writable:
            raise _unsaved(self.path, "it may only be read")
        with contextlib.suppress(OSError):
            if not os.path.samestat(os.fstat(self._handle), self.path.stat()):
                raise _unsaved(self.path, "another program has put a file in its place; save under another name")

    def close(self) -> None:
        """Let go of the file. Closing twice does no harm."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _side_path(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")

    def _content(self) -> bytes:
        header = header_table(self.transcript) | self._foreign_header
        turns = list(self.transcript)
        text = render_header(header) + "".join(render_turn(self._table(turn)) for turn in turns)
        if turns and turns[-1].id != self.transcript.leaf_id:
            text += self._selection()
        return text.encode()

    def _table(self, turn: Turn) -> Mapping[str, Any]:
        loaded, table = self._foreign_turns.get(turn.id, (None, {}))
        return table if loaded is turn else turn_table(turn)

    def _missing_line_end(self) -> bytes:
        # Some editors leave the last line without its end.
        length = os.lseek(self._handle, 0, os.SEEK_END)
        return b"" if length == 0 or os.pread(self._handle, 1, length - 1) == b"\n" else b"\n"


def _unsaved(path: Path, cause: str) -> TranscriptError:
    return TranscriptError(f"The conversation is not saved: {path} cannot be written ({cause}).")


def _default_names(transcript: Transcript) -> Iterator[Path]:
    """Names in the transcripts directory, made of date, time and the title's first words."""
    try:
        directory = ensure(transcripts_dir())
    except UsageError as error:
        raise TranscriptError(f"The conversation is not saved: {error.message}") from error
    slug = "-".join(re.findall(r"\w+", transcript.title.lower())[:6])[:40].strip("-_") or "conversation"
    stem = f"{transcript.created.astimezone():%Y-%m-%d-%H%M}-{slug}"
    yield directory / f"{stem}{SUFFIX}"
    yield from (directory / f"{stem}-{number}{SUFFIX}" for number in range(2, 1000))


def _create_new(names: Iterator[Path]) -> tuple[Path, int]:
    path = None
    for path in names:
        try:
            return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unsaved(path, describe(error)) from error
    raise TranscriptError(f"{path} exists already. Resume it, or choose another name.")


def _open_locked(path: Path) -> tuple[int, bool]:
    """Open and lock a file; a file that may not be written is opened for reading."""
    while True:
        try:
            handle, writable = _open(path)
        except OSError as error:
            raise TranscriptError(f"{path} cannot be opened: {describe(error)}.") from error
        if not lock(handle):
            os.close(handle)
            raise TranscriptError(f"{path} is open in another llmchat. Close it there, or start a new conversation.")
        # A rewrite by the other process may have put a new file in this one's place just now.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle, writable
        os.close(handle)


def _open(path: Path) -> tuple[int, bool]:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    try:
        return os.open(path, os.O_RDWR), True
    except FileNotFoundError:
        raise
    except OSError:
        return os.open(path, os.O_RDONLY), False


def _read_all(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return b"".join(iter(lambda: os.read(handle, _READ_CHUNK), b""))


def _parse_checkpoint(data: bytes, name: str, transcript: Transcript) -> Turn | None:
    """The unfinished turn in a side file; None if there is nothing to recover."""
    document = parse_document(data, name)
    if document.header.get("transcript") != transcript.id or not document.turns:
        return None
    turn = parse_turn(document.turns[0], name)
    if turn.id in transcript or not turn.text:
        return None
    if turn.parent is not None and turn.parent not in transcript:
        raise TranscriptError(f"{name} follows a turn that is not in the conversation.")
    detail = "llmchat ended before the reply did"
    reply = turn.reply and replace(turn.reply, finish_reason="cancelled", finish_detail=detail)
    return replace(turn, reply=reply)
