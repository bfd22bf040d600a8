"""Saved conversations: read without being opened, listed, found."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from pathlib import Path

from llmchat.chat.reply_in_progress import left_beside
from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import Damage, Document, table_marks
from llmchat.chat.transcript_reading import read_conversation
from llmchat.errors import TranscriptError
from llmchat.files import describe
from llmchat.paths import transcripts_dir

SUFFIX = ".toml"
"""How the names of transcript files end."""


def read_transcript(path: Path) -> tuple[Transcript, list[str]]:
    """Read a conversation without opening it for writing; nothing on the disk is changed.

    Returns:
        The conversation, and a sentence about whatever was left out, such as a torn last turn or a reply in progress.

    Raises:
        TranscriptError: It cannot be read, or is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TranscriptError(f"{path} cannot be read: {describe(error)}.") from error
    document, transcript = read_conversation(data, path.name)
    return transcript, [*left_out(document, path.name), *left_beside(path, transcript)]


def left_out(document: Document, name: str) -> list[str]:
    """A sentence about each part of a file that could not be read."""
    notices = [
        f"{name} is damaged {_lines(damage)}: what stands there was left out, and the turns around it were read."
        for damage in document.damage[:_MOST_TOLD]
    ]
    if (more := len(document.damage) - _MOST_TOLD) > 0:
        notices.append(f"{name} is damaged in {more} more place{'s' if more > 1 else ''}.")
    if document.repaired is not None and not document.damage:
        notices.append(f"{name} lacks a turn that another one follows; a word stands in its place.")
    if document.has_torn_turn:
        notices.append(f"The last turn in {name} is incomplete and was left out.")
    return notices


_MOST_TOLD = 3


def _lines(damage: Damage) -> str:
    if damage.first_line >= damage.last_line:
        return f"at line {damage.first_line}"
    return f"from line {damage.first_line} to {damage.last_line}"


@dataclass(frozen=True, slots=True)
class TranscriptSummary:
    """What a list of conversations shows of one."""

    path: Path
    title: str
    model: str
    created: datetime
    modified: datetime
    turn_count: int
    """Turns of all branches."""


def list_transcripts(directory: Path | None = None) -> list[TranscriptSummary]:
    """The saved conversations, the one written to last first. Files that are no transcripts are passed over."""
    return recent_transcripts(sys.maxsize, directory)


def recent_transcripts(most: int, directory: Path | None = None) -> list[TranscriptSummary]:
    """Those that were written to last, the newest first, without reading the others."""
    paths = sorted(
        (directory or transcripts_dir()).glob(f"*{SUFFIX}"), key=lambda path: (_modified(path), path.name), reverse=True
    )
    found: list[TranscriptSummary] = []
    for path in paths:
        if len(found) == most:
            break
        with contextlib.suppress(OSError, TranscriptError):
            # Opening a pipe would wait for somebody who writes.
            if path.is_file():
                found.append(_summarize(path))
    return found


def latest_transcript(directory: Path | None = None) -> Path | None:
    """The conversation that was written to last; None if there is none."""
    summaries = recent_transcripts(1, directory)
    return summaries[0].path if summaries else None


def read_head(path: Path) -> Transcript:
    """Read a conversation's header and its first two turns, which is quick for a long one too.

    Raises:
        TranscriptError: It cannot be read, or is damaged.
    """
    try:
        return _head(path.read_bytes(), path)
    except OSError as error:
        raise TranscriptError(f"{path} cannot be read: {describe(error)}.") from error


def _head(data: bytes, path: Path) -> Transcript:
    marks = list(table_marks(data))
    ends = [*(offset for offset, _ in marks[1:]), len(data)]
    turns = [offset for offset, kind in marks if kind == "turns"]
    head = data[: turns[2]] if len(turns) > 2 else data
    # Renamed later, it still has its new name.
    names = b"".join(data[start:end] for (start, kind), end in zip(marks, ends, strict=False) if kind == "headers")
    return read_conversation(head + names if len(turns) > 2 else head, path.name)[1]


def _summarize(path: Path) -> TranscriptSummary:
    data = path.read_bytes()
    kinds = [kind for _, kind in table_marks(data)]
    if "deletions" in kinds:
        _, transcript = read_conversation(data, path.name)
        turn_count = len(transcript)
    else:
        # The header and two turns, a system prompt and the first question, say all that is shown.
        transcript, turn_count = _head(data, path), kinds.count("turns")
    return TranscriptSummary(
        path=path,
        title=transcript.title or path.stem,
        model=transcript.model,
        created=transcript.created,
        modified=_modified(path),
        turn_count=turn_count,
    )


def _modified(path: Path) -> datetime:
    """When a file was written to; long ago where nobody knows, or its time is none that a calendar has."""
    try:
        moment = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return _LONG_AGO
    return moment if MINYEAR < moment.year < MAXYEAR else _LONG_AGO


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
