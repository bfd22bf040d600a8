"""The turns of a conversation, and what is known of a generated reply. Plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple, get_args

from llmchat.chat.generation_config import OF_WHOLE_REPLY, GenerationConfig, Value
from llmchat.chat.prompt_facts import PromptFacts
from llmchat.chat.thought import Thought

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
    """Where that token's text begins, in characters of all that was written."""
    values: Mapping[str, Value]
    """The new value of each field that changed."""


class TokenFacts(NamedTuple):
    """What is remembered of one drawn token."""

    start: int
    """Where its bytes begin in all that was written, as UTF-8; a token may hold part of a character."""
    logprob: float
    """Natural logarithm of its probability by the model alone."""
    final_logprob: float
    """The same after the sampling chain."""
    rank: int
    """How many tokens the model found likelier."""
    entropy: float
    """Entropy of the model's distribution there, in nats."""


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
    """The answer, without the thought before it."""
    token_ids: tuple[int, ...]
    """The generated ids, those of the thought too, without the end token."""
    finish_reason: FinishReason
    finish_detail: str
    """The cause in words, such as 'end token <|im_end|>' or 'max_new_tokens 512'."""
    config: GenerationConfig
    """The settings at the first token; `changes` has what moved later."""
    seed: int
    """The seed that was used, rolled or given."""
    model: str = ""
    model_path: str = ""
    """The file or directory of the model; "" for replies of before it was kept."""
    tokenizer_path: str = ""
    """Its tokenizer, by which `token_ids` mean something."""
    engine: str = ""
    """What ran it, as in `ModelInfo`; "" for replies of before it was kept."""
    lora_path: str = ""
    """The LoRA adapter that was open with the model; "" for none."""
    raw: bool = False
    """Whether the prompt went in without a chat template."""
    system: str | None = None
    """The system prompt, where it was not the one that the conversation begins with; "" for none."""
    changes: tuple[SettingsChange, ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """How many of the prompt's tokens were already in the KV cache."""
    dropped_tokens: int = 0
    """How many of the prompt's tokens did not fit and were left out."""
    prefill_text: str = ""
    """The start of `written`, by the person."""
    facts: tuple[TokenFacts, ...] = ()
    """One for each of `token_ids`; empty for replies of before they were kept."""
    forced: tuple[tuple[int, int], ...] = ()
    """(token index, token id) of tokens that the person chose in place of a draw."""
    parts: tuple[int, ...] = ()
    """The token indices, ascending, at which it was gone on from: there the prompt was fitted anew."""
    prompts: tuple[PromptFacts, ...] = ()
    """What made the prompt of its beginning, and of each of `parts`; empty for replies of before it was kept."""
    unknown_tokens: int = 0
    """How many of its tokens stand for what the vocabulary lacks."""
    byte_tokens: int = 0
    """How many hold only part of a character, which the vocabulary lacks as a whole."""
    drafted_tokens: int = 0
    """How many tokens were guessed from the text so far, to be run in one pass."""
    accepted_tokens: int = 0
    """How many of these were drawn."""
    timings: Timings = field(default_factory=Timings)
    thought: Thought = field(default_factory=Thought)
    """What the model wrote to itself before the answer."""

    @property
    def written(self) -> str:
        """All that was written, the thought and its marks too."""
        return self.thought.written + self.text

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The ids of the answer."""
        return self.token_ids[self.thought.tokens :]

    @property
    def answer_prefill(self) -> str:
        """The start of `text`, by the person: what of the prefill is no thought."""
        return self.prefill_text[len(self.thought.written) :]

    def config_at(self, token_index: int) -> GenerationConfig:
        """The settings under which the token with this index was drawn."""
        config = self.config
        for change in self.changes:
            if change.token_index <= token_index:
                config = config.changed(**change.values)
        return config

    def lora_scales(self, token_index: int, count: int) -> list[float]:
        """The adapter's scale at each of the `count` ids that were read before one of the tokens was drawn.

        Up to the place where it was last gone on from, all were read at once; from there each as it was drawn, for
        the token behind it.
        """
        start = max((part for part in self.parts if part <= token_index), default=0)
        drawn = [self.config_at(index).lora_scale for index in range(start + 1, token_index + 1)]
        return [self.config_at(start).lora_scale] * (count - len(drawn)) + drawn

    @property
    def moment(self) -> datetime | None:
        """The local time that its chat template was told; None if that did not ask."""
        return self.prompts[-1].moment if self.prompts else None

    def before(self, token_index: int) -> Reply:
        """The part before one of the tokens whose `facts` are known; their number means all of it."""
        end = self.facts[token_index].start if token_index < len(self.facts) else None
        # Part of a character is nothing that a person has seen.
        written = self.written.encode()[:end].decode(errors="ignore")
        return replace(
            self,
            text=written[len(self.thought.written) :],
            thought=self.thought.before(len(written), token_index),
            token_ids=self.token_ids[:token_index],
            facts=self.facts[:token_index],
        )


def continue_reply(first: Reply, whole: Reply) -> Reply:
    """A reply that went on from the beginning of another, with what is known of that beginning.

    Args:
        first: The reply that was gone on from; tokens of it that `whole` does not begin with are passed over.
        whole: All of the new reply, but with the settings, changes and facts of its new part alone.
    """
    kept = len(whole.token_ids) - len(whole.facts) if whole.facts else len(first.token_ids)
    changes = [change for change in first.changes if change.token_index < kept]
    last = first.config
    for change in changes:
        last = last.changed(**change.values)
    parts = (*(start for start in first.parts if start < kept), *([kept] if kept else []))
    moved = {name: value for name, value in whole.config.difference(last).items() if name not in OF_WHOLE_REPLY}
    if moved and not (whole.changes and whole.changes[0].token_index == kept):
        changes.append(SettingsChange(kept, len(first.written), moved))
    return replace(
        whole,
        thought=replace(whole.thought, seconds=first.thought.seconds + whole.thought.seconds),
        config=first.config,
        changes=(*changes, *whole.changes),
        facts=first.facts[:kept] + whole.facts if len(first.facts) >= kept else (),
        forced=tuple(pick for pick in first.forced if pick[0] < kept) + whole.forced,
        parts=parts,
        prompts=first.prompts[: len(parts)] + whole.prompts if len(first.prompts) >= len(parts) else (),
    )


def token_count(count: int) -> str:
    """A number of tokens in words, such as "1 token" or "41 tokens"."""
    return "1 token" if count == 1 else f"{count} tokens"


def new_id() -> str:
    """A short random name for a turn or a transcript, 12 hexadecimal digits."""
    return os.urandom(6).hex()


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


def system_of(turns: Sequence[Turn]) -> str:
    """The system prompt that a conversation begins with; "" if there is none."""
    return turns[0].text if turns and turns[0].role == "system" else ""


def under_system(turns: Sequence[Turn], system: str) -> tuple[Turn, ...]:
    """A conversation as a model is given it under another system prompt; "" for none."""
    if system == system_of(turns):
        return tuple(turns)
    said = turns[1:] if turns and turns[0].role == "system" else turns
    return (Turn("system", system), *said) if system else tuple(said)
