"""Several replies to one message under different settings, as the front ends know them.

Experiment ─ request ─▶ worker ─ LaneGenerated, LaneFinished, BatchFinished ─▶ handle
    └─ keep ─▶ ChatSession     nothing is in the conversation before a reply is kept
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from llmchat.chat.comparison import Variant, first_difference
from llmchat.chat.generation_config import roll_seed
from llmchat.chat.reply_metrics import Outcome
from llmchat.chat.thought import Thought, joined
from llmchat.chat.turn import Reply, TokenFacts, Turn, system_of, under_system
from llmchat.errors import LlmchatError, UsageError
from llmchat.session.running import signed
from llmchat.session.session import ChatSession
from llmchat.worker.messages import (
    BatchFinished,
    BatchRequest,
    Event,
    LaneFinished,
    LaneGenerated,
    LaneSpec,
    PromptProcessed,
    RequestFailed,
)

_ENDED = (BatchFinished, RequestFailed)


@dataclass(slots=True)
class Trial:
    """One of the replies, as far as it has come."""

    variant: Variant
    text: str = ""
    thought: Thought = field(default_factory=Thought)
    """What it wrote to itself before."""
    token_ids: list[int] = field(default_factory=list)
    facts: list[TokenFacts] = field(default_factory=list)
    reply: Reply | None = None
    """The whole, once it has ended."""

    @property
    def written(self) -> str:
        """All that was written, the thought and its marks too."""
        return self.thought.written + self.text


class Experiment:
    """Replies with the same dice to the last message of a conversation, or to a new one."""

    def __init__(self, session: ChatSession, variants: Sequence[Variant], text: str | None = None) -> None:
        """An experiment whose `request` is to be given to the worker.

        Args:
            session: The conversation; nothing is changed in it.
            variants: The settings.
            text: A new message; by default the last one is answered again.

        Raises:
            UsageError: There is nothing to answer, or the model is not free.
        """
        if session.state != "ready":
            raise UsageError(_NOT_READY[session.state])
        assert session.model is not None
        self._session, self._model, self._text = session, session.model, text
        self._message = None if text is not None else session.message_to_answer().id
        said = session.transcript.path(self._message)
        turns = under_system(said if text is None else (*said, Turn("user", text)), session.system)
        differs = not session.is_raw and session.system != system_of(said or turns)
        self._system = session.system if differs else None
        self._kept: dict[int, Turn] = {}
        self.trials = [Trial(variant) for variant in variants]
        self.seed = roll_seed() if session.config.seed is None else session.config.seed
        self.is_done = False
        self.prompt: PromptProcessed | None = None
        """What is known of the prompt once it has been read."""
        self.error: LlmchatError | None = None
        """Why it failed."""
        session.last_seed = self.seed
        self.request = BatchRequest(
            turns=turns,
            lanes=tuple(LaneSpec(variant.config, self.seed) for variant in variants),
            raw=session.raw,
            prefill_text=session.prefill_text,
        )

    @property
    def question(self) -> str:
        """The message that is answered."""
        return self.request.turns[-1].text

    @property
    def progress(self) -> float:
        """How much has been written, 0 to 1, if no reply ended before its length limit."""
        shares = (
            1.0 if trial.reply is not None else len(trial.token_ids) / trial.variant.config.max_new_tokens
            for trial in self.trials
        )
        return sum(shares) / len(self.trials)

    @property
    def kept(self) -> frozenset[int]:
        """The places of the replies that are in the conversation."""
        return frozenset(self._kept)

    def handle(self, event: Event) -> bool:
        """Take in what the worker reports; returns whether it belonged to this experiment."""
        if event.request_id != self.request.request_id:
            return False
        match event:
            case LaneGenerated():
                trial = self.trials[event.lane]
                trial.token_ids += event.token_ids
                trial.thought = joined((trial.thought, event.thought))
                if event.thought.written:
                    trial.thought = replace(trial.thought, tokens=len(trial.token_ids))
                trial.text += event.text
                trial.facts += event.facts
            case LaneFinished():
                self._finish(event.lane, event.reply)
            case BatchFinished():
                for lane, reply in enumerate(event.replies):
                    self._finish(lane, reply)
            case PromptProcessed():
                self.prompt = event
            case RequestFailed():
                self.error = event.error
        self.is_done = self.is_done or isinstance(event, _ENDED)
        return True

    def stop(self) -> None:
        """Ask the worker to stop; what there is of the replies stays to be looked at."""
        self.request.cancel.set()

    def parting(self, place: int) -> int | None:
        """The token at which a reply parts from the first one; None while that has not come."""
        first, other = self.trials[0], self.trials[place]
        index = first_difference(first.token_ids, other.token_ids)
        if index is None or index < min(len(first.token_ids), len(other.token_ids)):
            return index
        # One is ahead of the other; they have parted only if the shorter one has ended there.
        shorter = min(first, other, key=lambda trial: len(trial.token_ids))
        return index if shorter.reply is not None and shorter.reply.finish_reason != "cancelled" else None

    def parting_offset(self, place: int) -> int | None:
        """Where the token lies at which a reply parts from the first one, in characters of all that was written."""
        index, trial = self.parting(place), self.trials[place]
        if index is None:
            return None
        if index >= len(trial.facts):
            return len(trial.written)
        return len(trial.written.encode()[: trial.facts[index].start].decode(errors="ignore"))

    def outcomes(self) -> list[Outcome]:
        """The replies that have ended, under the names of their settings."""
        return [Outcome(trial.variant.label, trial.reply) for trial in self.trials if trial.reply is not None]

    def keep(self, place: int) -> Turn:
        """Make a reply the answer in the conversation, with its settings, seed and ids.

        Others that are kept stay beside it as alternatives.

        Raises:
            UsageError: The reply is not done, or is empty.
        """
        reply = self.trials[place].reply
        if reply is None:
            raise UsageError("This reply is still being written. Stop it with Esc, or wait.")
        if not reply.text and not reply.token_ids:
            raise UsageError("This reply is empty; there is nothing to keep.")
        if place in self._kept:
            self._session.transcript.select(self._kept[place].id)
            return self._kept[place]
        if self._message is None:
            assert self._text is not None
            self._message = self._session.say(self._text).id
        self._kept[place] = self._session.keep_reply(self._message, reply)
        return self._kept[place]

    def keep_all(self, shown: int) -> None:
        """Make all replies alternatives in the conversation.

        Args:
            shown: The one to show.

        Raises:
            UsageError: One of them is not done, or all are empty.
        """
        if not self.is_done:
            raise UsageError("The replies are still being written. Stop them with Esc, or wait.")
        full = [place for place, trial in enumerate(self.trials) if trial.reply is not None and trial.reply.token_ids]
        for place in full:
            self.keep(place)
        self.keep(shown if shown in full or not full else full[0])

    def _finish(self, place: int, reply: Reply) -> None:
        trial, timings = self.trials[place], replace(reply.timings, load_seconds=self._session.load_seconds)
        trial.reply = signed(replace(reply, timings=timings), self._model, self._system)
        trial.text, trial.thought = reply.text, reply.thought
        trial.token_ids, trial.facts = list(reply.token_ids), list(reply.facts)


_NOT_READY = {
    "empty": "No model is open. Choose one with /model.",
    "loading": "The model is still being opened. Wait a moment.",
    "generating": "Stop the reply with Esc first.",
    "stopping": "Stop the reply with Esc first.",
}
