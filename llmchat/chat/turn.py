"""The turns of a conversation, and what is known of a generated reply. Plain values."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from llmchat.chat.generation_config import GenerationConfig, Value

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)

FinishReason = Literal["stop", "length", "cancelled", "error"]
"""stop: an end token or a stop string; length: max_new_tokens, or the context is full;
cancelled: the person stopped it; error: it failed after some tokens."""
FINISH_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """Settings that a person moved while a reply was running."""

    token_index: int
    """The first token of the reply, counted from 0, drawn with the new values."""
    text_offset: int
    """Where that token's text begins, in characters of the reply."""
    values: Mapping[str, Value]
    """The new value of each field that changed."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a reply took."""

    load_seconds: float = 0.0
    time_to_first_token_seconds: float = 0.0
    prompt_tokens_per_second: float = 0.0
    """Prefill speed over the tokens that were not already in the KV cache."""
    tokens_per_second: float = 0.0
    """Decode speed, without the prefill."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Everything known of a generated text: enough to show it, explain it and make it again."""

    text: str
    token_ids: tuple[int, ...]
    """The generated ids, without the end token."""
    finish_reason: FinishReason
    finish_detail: str
    """The cause in words, such as 'end token <|im_end|>' or 'max_new_tokens 512'."""
    config: GenerationConfig
    """The settings at the first token; `changes` has what moved later."""
    seed: int
    """The seed that was used, rolled or given."""
    model: str = ""
    raw: bool = False
    """Whether the prompt went in without a chat template."""
    changes: tuple[SettingsChange, ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """How many of the prompt's tokens were already in the KV cache."""
    dropped_tokens: int = 0
    """How many of the prompt's tokens did not fit and were left out."""
    prefill_text: str = ""
    """The start of `text`, written by the person."""
    continued_ids: tuple[int, ...] = ()
    """Token ids of an earlier part of the same reply that this one went on from."""
    timings: Timings = field(default_factory=Timings)


def join_replies(first: Reply, second: Reply) -> Reply:
    """The one reply of two parts, the second made by going on from the first.

    Token indices of the second part already count on from the first. Speed and
    finish reason are the second part's, the prompt is the first's.
    """
    shift = len(first.text)
    changes = [replace(change, text_offset=change.text_offset + shift) for change in second.changes]
    last = first.config
    for change in first.changes:
        last = last.changed(**change.values)
    if moved := {name: value for name, value in second.config.difference(last).items() if name not in ("seed", "stop")}:
        changes.insert(0, SettingsChange(len(first.token_ids), shift, moved))
    return replace(
        second,
        text=first.text + second.text,
        token_ids=first.token_ids + second.token_ids,
        config=first.config,
        changes=first.changes + tuple(changes),
        prompt_tokens=first.prompt_tokens,
        prefill_text=first.prefill_text,
        continued_ids=(),
    )


def new_id() -> str:
    """A short random name for a turn or a transcript, 12 hexadecimal digits."""
    return secrets.token_hex(6)


def now() -> datetime:
    """The present moment, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that was said. Turns with the same parent are alternatives."""

    role: Role
    text: str
    parent: str | None = None
    """The id of the turn before; None for the first."""
    id: str = field(default_factory=new_id)
    created: datetime = field(default_factory=now)
    reply: Reply | None = None
    """How an assistant turn was generated; None if a person wrote or edited it."""
