"""Saved conversations: read without being opened, listed, found."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import parse_document, turn_offsets
from llmchat.chat.transcript_toml import make_transcript
from llmchat.errors import TranscriptError
from llmchat.files import describe
from llmchat.paths import transcripts_dir

SUFFIX = ".toml"
"""How the names of transcript files end."""


def read_transcript(path: Path) -> tuple[Transcript, list[str]]:
    """Read a conversation without opening it for writing; nothing on the disk is changed.

    Returns:
        The conversation, and a sentence about a torn last turn, if there is one.

    Raises:
        TranscriptError: It cannot be read, or is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TranscriptError(f"{path} cannot be read: {describe(error)}.") from error
    document = parse_document(data, path.name)
    notices = [f"The last turn in {path.name} is incomplete and was left out."] if document.has_torn_turn else []
    return make_transcript(document, path.name), notices


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
    found = []
    for path in (directory or transcripts_dir()).glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError, TranscriptError):
            found.append(_summarize(path))
    return sorted(found, key=lambda summary: (summary.modified, summary.path.name), reverse=True)


def latest_transcript(directory: Path | None = None) -> Path | None:
    """The conversation that was written to last; None if there is none."""
    summaries = list_transcripts(directory)
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
    offsets = turn_offsets(data)
    return make_transcript(parse_document(data[: offsets[2]] if len(offsets) > 2 else data, path.name), path.name)


def _summarize(path: Path) -> TranscriptSummary:
    data = path.read_bytes()
    # The header and two turns, a system prompt and the first question, say all that is shown.
    transcript = _head(data, path)
    return TranscriptSummary(
        path=path,
        title=transcript.title or path.stem,
        model=transcript.model,
        created=transcript.created,
        modified=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        turn_count=len(turn_offsets(data)),
    )
