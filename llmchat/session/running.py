"""The reply that is being generated, as the front end knows it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from llmchat.chat.diagnostics import LoopDetector, Repetition, repetition
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelInfo
from llmchat.chat.thought import Thought, joined, tokens_within
from llmchat.chat.turn import Reply, SettingsChange, TokenFacts, Turn, continue_reply
from llmchat.worker.messages import GenerationRequest, PromptProcessed, TokensGenerated


def absolute(path: str) -> str:
    """The whole path; "" stays, for there is none."""
    return path and str(Path(path).absolute())


def signed(reply: Reply, model: ModelInfo, system: str | None) -> Reply:
    """A reply with what it was made by.

    Args:
        reply: The reply.
        model: The model that drew it.
        system: The system prompt, where it was not the one that the conversation begins with.
    """
    # Whole paths: the conversation may be gone on with from another directory.
    return replace(
        reply,
        model_path=absolute(model.path),
        tokenizer_path=absolute(model.tokenizer_path),
        engine=model.engine,
        lora_path=absolute(model.lora),
        system=system,
    )


@dataclass(slots=True)
class Running:
    """The reply that is being generated."""

    request: GenerationRequest
    turn_id: str
    """The id that the finished turn will have."""
    parent: str
    """The turn that is answered."""
    config: GenerationConfig
    """The settings at the start."""
    model: ModelInfo
    raw: bool
    system: str | None = None
    """The system prompt, where it is not the one that the conversation begins with."""
    first_part: Reply | None = None
    """The reply that this one goes on from."""
    is_to_new: bool = False
    """Whether the turn that is answered was said for this reply."""
    edited: str | None = None
    """The turn that the one that is answered was put beside, if it was an edit for this reply."""
    pieces: list[str] = field(default_factory=list)
    """The answer so far."""
    thoughts: list[Thought] = field(default_factory=list)
    """The thought before it so far."""
    token_ids: list[int] = field(default_factory=list)
    """The tokens drawn; those that are gone on from are in the request."""
    facts: list[TokenFacts] = field(default_factory=list)
    changes: list[SettingsChange] = field(default_factory=list)
    prompt: PromptProcessed | None = None
    repetition: Repetition | None = None
    """What the reply was first seen to repeat over and over; None as long as it does not."""
    _loops: LoopDetector = field(default_factory=LoopDetector)
    _began: float = 0.0
    _thought_until: float = 0.0

    def __post_init__(self) -> None:
        self._loops = LoopDetector(self.request.continued_ids)

    def add(self, event: TokensGenerated) -> None:
        """Take in more of the reply."""
        self.pieces.append(event.text)
        if event.thought.written:
            self.thoughts.append(event.thought)
        self._began = self._began or monotonic()
        if not any(self.pieces):
            self._thought_until = monotonic()
        self.token_ids += event.token_ids
        self.facts += event.facts
        self.changes += event.changes
        for token_id in event.token_ids:
            self._loops.add(token_id)
        if self.repetition is None and self._loops.loop is not None:
            written = joined(self.thoughts).written + "".join(self.pieces)
            self.repetition = repetition(self._loops, written, [fact.start for fact in self.facts])

    @property
    def thought(self) -> Thought:
        """The thought so far; of one that is gone on from, all of it."""
        thought = joined(self.thoughts)
        if not thought.written:
            return thought
        tokens = len(self.request.continued_ids) + len(self.token_ids)
        if any(self.pieces):
            tokens = tokens_within([fact.start for fact in self.known_facts], len(thought.written.encode()))
        return replace(thought, tokens=tokens, seconds=max(self._thought_until - self._began, 0.0))

    @property
    def known_facts(self) -> tuple[TokenFacts, ...]:
        """What is known of every token so far, with those that are gone on from; nothing if not of all."""
        before = () if self.first_part is None else self.first_part.facts
        kept = len(self.request.continued_ids)
        return (*before[:kept], *self.facts) if len(before) >= kept else ()

    def reply(self, detail: str = "not finished") -> Reply:
        """The reply as far as it has come, with the part it goes on from.

        Args:
            detail: Why there is no more of it.
        """
        prompt = self.prompt
        reply = Reply(
            text="".join(self.pieces),
            token_ids=(*self.request.continued_ids, *self.token_ids),
            finish_reason="cancelled",
            finish_detail=detail,
            config=self.config,
            seed=self.request.seed,
            model=self.model.name,
            raw=self.raw,
            changes=tuple(self.changes),
            prompt_tokens=0 if prompt is None else prompt.prompt_tokens,
            cached_tokens=0 if prompt is None else prompt.cached_tokens,
            dropped_tokens=0 if prompt is None else prompt.dropped_tokens,
            prefill_text=self.request.prefill_text,
            prompts=() if prompt is None else (prompt.facts,),
            facts=tuple(self.facts),
            thought=self.thought,
            forced=self.request.forced,
        )
        return self.joined(reply)

    def joined(self, reply: Reply) -> Reply:
        """A reply of this request, with what it was made by and what is known of the part it goes on from."""
        reply = signed(reply, self.model, self.system)
        return reply if self.first_part is None else continue_reply(self.first_part, reply)

    def turn(self, reply: Reply) -> Turn:
        """The turn that a reply, already joined, makes."""
        return Turn("assistant", reply.text, parent=self.parent, id=self.turn_id, reply=reply)
