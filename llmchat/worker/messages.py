"""What goes to the inference worker and what comes back. Frozen values.

    LoadRequest        → ModelLoading* → ModelPrepared → ModelLoading* → ModelLoaded | ModelLoadFailed
    GenerationRequest  → PromptProcessing* → PromptProcessed → (TokensGenerated | NextToken)*
                         → GenerationFinished | GenerationFailed
    BatchRequest       → PromptProcessing* → PromptProcessed → (LaneGenerated | LaneFinished)*
                         → BatchFinished | RequestFailed
    ManyRequest        → (ManyProgress | JobFinished)* → ManyFinished | RequestFailed
    ExplainRequest     → NextToken | RequestFailed
    InspectRequest     → NextToken | RequestFailed
    PromptRequest      → PromptTokens | RequestFailed

Every request gets exactly one terminal event, also when it is cancelled and when
the worker closes. Requests are served in turn, but a model is looked at as soon as it is asked
for: its ModelLoading and ModelPrepared come while a reply runs, and so does its ModelLoadFailed where it does
not open. A ModelChanged may come before any event of a request. Every event carries the id of its request.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.job import Job
from llmchat.chat.model import ModelInfo, ModelSpec
from llmchat.chat.prompt_facts import PromptFacts
from llmchat.chat.thought import Thought
from llmchat.chat.turn import Reply, SettingsChange, TokenFacts, Turn
from llmchat.errors import LlmchatError

_request_ids = itertools.count(1)


def next_request_id() -> int:
    """A number that no other request of this process has."""
    return next(_request_ids)


class LiveConfig:
    """The settings of running replies: one frozen config, replaced whole.

    Replacing the reference is the whole protocol between the window, which
    assigns, and the worker, which reads it once per token.
    """

    __slots__ = ("config",)

    def __init__(self, config: GenerationConfig) -> None:
        self.config = config

    def __call__(self, token_index: int) -> GenerationConfig:
        """The settings for the token about to be drawn."""
        return self.config


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Open a model in the place of the one that is open, which stays, or comes back, where this fails."""

    spec: ModelSpec
    may_fetch: int | None = None
    """Bytes that may be fetched from the hub or an address without asking, or it fails; None is any number."""
    ignores_memory: bool = False
    """Whether it is opened also where it seems to need more memory than is free."""
    cancel: threading.Event = field(default_factory=threading.Event)
    request_id: int = field(default_factory=next_request_id)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Make one reply."""

    turns: tuple[Turn, ...]
    """The conversation up to and including the turn to answer, oldest first."""
    config: Callable[[int], GenerationConfig]
    """The settings for the token with this index; read once per token, on the worker's thread."""
    seed: int
    raw: bool = False
    """Continue the last turn's text as it stands, without a chat template."""
    prefill_text: str = ""
    """Text the reply must begin with."""
    continued_ids: tuple[int, ...] = ()
    """Ids of a reply's earlier part, to go on from them exactly; the reply's text begins with theirs."""
    continued_from: Reply | None = None
    """What is known of that part, for samplers that have a state."""
    forced: tuple[tuple[int, int], ...] = ()
    """(token index, token id) to take in place of a draw."""
    moment: datetime | None = None
    """The local time that the chat template is told; None is the present."""
    transcript: Path | None = None
    """The file of the conversation, beside which is kept what the model has read of it; None for none."""
    cancel: threading.Event = field(default_factory=threading.Event)
    request_id: int = field(default_factory=next_request_id)


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """One of several replies that are made side by side."""

    config: GenerationConfig
    seed: int


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """Make several replies to one prompt at once, in batched forwards."""

    turns: tuple[Turn, ...]
    lanes: tuple[LaneSpec, ...]
    raw: bool = False
    prefill_text: str = ""
    cancel: threading.Event = field(default_factory=threading.Event)
    request_id: int = field(default_factory=next_request_id)


