"""A conversation in other forms: Markdown, plain text, JSON.

Markdown and text hold the selected path; JSON holds every branch. What the model
wrote stays data: control characters are shown as stand-ins, and no turn's
text can swallow the one after it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmchat.chat.endings import check_suffix
from llmchat.chat.plain_text import visible
from llmchat.chat.thought import Thought
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, Turn, token_count
from llmchat.chat.words import thought_words

_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$")
_NAMES = {"user": "You", "system": "System", "assistant": "Assistant"}


def to_markdown(transcript: Transcript) -> str:
    """The selected path as Markdown: a heading for each turn, a person's words as quotations."""
    parts = [f"# {_one_line(transcript.title or 'Conversation')}"]
    parts.append(f"*{_header_facts(transcript)}*")
    for turn in transcript.path():
        parts.append(f"## {_one_line(_speaker(turn, transcript))}")
        if turn.reply is not None and turn.reply.thought.text:
            parts.append(_details(turn.reply.thought))
        text = visible(turn.text.replace("\r\n", "\n"))
        if turn.role != "assistant":
            parts.append("\n".join(f"> {line}".rstrip() for line in text.split("\n")))
        elif turn.reply is not None and turn.reply.raw:
            parts.append(_fenced(text))
        else:
            parts.append(_closed(text))
        if turn.reply is not None:
            parts.append(f"*{_escape(stamp(turn.reply))}*")
    return "\n\n".join(part for part in parts if part) + "\n"


def to_text(transcript: Transcript) -> str:
    """The selected path as plain text, each turn under its speaker's name."""
    parts = []
    for turn in transcript.path():
        text = _shown_text(turn.text)
        speaker = visible(_speaker(turn, transcript))
        if turn.reply is not None and (thought := turn.reply.thought).text:
            parts.append(f"{speaker}, thinking ({thought_words(thought)}):\n{_shown_text(thought.text)}\n")
        parts.append(f"{speaker}:\n{text}\n")
    return "\n".join(parts)


def to_json(transcript: Transcript) -> str:
    """Every turn of every branch as one JSON object, with all that is known of each reply."""
    document = {
        "id": transcript.id,
        "title": transcript.title,
        "created": transcript.created.isoformat(),
        "model": transcript.model,
        "model_path": transcript.model_path,
        "tokenizer_path": transcript.tokenizer_path,
        "selected": [turn.id for turn in transcript.path()],
        "turns": [_turn_object(turn) for turn in transcript],
    }
    # ASCII alone, so that any terminal and any lone surrogate is safe.
    return json.dumps(document, indent=2, default=str) + "\n"


def for_file(transcript: Transcript, path: Path) -> str:
    """The conversation in the form that a file's name asks for; without an ending, Markdown.

    Raises:
        UsageError: The name ends in something else.
    """
    check_suffix(path, _FORMS, "A conversation")
    return _FORMS.get(path.suffix.lower(), to_markdown)(transcript)


_FORMS = {".md": to_markdown, ".txt": to_text, ".json": to_json}


def stamp(reply: Reply) -> str:
    """The settings and figures of a reply on one line, such as "temperature 0.8 · seed 8417 · 41 tokens"."""
    words = [f"{name} {_shown(value)}" for name, value in reply.config.difference().items() if name != "seed"]
    words = words or ["default settings"]
    for change in reply.changes:
        moved = ", ".join(f"{name} → {_shown(value)}" for name, value in change.values.items())
        words.append(f"{moved} from token {change.token_index}")
    words += [f"seed {reply.seed}", token_count(len(reply.token_ids))]
    if reply.timings.tokens_per_second:
        words.append(f"{reply.timings.tokens_per_second:.1f} tok/s")
    words.append(_one_line(reply.finish_detail) or reply.finish_reason)
    return " · ".join(words)


def _details(thought: Thought) -> str:
    """A thought as a part that Markdown readers fold; what is in it stays as it was written."""
    summary = f"<summary>Thought: {thought_words(thought)}</summary>"
    return f"<details>{summary}\n\n{_fenced(_shown_text(thought.text))}\n\n</details>"


def _shown_text(text: str) -> str:
    return visible(text.replace("\r\n", "\n")).rstrip("\n")


def _turn_object(turn: Turn) -> dict[str, Any]:
    item: dict[str, Any] = {"id": turn.id, "parent": turn.parent, "role": turn.role}
    item |= {"created": turn.created.isoformat(), "text": turn.text}
    if turn.reply is not None:
        reply = asdict(turn.reply)
        item["reply"] = {"settings": reply.pop("config"), **reply}
    return item


def _header_facts(transcript: Transcript) -> str:
    facts = [_escape(_one_line(transcript.model)), f"{transcript.created.astimezone():%Y-%m-%d %H:%M}"]
    return " · ".join(fact for fact in facts if fact)


def _speaker(turn: Turn, transcript: Transcript) -> str:
    if turn.role == "assistant":
        return (turn.reply.model if turn.reply else "") or transcript.model or _NAMES["assistant"]
    return _NAMES[turn.role]


def _one_line(text: str) -> str:
    return " ".join(visible(text).split())


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(repr, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_<\[\]])", r"\\\1", text)


def _fenced(text: str) -> str:
    """The text as a code block whose fence is longer than any in it."""
    longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _closed(text: str) -> str:
    """The text with a code block or a comment that was left open closed at its end."""
    fence = ""
    outside: list[str] = []
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found is None:
            if not fence:
                outside.append(line)
        elif not fence:
            fence = found[1]
        elif found[1][0] == fence[0] and len(found[1]) >= len(fence) and not found[2].strip():
            fence = ""
    if fence:
        return f"{text.rstrip()}\n{fence}"
    prose = "\n".join(outside)
    if prose.rfind("<!--") > prose.rfind("-->"):
        return f"{text.rstrip()} -->"
    return text.strip("\n")
