"""Settings in words, the same for every front end."""

from __future__ import annotations

from llmchat.chat.generation_config import SPEC_BY_NAME, Value
from llmchat.chat.quoting import written
from llmchat.chat.thought import Thought
from llmchat.chat.turn import Reply, token_count


def value_words(name: str, value: Value) -> str:
    """A setting's value as a person reads it: numbers as the sidebar shows them, the rest as `/set` takes it."""
    if name in SPEC_BY_NAME and isinstance(value, int | float):
        return SPEC_BY_NAME[name].format(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "seed":
        return "rolled anew for each reply" if value is None else str(value)
    if not isinstance(value, tuple):
        return str(value)
    if name == "dry_breakers":
        return " ".join(_escaped(str(item)) for item in value) or "off"
    return " ".join(_item_words(item) for item in value) or "off"


def thought_words(thought: Thought) -> str:
    """How long a thought took, where that is known, and how much it is, such as "3.2 s, 214 tokens"."""
    words = token_count(thought.tokens)
    words = f"{thought.seconds:.1f} s, {words}" if thought.seconds else words
    return f"{words}, not finished" if thought.is_open else words


def draft_words(reply: Reply) -> str:
    """How much was guessed from the text so far, such as "31 tokens, 24 of them right"; "" where nothing was."""
    if not reply.drafted_tokens:
        return ""
    return f"{token_count(reply.drafted_tokens)}, {reply.accepted_tokens} of them right"


def _item_words(item: str | int) -> str:
    return written(item) if isinstance(item, str) and not item.isidentifier() else str(item)


def _escaped(text: str) -> str:
    """A breaker as it is typed: without quotes, blanks by their escapes."""
    for meant, typed in (("\n", "\\n"), ("\t", "\\t"), (" ", "\\s")):
        text = text.replace(meant, typed)
    return text


def with_speed(words: str, tokens_per_second: float, unit: str = "tok/s", joint: str = " · ") -> str:
    """Words and a speed behind them, where it is known: that of a single token is not."""
    return f"{words}{joint}{tokens_per_second:.1f} {unit}" if tokens_per_second > 0 else words
