"""Transcript files: made, opened, appended to.

A file only grows: each turn is appended, and on the disk, when it ends, and so is what
else happens, such as a deletion or another title. The reply in progress lies in a small
file beside it, NAME.partial, so that a killed process loses a second or two. What is
damaged goes into NAME.cut when the file is opened. Whatever fails, what was kept before
stays as it was, and what could not be kept is tried again with the next turn. Only
`compact`, which a person asks for, drops what was deleted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from llmchat.chat.archive import (
    TranscriptSummary,
    latest_transcript,
    left_out,
    list_transcripts,
    read_transcript,
)
from llmchat.chat.history import Mark
from llmchat.chat.reply_in_progress import parse_checkpoint, side_path
from llmchat.chat.standing_state import StandingState
from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import (
    SCHEMA,
    Document,
    Record,
    parse_document,
    render_document,
    render_header,
    render_record,
    render_turn,
)
from llmchat.chat.transcript_place import (
    clear_half_written,
    create_new,
    default_names,
    open_locked,
    read_all,
    unsaved,
)
from llmchat.chat.transcript_reading import read_conversation
from llmchat.chat.transcript_toml import (
    header_table,
    make_transcript,
    mark_table,
    state_table,
    template_tables,
    turn_table,
)
from llmchat.chat.turn import Turn
from llmchat.errors import TranscriptError
from llmchat.files import PRIVATE, append_bytes, describe, lock, replace_file, sync_directory, write_text

__all__ = ["TranscriptFile", "TranscriptSummary", "latest_transcript", "list_transcripts", "read_transcript"]


class TranscriptFile:
    """One open transcript file. No other process can open it until it is closed."""

    def __init__(self, path: Path, transcript: Transcript, handle: int, *, writable: bool = True) -> None:
        self.path = path
        self.transcript = transcript
        self.writable = writable
        """Whether turns can be kept; False for a file that may only be read."""
        self._handle = handle
        self._header = header_table(transcript)  # as it stands in the file
        self._kept = len(transcript.log)  # how much of the log is in the file
        self._state = transcript.state  # as it stands in the file
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
        transcript.note_selection()
        target, handle = create_new(default_names(transcript) if path is None else iter((path,)))
        file = cls(target, transcript, handle)
        lock(handle)
        try:
            append_bytes(handle, _content(transcript))
        except OSError as error:
            file.close()
            with contextlib.suppress(OSError):
                target.unlink()
            raise unsaved(target, describe(error)) from error
        sync_directory(target.parent)
        return file

    @classmethod
    def open(cls, path: Path) -> tuple[Self, list[str]]:
        """Open a file to go on with its conversation.

        A torn last turn is cut off the file, and so is what is damaged; both are kept in
        NAME.cut. A reply that was in progress when llmchat ended is taken in from the file
        beside it.

        Returns:
            The open file, and a sentence for the person about each repair.

        Raises:
            TranscriptError: It cannot be read, is damaged, or is open elsewhere.
        """
        handle, writable = open_locked(path)
        try:
            data = read_all(handle)
            document, transcript = read_conversation(data, path.name)
            file = cls(path, transcript, handle, writable=writable)
        except OSError as error:
            os.close(handle)
            raise TranscriptError(f"{path} cannot be read: {describe(error)}.") from error
        except TranscriptError:
            os.close(handle)
            raise
        if writable:
            clear_half_written(path)
        notices = [] if writable else [f"{path.name} may only be read: the conversation goes on unsaved."]
        notices += file._cut(data, document)
        notices += file._recover()
        return file, notices

    def _cut(self, data: bytes, document: Document) -> list[str]:
        """Take off the file what cannot be read, so that more can be added; all of it is kept beside it."""
        notices = left_out(document, self.path.name)
        if document.length == len(data) and document.repaired is None:
            return []
        if not self.writable:
            return notices
        try:
            if document.repaired is not None:
                if document.damage:
                    self._keep_aside(*(damage.data for damage in document.damage))
                self._replace(document.repaired)
            elif document.has_torn_turn:
                self._keep_aside(data[document.length :])
            if document.repaired is None:
                os.ftruncate(self._handle, document.length)
                os.fsync(self._handle)
        except OSError as error:
            self.writable = False
            return [*notices, f"The conversation goes on unsaved: {describe(error)}."]
        if document.repaired is not None and not document.damage:
            return notices
        return [f"{notice} Its remains are in {self._cut_path.name}." for notice in notices]

    def _keep_aside(self, *parts: bytes) -> None:
        handle = os.open(self._cut_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE)
        try:
            append_bytes(handle, b"".join(part + b"\n" for part in parts))
        finally:
            os.close(handle)
        sync_directory(self.path.parent)

    def _put_aside(self, checkpoint: bytes) -> str:
        """Move a reply in progress that cannot be recovered to the remains; returns a sentence on it."""
        if not self.writable:
            return ""
        try:
            self._keep_aside(checkpoint)
        except OSError:
            return ""
        self.clear_checkpoint()
        return f" What there is of it is in {self._cut_path.name}."

    def _recover(self) -> list[str]:
        """Take in the reply that was in progress when llmchat was ended."""
        try:
            data = self._side_path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            return [f"{self._side_path.name} cannot be read: {describe(error)}."]
        try:
            turn = parse_checkpoint(data, self._side_path.name, self.transcript)
        except TranscriptError as error:
            return [f"The reply that was in progress could not be recovered. {error.message}{self._put_aside(data)}"]
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

    @property
    def has_all(self) -> bool:
        """Whether all that happened is in the file."""
        return self._kept == len(self.transcript.log)

    def append(self, turn: Turn) -> None:
        """Keep a turn of the conversation that ended, as `keep` does; an assistant's ends the reply in progress."""
        self.keep()
        if turn.role == "assistant":
            self.clear_checkpoint()

    def keep(self) -> None:
        """Keep what happened since, and wait until the disk has it.

        Raises:
            TranscriptError: It cannot be written. The conversation can go on; what could not be
                kept is kept with the next, if that succeeds.
        """
        self._check_writable()
        header, log = header_table(self.transcript), self.transcript.log
        without = dict.fromkeys(
            self._header.keys() - header.keys(), ""
        )  # such as the title of a message that was no turn
        moved = {key: value for key, value in (without | header).items() if value != self._header.get(key)}
        chunk = render_record("headers", moved) if moved else ""
        chunk += "".join(_rendered(self.transcript, self._kept))
        state = self.transcript.state
        chunk += _rendered_state(state) if state != self._state else ""
        if not chunk and self.path.exists():
            return
        try:
            if self.path.exists():
                append_bytes(self._handle, self._missing_line_end() + chunk.encode())
            else:
                # Removed under us: what it had is still to be read.
                self._replace(read_all(self._handle) + self._missing_line_end() + chunk.encode())
        except OSError as error:
            raise unsaved(self.path, describe(error)) from error
        self._header, self._kept, self._state = header, len(log), state

    def checkpoint(self, turn: Turn) -> None:
        """Keep what there is of the reply in progress, in place of what was kept of it before.

        Raises:
            TranscriptError: It cannot be written; said once, until it succeeds again.
        """
        if not self.writable:
            return
        header = render_header({"schema": SCHEMA, "transcript": self.transcript.id})
        try:
            templates = "".join(render_record("templates", table) for table in template_tables(turn).values())
            write_text(self._side_path, header + templates + render_turn(turn_table(turn)), durable=False)
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

    def compact(self) -> None:
        """Drop for good what was deleted, on the disk and in the conversation; all else stays.

        Raises:
            TranscriptError: It cannot be written; file and conversation stay as they were.
        """
        self.keep()
        self.clear_checkpoint()
        document = parse_document(read_all(self._handle), self.path.name)
        gone, header = self.transcript.deleted | self.transcript.retracted, dict(document.header)
        records = []
        for kind, table in document.records:
            if kind == "headers":
                header |= table
            elif kind not in ("deletions", "undos", "redos") and not (kind == "turns" and table.get("id") in gone):
                records.append(Record(kind, table))
        header |= header_table(self.transcript) | {"title": self.transcript.title_without_deleted}
        if make_transcript(replace(document, header=header, records=records), "").leaf_id != self.transcript.leaf_id:
            mark = Mark("selections", self.transcript.leaf_id)
            records.append(Record("selections", mark_table(mark, sum(kind == "turns" for kind, _ in records))))
        try:
            self._replace(render_document(header, records).encode())
        except OSError as error:
            raise unsaved(self.path, describe(error)) from error
        self.transcript.forget_deleted()
        self._kept, self._header = len(self.transcript.log), header_table(self.transcript)

    def _replace(self, content: bytes) -> None:
        """Put a new file in place of this one, whole or not at all."""
        handle = replace_file(self.path, content, prepare=lock)
        os.close(self._handle)
        self._handle = handle

    def keep_selection(self) -> None:
        """Keep which turn is selected, so that the conversation opens where it is left.

        Raises:
            TranscriptError: It cannot be written.
        """
        if self.writable:
            self.transcript.note_selection()
            self.keep()

    def _check_writable(self) -> None:
        if not self.writable:
            raise unsaved(self.path, "it may only be read")
        with contextlib.suppress(OSError):
            if not os.path.samestat(os.fstat(self._handle), self.path.stat()):
                raise unsaved(self.path, "another program has put a file in its place; save under another name")

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
        return side_path(self.path)

    @property
    def _cut_path(self) -> Path:
        return self.path.with_name(self.path.name + ".cut")

    def _missing_line_end(self) -> bytes:
        # Some editors leave the last line without its end.
        length = os.lseek(self._handle, 0, os.SEEK_END)
        return b"" if length == 0 or os.pread(self._handle, 1, length - 1) == b"\n" else b"\n"


def _content(transcript: Transcript) -> bytes:
    records = "".join(_rendered(transcript)) + _rendered_state(transcript.state)
    return (render_header(header_table(transcript)) + records).encode()


def _rendered_state(state: StandingState | None) -> str:
    return "" if state is None else render_record("states", state_table(state))


def _rendered(transcript: Transcript, start: int = 0) -> Iterator[str]:
    """The records of a conversation's log from one of them on."""
    turn_count, known = 0, set[str]()
    for place, entry in enumerate(transcript.log):
        templates = template_tables(entry) if isinstance(entry, Turn) else {}
        new = [table for name, table in templates.items() if name not in known]
        known |= templates.keys()
        turn_count += isinstance(entry, Turn)
        if place < start:
            continue
        if isinstance(entry, Turn):
            yield from (render_record("templates", table) for table in new)
            yield render_turn(turn_table(entry))
        else:
            yield render_record(entry.kind, mark_table(entry, turn_count))
