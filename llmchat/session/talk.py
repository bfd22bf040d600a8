"""What a model is asked in a conversation: the reply that runs, what waits for it, and the model that is to come.

send, regenerate, stop, load_model … ─▶ Talk ─ requests ─▶ inference worker
turns, state ◀──────────────────────      ▲ ───────── events ──────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from llmchat.chat.amounts import ASK_ABOVE
from llmchat.chat.generation_config import GenerationConfig, check_bans, roll_seed
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Reply, Turn, new_id, system_of, under_system
from llmchat.errors import LlmchatError, PromptTooLongError, UsageError
from llmchat.session.conversation import Conversation
from llmchat.session.running import Running
from llmchat.session.waiting import Waiting
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    InspectRequest,
    LiveConfig,
    LoadRequest,
    ModelChanged,
    ModelLoaded,
    ModelLoadFailed,
    ModelPrepared,
    PromptProcessed,
    Request,
    TokensGenerated,
)

SessionState = Literal["empty", "loading", "ready", "generating", "stopping"]
"""empty: no model is open; the others as they say."""


class Talk(Conversation):
    """A conversation with a model that answers: its requests, what runs, and what waits."""

    def __init__(
        self,
        submit: Callable[[Request], object],
        warn: Callable[[LlmchatError], object],
        *,
        config: GenerationConfig | None = None,
        raw: bool = False,
        system: str = "",
        prefill_text: str = "",
        autosave: bool = True,
        kv_cache: bool = True,
    ) -> None:
        """A conversation without a model or a turn.

        Args:
            submit: Takes requests for the worker.
            warn: Told of failures that do not stop the conversation, such as a full disk.
            config: The settings to begin with.
            raw: Send prompts as they stand, also where the model has a chat template.
            system: The system prompt; "" for none.
            prefill_text: What every reply must begin with.
            autosave: Keep the conversation in a transcript file.
            kv_cache: Keep what the model has read of one that is in a file.
        """
        super().__init__(warn, raw=raw, system=system, autosave=autosave)
        self._submit, self._kv_cache = submit, kv_cache
        self.live = LiveConfig(config or GenerationConfig())
        self.prefill_text = prefill_text
        self.spec = ModelSpec()
        """What the open model was asked for as; without one, that which could not be opened last."""
        self.load: LoadRequest | None = None
        """A model that is to be opened, as soon as a running reply is done."""
        self.last_seed: int | None = None
        self.returned = ""
        """What the latest reply or model that failed left unsaid: a message too long for it, and those behind it."""
        self.returned_edit: str | None = None
        """The turn that it was to be put in place of, where it begins with an edit."""
        self._waiting: list[Waiting] = []
        self._meant_before = 0
        """How much of it was asked for before that model was."""
        self._is_urgent = False

    # ── state ──

    @property
    def config(self) -> GenerationConfig:
        """The settings; assigning acts from the next token of a running reply on.

        UsageError is raised for bans that the open model cannot have.
        """
        return self.live.config

    @config.setter
    def config(self, config: GenerationConfig) -> None:
        if self.model is not None and config.banned_tokens != self.live.config.banned_tokens:
            check_bans(config, self.model.vocab_size)
        self.live.config = config

    @property
    def state(self) -> SessionState:
        """What is going on."""
        if self.running is not None:
            return "stopping" if self.running.request.cancel.is_set() else "generating"
        if self.load is not None:
            return "loading"
        return "empty" if self.model is None else "ready"

    @property
    def queued(self) -> tuple[str, ...]:
        """Prompts that wait for the model or for the reply before them."""
        return tuple(item.text for item in self._waiting if item.text is not None)

    # ── the model ──

    def load_model(
        self, spec: ModelSpec, *, at_once: bool = False, asks: bool = True, ignores_memory: bool = False
    ) -> str:
        """Open a model once a running reply is done; the conversation stays, and so does the open model if this fails.

        What waits, and what is said from now on, is for the new model; what waited for one that has not come is not.

        Args:
            spec: The model.
            at_once: Stop a running reply as soon as it is known that the model opens; what waits does not follow.
            asks: Fail with a FetchQuestionError where much would have to be fetched; for a yes, load it without.
            ignores_memory: Open it also where it seems to need more memory than is free.

        Returns:
            The prompts that do not wait any more, to be given back to the person.
        """
        given_back = ""
        if self.load is not None:
            self.load.cancel.set()
            given_back = self._take_back(self._meant_before)
        if at_once:
            given_back = self._take_back(0)
        self._meant_before, self._is_urgent = len(self._waiting), at_once
        self.load = LoadRequest(spec, ASK_ABOVE if asks else None, ignores_memory)
        self._submit(self.load)
        return given_back

    # ── talking ──

    def send(self, text: str) -> None:
        """Say something; it waits its turn if the model is busy.

        Raises:
            UsageError: The text is empty, or no model is open.
        """
        if not text.strip():
            raise UsageError("The prompt is empty.")
        self._enqueue(Waiting(text=text))

    def regenerate(self, turn_id: str | None = None, times: int = 1, seed: int | None = None) -> None:
        """Answer again; the replies that are there stay as alternatives.

        Args:
            turn_id: The reply, or the message, to answer anew; by default the last.
            times: How many new replies.
            seed: Their dice; by default those of the settings.

        Raises:
            UsageError: There is nothing to answer.
        """
        message = self.message_to_answer(turn_id)
        for _ in range(times):
            self._enqueue(Waiting(turn_id=message.id, seed=seed))

    def continue_reply(self, turn_id: str | None = None) -> None:
        """Go on with a reply where it ended, from its own tokens.

        A reply that a person edited is gone on with from its text.

        Raises:
            UsageError: There is no reply, or one is being made.
        """
        turn = self.transcript.turn(turn_id) if turn_id else self.transcript.leaf
        if turn is None or turn.role != "assistant" or turn.parent is None:
            raise UsageError("There is no reply to go on with yet.")
        if self.state != "ready":
            raise UsageError("Wait until the reply is done, or stop it with Esc.")
        if (reply := self._own_reply(turn)) is not None:
            self._start(turn.parent, seed=reply.seed, first_part=reply, prefill_text=reply.prefill_text)
        else:
            self._start(turn.parent, prefill_text=_as_prefill(turn))

    def branch_at(self, turn_id: str, token_index: int, token_id: int) -> None:
        """Take another token at one place of a reply and go on from there, as a new alternative.

        Args:
            turn_id: The reply.
            token_index: Which of its tokens to replace; their number means to go on behind the last one.
            token_id: The token to take.

        Raises:
            UsageError: The reply is not this model's, or one is being made.
        """
        self.require_rest()
        reply = self.drawn_reply(turn_id)
        parent = self.transcript.turn(turn_id).parent
        assert parent is not None
        self._start(
            parent,
            seed=reply.seed,
            first_part=reply.before(token_index),
            prefill_text=reply.prefill_text,
            forced=((token_index, token_id),),
        )

    def inspect(self, turn_id: str, token_index: int, count: int) -> int:
        """Ask what could have come at one place of a reply; a `NextToken` with the id returned answers.

        Args:
            turn_id: The reply.
            token_index: The place; the number of tokens means the one behind the last.
            count: How many candidates to list.

        Raises:
            UsageError: The reply is not this model's, or one is being made.
        """
        self.require_rest()
        reply = self.drawn_reply(turn_id)
        request = InspectRequest(self.transcript.asked(turn_id), reply, token_index, count)
        self._submit(request)
        return request.request_id

    def stop(self) -> str | None:
        """Stop the running reply within a token; what waits does not follow.

        Returns:
            The prompts that were waiting, to be given back to the person.
        """
        waiting = self._take_back(0)
        if self.running is not None:
            self.running.request.cancel.set()
        return waiting or None

    # ── changing what was said ──

    def edit(self, turn_id: str, text: str) -> Turn:
        """Put an alternative beside a turn; a message is answered anew.

        Raises:
            UsageError: The text is empty, or a reply is being made.
        """
        turn = super().edit(turn_id, text)
        if turn.role == "user":
            self._enqueue(Waiting(turn_id=turn.id, edited=turn_id))
        return turn

    # ── events ──

    def handle(self, event: Event) -> None:
        """Take in what the worker reports; events of requests that were given up are passed over."""
        match event:
            case ModelLoaded() if self.load is not None and event.request_id == self.load.request_id:
                self.spec, self.load = self.load.spec, None
                self.model, self.load_seconds = event.info, event.load_seconds
                self._next()
            case ModelChanged() if self.model is not None:
                self.model = event.info
            case ModelPrepared() if self.load is not None and event.request_id == self.load.request_id:
                if self._is_urgent and self.running is not None:
                    self.running.request.cancel.set()
            case ModelLoadFailed() if self.load is not None and event.request_id == self.load.request_id:
                self._go_on_without(event, self.load)
            case PromptProcessed() | TokensGenerated() | GenerationFinished() | GenerationFailed():
                running = self.running
                if running is not None and event.request_id == running.request.request_id:
                    self._handle_running(event, running)

    def _handle_running(
        self, event: PromptProcessed | TokensGenerated | GenerationFinished | GenerationFailed, running: Running
    ) -> None:
        match event:
            case PromptProcessed():
                running.prompt = event
                self.dropped_turns = frozenset(event.dropped_turns)
            case TokensGenerated():
                running.add(event)
                self._keeper.checkpoint(lambda: running.turn(running.reply()))
            case GenerationFinished() | GenerationFailed():
                self.running = None
                if event.reply is not None and (event.reply.token_ids or event.reply.text):
                    self._add_turn(running.turn(running.joined(event.reply)))
                if isinstance(event, GenerationFailed):
                    self._give_up(event, running)
                self._next()

    # ── inside ──

    def _go_on_without(self, event: ModelLoadFailed, load: LoadRequest) -> None:
        """Hand back what was meant for a model that could not be opened."""
        self.load, self.model = None, event.info
        self.returned, self.returned_edit = self._take_back(0 if self.model is None else self._meant_before), None
        if self.model is None:
            self.spec = load.spec
        self._next()

    def _take_back(self, first: int) -> str:
        """Let what waits not follow, from some place on; returns its prompts."""
        texts = [item.text for item in self._waiting[first:] if item.text is not None]
        del self._waiting[first:]
        return "\n\n".join(texts)

    def _give_up(self, event: GenerationFailed, running: Running) -> None:
        """Hand back what a failed reply leaves unsaid."""
        unsaid = list(self.queued)
        self.returned_edit = None
        self._waiting.clear()
        if isinstance(event.error, PromptTooLongError) and running.is_to_new:
            unsaid.insert(0, self.transcript.turn(running.parent).text)
            self.retract(running.parent)
            self.returned_edit = running.edited
        self.returned = "\n\n".join(unsaid)

    def _enqueue(self, item: Waiting) -> None:
        if self.model is None and self.load is None:
            raise UsageError("No model is open. Choose one with /model.")
        self._waiting.append(item)
        self._next()

    def _next(self) -> None:
        """Start what waits first, if the model is free."""
        if self.state != "ready" or not self._waiting:
            return
        item = self._waiting.pop(0)
        if item.text is not None:
            self._start(self.say(item.text).id, is_to_new=True)
        elif item.turn_id is not None and item.turn_id in self.transcript:
            self._start(item.turn_id, seed=item.seed, is_to_new=item.edited is not None, edited=item.edited)

    def _start(
        self,
        parent: str,
        *,
        seed: int | None = None,
        first_part: Reply | None = None,
        prefill_text: str | None = None,
        forced: tuple[tuple[int, int], ...] = (),
        is_to_new: bool = False,
        edited: str | None = None,
    ) -> None:
        """Ask for a reply that follows the turn `parent`."""
        if seed is None:
            seed = roll_seed() if self.config.seed is None else self.config.seed
        self.last_seed = seed
        raw = self.raw if first_part is None else first_part.raw
        turns, system = self.transcript.path(parent), self.system
        if first_part is not None:
            system = system_of(turns) if first_part.system is None else first_part.system
        request = GenerationRequest(
            turns=under_system(turns, system),
            config=self.live,
            seed=seed,
            raw=raw,
            prefill_text=self.prefill_text if prefill_text is None else prefill_text,
            continued_ids=() if first_part is None else first_part.token_ids,
            continued_from=first_part,
            forced=forced,
            moment=None if is_to_new else self._moment_of(parent, first_part),
            transcript=self.path if self._kv_cache else None,
        )
        assert self.model is not None
        raw = raw or self.is_raw
        own_system = system if not raw and system != system_of(turns) else None
        self.running = Running(
            request, new_id(), parent, self.config, self.model, raw, own_system, first_part, is_to_new, edited
        )
        self._submit(request)


def _as_prefill(turn: Turn) -> str:
    """The text to go on from where a reply's ids do not say it; a thought stays, if the mark that opens it is known."""
    reply = turn.reply
    has_mark = reply is not None and reply.text == turn.text and reply.thought.opening.strip()
    return reply.written if reply is not None and has_mark else turn.text