@dataclass(frozen=True, slots=True)
class ManyRequest:
    """Answer many prompts, side by side as far as that is quicker."""

    jobs: tuple[Job, ...]
    cancel: threading.Event = field(default_factory=threading.Event)
    request_id: int = field(default_factory=next_request_id)


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Say how settings would treat the latest position, without running the model."""

    config: GenerationConfig
    count: int
    """How many candidates to list."""
    cancel: threading.Event = field(default_factory=threading.Event)
    request_id: int = field(default_factory=next_request_id)


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """Say what the candidates were at one token of a reply."""

    turns: tuple[Turn, ...]
    """The conversation up to the turn that was answered."""
    reply: Reply
    token_index: int
    count: int
    cancel: threading.Event = field(default_factory=threading.Event)
    request_id: int = field(default_factory=next_request_id)


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """Show the prompt that the model would read, token by token."""

    turns: tuple[Turn, ...]
    raw: bool = False
    prefill_text: str = ""
    room: int = 1
    """Tokens wanted free for the reply; the prompt is cut by them."""
    moment: datetime | None = None
    """The local time that the chat template is told; None is the present."""
    template_args: tuple[str, ...] = ()
    """Variables of the chat template, as a config has them."""
    cancel: threading.Event = field(default_factory=threading.Event)
    request_id: int = field(default_factory=next_request_id)


Request = LoadRequest | GenerationRequest | BatchRequest | ManyRequest | ExplainRequest | InspectRequest | PromptRequest


@dataclass(frozen=True, slots=True)
class ModelLoading:
    """A step of opening a model is under way."""

    request_id: int
    stage: str
    """What is being done, in words: "fetching SmolLM2-135M-Instruct", "reading weights"."""
    fraction: float | None = None
    """How much of the stage is done, 0 to 1; None if that is not known."""


@dataclass(frozen=True, slots=True)
class ModelPrepared:
    """All but the weights of a model was read: it is opened when its turn comes."""

    request_id: int
    name: str


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    """The model is open and ready."""

    request_id: int
    info: ModelInfo
    load_seconds: float


@dataclass(frozen=True, slots=True)
class ModelLoadFailed:
    """The model could not be opened."""

    request_id: int
    error: LlmchatError
    info: ModelInfo | None = None
    """The model that is open now: the one before; None if there is none."""

    @property
    def words(self) -> str:
        """What went wrong, and what is open all the same."""
        message = self.error.message
        return message if self.info is None else f"{message.removesuffix('.')}. {self.info.name} stays open."


@dataclass(frozen=True, slots=True)
class ModelChanged:
    """The open model no longer runs as was told, since the request that is being served; its newest note says why."""

    request_id: int
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class PromptProcessing:
    """Part of the prompt has gone through the model."""

    request_id: int
    done_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class PromptProcessed:
    """The prompt is in the KV cache; the first token is next."""

    request_id: int
    prompt_tokens: int
    cached_tokens: int
    dropped_turns: tuple[str, ...]
    """Ids of the turns that did not fit into the context and were left out."""
    dropped_tokens: int
    context_length: int
    seconds: float
    facts: PromptFacts = field(default_factory=PromptFacts)
    """What made it."""


@dataclass(frozen=True, slots=True)
class TokensGenerated:
    """Some more of the reply. Posted at most every few hundredths of a second."""

    request_id: int
    text: str
    """The part of the answer that became certain since the last event; "" if tokens gave none yet."""
    token_ids: tuple[int, ...]
    """The tokens drawn since the last event."""
    facts: tuple[TokenFacts, ...]
    """One for each of them."""
    changes: tuple[SettingsChange, ...]
    """Settings that took effect among them."""
    context_tokens: int
    """Tokens in the KV cache now."""
    tokens_per_second: float
    thought: Thought = field(default_factory=Thought)
    """The part of the thought before the answer that became certain since the last event."""


@dataclass(frozen=True, slots=True)
class GenerationFinished:
    """The reply is complete, or was stopped by the person."""

    request_id: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class GenerationFailed:
    """The reply could not be made or went wrong on the way."""

    request_id: int
    error: LlmchatError
    reply: Reply | None = None
    """What had been generated before, if anything."""


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One token that could come at a position."""

    token_id: int
    text: str
    """The token for a person to read, control tokens by name."""
    spoken: str
    """What it adds to a text; "" for a control token and for a part of a character."""
    probability: float
    """By the model alone."""
    final_probability: float
    """After the sampling chain; 0 if it was removed."""
    removed_by: str | None
    """The stage that removed it."""


