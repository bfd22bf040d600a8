"""Making the replies of a transcript again, with the sliders moving as they did.

reply ─ parts ─ one request each: its settings token by token, the tokens the person
  │              chose, the prompt fitted as then ─▶ worker ─▶ the same ids, or not
  └ model and chat template ─ opened anew where replies of several stand side by side
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from typing import Self

from llmchat.chat.generation_config import SPEC_BY_NAME, GenerationConfig
from llmchat.chat.model import ModelInfo, ModelSpec, recorded_tokenizer
from llmchat.chat.prompt_facts import other_prompt_words
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, Turn
from llmchat.errors import ENGINES_TO_INSTALL, ModelLoadError
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    LoadRequest,
    ModelLoaded,
    ModelLoadFailed,
    Request,
)

_NO_LIMIT = int(SPEC_BY_NAME["max_new_tokens"].maximum)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """How one reply came out the second time."""

    turn: Turn
    token_ids: tuple[int, ...] = ()
    """The tokens of the second time; none if the reply was passed over."""
    text: str = ""
    first_difference: int | None = None
    """Index of the first token that differs; None if all are equal."""
    other_prompt: str = ""
    """That the prompt is not what it was, and the likely cause; "" if it is the same, or was not kept."""
    passed_over: str = ""
    """Why the reply was not made again; "" if it was."""


class Schedule:
    """The settings of a recorded reply, or of one of its parts, token by token; after the last it says `done`."""

    def __init__(self, reply: Reply, start: int = 0, end: int | None = None) -> None:
        """A schedule that has not begun.

        Args:
            reply: What was recorded.
            start: The first token of the part.
            end: The token before which the part ends; by default behind the last.
        """
        self.done = threading.Event()
        """Set when there is nothing left to make."""
        self._reply = reply
        self._start = start
        self._end = len(reply.token_ids) if end is None else end
        self._configs: dict[int, GenerationConfig] = {}

    def __call__(self, token_index: int) -> GenerationConfig:
        """The settings for the token with this index."""
        if token_index >= self._end:
            self.done.set()
        reached = sum(change.token_index <= token_index for change in self._reply.changes)
        # The limit at the first token stays as it was: by it, the prompt was cut to fit.
        key = -1 if token_index == self._start else reached
        if key not in self._configs:
            config = self._reply.config_at(token_index)
            limit = config.max_new_tokens if key < 0 else _NO_LIMIT
            # What ended the reply may have been a person, so nothing but its length ends it now.
            self._configs[key] = config.changed(max_new_tokens=limit, stop=(), seed=None)
        return self._configs[key]


def replay(
    transcript: Transcript,
    spec: ModelSpec,
    *,
    any_model: bool = False,
    turn_id: str | None = None,
    asked: Collection[str] = (),
) -> Iterator[ReplayResult]:
    """Generate replies again, those of one model after those of another.

    With the same machine, precision, threads and torch, no token differs.

    Args:
        transcript: The conversation.
        spec: The model that the conversation began with, and where models run.
        any_model: Make every reply with this model, whatever model made it.
        turn_id: The only reply to make; by default every one.
        asked: The fields of `spec` that hold whatever was recorded, such as "chat_template".

    Raises:
        LlmchatError: The model could not be opened, there is no such reply, or a reply could not be made.
    """
    turns = [transcript.turn(turn_id)] if turn_id is not None else list(transcript)
    with _Player(transcript, spec, any_model=any_model, asked=asked) as player:
        for turn in _by_model(turns, player):
            yield player.play(turn)


def _by_model(turns: Sequence[Turn], player: _Player) -> list[Turn]:
    """The turns with drawn replies, those that one model made side by side."""
    drawn = [turn for turn in turns if turn.reply is not None and turn.reply.token_ids]
    specs = list(dict.fromkeys(player.spec_of(turn) for turn in drawn))
    return sorted(drawn, key=lambda turn: specs.index(player.spec_of(turn)))


class _Player:
    """A worker that makes replies again, each with the model and the chat template that made it."""

    def __init__(self, transcript: Transcript, spec: ModelSpec, *, any_model: bool, asked: Collection[str]) -> None:
        self._transcript, self._spec, self._any_model, self._asked = transcript, spec, any_model, asked
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._worker = InferenceWorker(self._events.put)
        self._open: tuple[ModelSpec, ModelInfo] | None = None

    def __enter__(self) -> Self:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def spec_of(self, turn: Turn, part: int = 0) -> ModelSpec:
        """What is to be opened to make one of a reply's parts again."""
        reply, spec = turn.reply, self._spec
        assert reply is not None
        if not self._any_model and reply.model_path and reply.model_path != self._transcript.model_path:
            tokenizer = recorded_tokenizer(reply.model_path, reply.tokenizer_path)
            spec = replace(spec, model=reply.model_path, tokenizer=tokenizer)
        if reply.engine in ENGINES_TO_INSTALL and "engine" not in self._asked:
            spec = replace(spec, engine=reply.engine)
        if not self._any_model and "lora" not in self._asked:
            spec = replace(spec, lora=reply.lora_path)
        if part < len(reply.prompts):
            facts = reply.prompts[part]
            if "parse_special" not in self._asked:
                spec = replace(spec, parse_special=facts.parse_special)
            # Raw prompts are made without a template, whatever it is.
            if "chat_template" not in self._asked and facts.template:
                spec = replace(spec, chat_template=facts.given_template or None)
        return spec

    def play(self, turn: Turn) -> ReplayResult:
        """Make one reply again, part by part, until a token differs.

        Raises:
            LlmchatError: It could not be made, or the model that the conversation began with not be opened.
        """
        reply, other_prompt = turn.reply, ""
        assert reply is not None
        again = Reply("", (), "cancelled", "", reply.config, reply.seed)
        for part, (start, end) in enumerate(pairwise((0, *reply.parts, len(reply.token_ids)))):
            spec = self.spec_of(turn, part)
            try:
                info = self._model(spec)
            except ModelLoadError as error:
                recorded = spec.chat_template not in (None, self._spec.chat_template) or spec.lora != self._spec.lora
                if spec.model == self._spec.model and not recorded:
                    raise
                return ReplayResult(turn, passed_over=error.message)
            if not self._any_model and reply.model != info.name:
                return ReplayResult(turn, passed_over=f"made by {reply.model or 'another model'}; give it with --model")
            if start == end:
                continue
            again = self._play_part(reply, start, end, self._transcript.asked(turn.id), part)
            if part < len(reply.prompts) and not other_prompt:
                other_prompt = other_prompt_words(reply.prompts[part], again.prompts[-1])
            if again.token_ids != reply.token_ids[:end]:
                break
        difference = _first_difference(reply.token_ids, again.token_ids)
        return ReplayResult(turn, again.token_ids, again.text, difference, other_prompt=other_prompt)

    def _model(self, spec: ModelSpec) -> ModelInfo:
        """Open a model, if it is not open yet.

        Raises:
            ModelLoadError: It cannot be opened.
        """
        if self._open is None or self._open[0] != spec:
            self._open = None
            loaded = self._answer(LoadRequest(spec))
            assert isinstance(loaded, ModelLoaded)
            self._open = spec, loaded.info
        return self._open[1]

    def _play_part(self, reply: Reply, start: int, end: int, turns: tuple[Turn, ...], part: int) -> Reply:
        # Whether an end token comes where it came shows in one token more.
        ends_itself = end == len(reply.token_ids) and reply.finish_detail.startswith("end token")
        schedule = Schedule(reply, start, end + ends_itself)
        request = GenerationRequest(
            turns=turns,
            config=schedule,
            seed=reply.seed,
            raw=reply.raw,
            prefill_text=reply.prefill_text,
            continued_ids=reply.token_ids[:start],
            forced=tuple(pick for pick in reply.forced if start <= pick[0] < end),
            continued_from=reply if start else None,
            moment=reply.prompts[part].moment if part < len(reply.prompts) else None,
            cancel=schedule.done,
        )
        finished = self._answer(request)
        assert isinstance(finished, GenerationFinished)
        return finished.reply

    def _answer(self, request: Request) -> Event:
        """Submit a request and wait for its terminal event; a failure is raised."""
        self._worker.submit(request)
        while True:
            match event := self._events.get():
                case ModelLoadFailed() | GenerationFailed():
                    raise event.error
                case ModelLoaded() | GenerationFinished():
                    return event


def _first_difference(recorded: tuple[int, ...], again: tuple[int, ...]) -> int | None:
    pairs = enumerate(zip_longest(recorded, again))
    return next((index for index, (one, other) in pairs if one != other), None)
