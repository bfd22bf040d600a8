"""From a transcript file's bytes to the conversation, also where a turn says what no turn can say."""

from __future__ import annotations

from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import Document, Record, has_text, parse_document
from llmchat.chat.transcript_salvage import salvage
from llmchat.chat.transcript_toml import make_transcript, parse_turn
from llmchat.errors import TranscriptError


def read_conversation(data: bytes, name: str) -> tuple[Document, Transcript]:
    """Read a file; a turn with a value that is not of its kind counts as damaged, like one that is no TOML.

    Args:
        data: The file's content.
        name: The file's name, for messages.

    Raises:
        TranscriptError: It is no transcript, was written by a newer llmchat, or no turn of it can be read.
    """
    document = parse_document(data, name)
    try:
        return document, make_transcript(document, name)
    except TranscriptError:
        saved = salvage(data, name, _makes_sense)
        if saved is None:
            raise
        return saved, make_transcript(saved, name)


def _makes_sense(record: Record) -> bool:
    if record.kind != "turns":
        return True
    try:
        parse_turn(record.table, "")
    except TranscriptError:
        return False
    return has_text(record)