@dataclass(frozen=True, slots=True)
class NextToken:
    """The candidates of one position, under some settings."""

    request_id: int
    token_index: int
    """Which token of the reply it is."""
    rows: tuple[CandidateRow, ...]
    """The likeliest by the model first."""
    survivors: int
    """How many tokens the chain leaves."""
    mass: float
    """The probability that these hold by the model alone."""
    entropy: float
    """Of the final distribution, in nats."""
    effective_choices: float
    """e to the entropy: as many equally likely tokens would be as uncertain."""
    drawn: int | None
    """The token that these dice take under these settings."""
    taken: int | None = None
    """The token that stands there; None if the reply ended there."""


@dataclass(frozen=True, slots=True)
class LaneGenerated:
    """Some more of one of several replies."""

    request_id: int
    lane: int
    text: str
    token_ids: tuple[int, ...]
    facts: tuple[TokenFacts, ...]
    """One for each of them."""
    thought: Thought = field(default_factory=Thought)
    """As in `TokensGenerated`."""


@dataclass(frozen=True, slots=True)
class LaneFinished:
    """One of several replies has ended; others may go on."""

    request_id: int
    lane: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class BatchFinished:
    """All replies of a batch are complete, or were stopped by the person."""

    request_id: int
    replies: tuple[Reply, ...]
    seconds: float
    """How long all of it took."""


@dataclass(frozen=True, slots=True)
class ManyProgress:
    """Some more of many replies has been written."""

    request_id: int
    tokens: int
    """How many were drawn so far, in all of them."""


@dataclass(frozen=True, slots=True)
class JobFinished:
    """One of many prompts has been answered, or cannot be; others may go on. They come in no order."""

    request_id: int
    job: int
    outcome: Reply | LlmchatError


@dataclass(frozen=True, slots=True)
class ManyFinished:
    """All prompts have been answered; or the person stopped it, and what was running and waiting was left out."""

    request_id: int
    seconds: float
    """How long all of it took."""


class PromptToken(NamedTuple):
    """One token of a prompt."""

    token_id: int
    text: str
    """The token for a person to read, a control token by its name."""
    is_control: bool


class PromptPart(NamedTuple):
    """A stretch of a prompt: text, or one control token by its name."""

    text: str
    is_control: bool


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """A prompt, token by token."""

    request_id: int
    tokens: tuple[PromptToken, ...]
    parts: tuple[PromptPart, ...]
    """The same as text."""
    raw: bool
    """Whether it went in without a chat template."""
    dropped_turns: tuple[str, ...]
    """Ids of the turns that did not fit."""
    dropped_tokens: int
    """Tokens that the model does not see."""
    said_names: tuple[str, ...] = ()
    """Names of control tokens that stand in it as text."""

    @property
    def said_words(self) -> str:
        """What a person should know of these, as a sentence; "" if there are none."""
        return f"Read as text, not as control tokens: {', '.join(self.said_names)}." if self.said_names else ""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request other than a load or a reply could not be served."""

    request_id: int
    error: LlmchatError


ModelEvent = ModelLoading | ModelPrepared | ModelLoaded | ModelLoadFailed | ModelChanged
GenerationEvent = PromptProcessing | PromptProcessed | TokensGenerated | GenerationFinished | GenerationFailed
LaboratoryEvent = NextToken | LaneGenerated | LaneFinished | BatchFinished | PromptTokens | RequestFailed
ManyEvent = ManyProgress | JobFinished | ManyFinished
Event = ModelEvent | GenerationEvent | LaboratoryEvent | ManyEvent
