"""The reply that is being written: it lies in a small file beside the conversation's, NAME.partial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import parse_document
from llmchat.chat.transcript_toml import parse_turn, read_templates
from llmchat.chat.turn import Turn
from llmchat.errors import TranscriptError


def side_path(path: Path) -> Path:
    """The file for a conversation's reply in progress."""
    return path.with_name(path.name + ".partial")


def parse_checkpoint(data: bytes, name: str, transcript: Transcript) -> Turn | None:
    """The unfinished turn in a side file; None if there is nothing to recover.

    Args:
        data: The file's content.
        name: The file's name, for messages.
        transcript: The conversation that it is to belong to.

    Raises:
        TranscriptError: It is damaged, or follows a turn that is not there.
    """
    document = parse_document(data, name)
    if document.header.get("transcript") != transcript.id or not document.turns:
        return None
    turn = parse_turn(document.turns[0], name, read_templates(document))
    if transcript.has_had(turn.id) or not turn.text:
        return None
    if turn.parent is not None and turn.parent not in transcript:
        raise TranscriptError(f"{name} follows a turn that is not in the conversation.")
    detail = "llmchat ended before the reply did"
    reply = turn.reply and replace(turn.reply, finish_reason="cancelled", finish_detail=detail)
    return replace(turn, reply=reply)


def left_beside(path: Path, transcript: Transcript) -> list[str]:
    """A sentence on the reply in progress, if there is one, for whoever reads a conversation without it."""
    side = side_path(path)
    try:
        turn = parse_checkpoint(side.read_bytes(), side.name, transcript)
    except FileNotFoundError:
        return []
    except (OSError, TranscriptError):
        return [f"A reply in progress was left out: {side.name} cannot be read."]
    if turn is None:
        return []
    return [f"A reply in progress was left out: it lies in {side.name} until the conversation is opened again."]
