"""One reply in the making: what is drawn, why it ends, and what is remembered of it.

Knows nothing of how the logits come about, so that a reply of its own and one of
several in a batch are made in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llmchat.chat.diagnostics import IN_A_LOOP, LoopDetector, repetition
from llmchat.chat.generation_config import OF_WHOLE_REPLY, GenerationConfig, check_bans
from llmchat.chat.thought import Thought, joined, tokens_within
from llmchat.chat.turn import FinishReason, Reply, SettingsChange, Timings, TokenFacts
from llmchat.engine.engine import Engine, Logits, StopSignal
from llmchat.engine.prompt import Prompt
from llmchat.engine.token_sets import ids_containing, ids_of
from llmchat.sampling.chain import Draw, Position, Prospect
from llmchat.sampling.explain import Explanation, explain
from llmchat.sampling.history import TokenHistory
from llmchat.sampling.mirostat import limit_after
from llmchat.tokenizers.detokenizer import StreamingDetokenizer
from llmchat.tokenizers.readable import count_lacking
from llmchat.tokenizers.stop_strings import StopStrings
from llmchat.tokenizers.thinking import ThoughtSplitter

_NO_THOUGHT = Thought()


@dataclass(frozen=True, slots=True)
class ReplyPiece:
    """One step of a reply."""

    token_id: int | None
    """The token drawn; None for text that no new token brought: a beginning, or what was held back to the end."""
    text: str
    """The part of the answer that became certain with it; "" while a character or a stop string is open."""
    facts: TokenFacts | None = None
    """What is remembered of the token."""
    change: SettingsChange | None = None
    """Settings that took effect with this token."""
    thought: Thought = _NO_THOUGHT
    """The part of the thought before the answer that became certain with it."""


@dataclass(frozen=True, slots=True)
class Explained:
    """The candidates of one position of a reply."""

    token_index: int
    explanation: Explanation
    taken: int | None
    """The token that stands there; None if the reply ended there."""


class ReplyWriter:
    """Draws the tokens of one reply from the logits it is given.

    Call `begin` once, then `write` with the logits for each next token while
    `is_over` says no, then `end`. `reply` gives what there is so far at any time.
    A reply that goes on from `prompt.continued_ids` begins with their text and
    counts its tokens on from there, so that two halves draw the same dice as one whole.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Prompt,
        config_for: Callable[[int], GenerationConfig],
        seed: int,
        should_stop: StopSignal = lambda: False,
        forced: Sequence[tuple[int, int]] = (),
        earlier: Reply | None = None,
    ) -> None:
        """A reply that has not begun.

        Args:
            engine: The open model.
            prompt: What is read first.
            config_for: The settings for the token with this index.
            seed: The dice.
            should_stop: Asked before every token.
            forced: (token index, token id) to take in place of a draw.
            earlier: What is known of `prompt.continued_ids`, for samplers that have a state.

        Raises:
            UsageError: The settings ban tokens that are not there, or leave nothing to say.
        """
        self._engine = engine
        self._prompt = prompt
        self._config_for = config_for
        self._seed = seed
        self._should_stop = should_stop
        self._started = time.perf_counter()
        self._first_token_at = 0.0
        self._last_token_at = 0.0
        self.prefill_seconds = 0.0
        """How long the reading of the prompt took."""
        self.cached_tokens = 0
        """How many of its tokens were already in the KV cache."""
        self._token_ids = list(prompt.continued_ids)
        self._new_from = len(self._token_ids)
        self._facts: list[TokenFacts] = []
        self._loops = LoopDetector(prompt.continued_ids)
        self._forced = tuple(forced)
        self._seen: tuple[Logits, Prospect] | None = None
        self._text: list[str] = []
        self._thoughts: list[Thought] = []
        self._written_length = 0
        self._changes: list[SettingsChange] = []
        self._first_config = self._config = config_for(self._index)
        self._lora_scale = self._config.lora_scale
        check_bans(self._config, engine.info.vocab_size, engine.end_ids)
        self._finish: tuple[FinishReason, str] = ("cancelled", "stopped by you")
        self._history = TokenHistory(
            engine.info.vocab_size,
            prompt.token_ids,
            exempt=engine.end_ids,
            reply_length=self._new_from,
            mirostat_limit=_limit_after(earlier, self._new_from),
        )
        begins_reply = not (prompt.raw or prompt.prefill_text)
        self._prefill_bytes = len(prompt.prefill_text.encode())
        self._detokenizer = StreamingDetokenizer(engine.tokenizer, strip_leading_space=begins_reply)
        marks = None if prompt.raw or engine.prompt_style is None else engine.prompt_style.thinking_marks
        self._mark_tokens = {} if marks is None else marks.control_tokens(engine.tokenizer)
        self._splitter = ThoughtSplitter(marks, prompt.stage)
        self._thought_until = 0.0
        self._stops = StopStrings((*prompt.stop, *self._first_config.stop))

    def read_lora_scale(self) -> float:
        """The scale for the logits that are to be computed next; it stays that of their token."""
        self._lora_scale = self._config_for(self._index).lora_scale
        return self._lora_scale

    @property
    def config(self) -> GenerationConfig:
        """The settings that it began with."""
        return self._first_config

    @property
    def lora_scale(self) -> float:
        """The scale under which the prompt is to be read."""
        return self._first_config.lora_scale

    def begin(self) -> ReplyPiece | None:
        """The text that the reply begins with before any token is drawn, if there is some."""
        # Stop strings end what is drawn; what is given stays whole.
        thought, answer = self._splitter.add(self._prompt.prefill_text)
        rest = [self._split(self._decoded(token_id)) for token_id in self._prompt.continued_ids]
        beginning = self._piece(
            None, joined([thought, *(one for one, _ in rest)]), answer + "".join(text for _, text in rest)
        )
        return beginning if beginning.text or beginning.thought != _NO_THOUGHT else None

    def write(self, logits: Logits) -> ReplyPiece | None:
        """Draw the next token; None if that ends the reply.

        Raises:
            GenerationError: The model's numbers are not finite.
        """
        change = self._read_config()
        prospect = Prospect.of(logits, self._config, self._position(self._index, self._config))
        self._seen = (logits, prospect)
        draw = prospect.draw(self._seed, dict(self._forced).get(self._index))
        self._note_time()
        if draw.token_id in self._engine.end_ids and not self._goes_on_behind(draw.token_id):
            self._finish = ("stop", f"end token {self._engine.tokenizer.token_text(draw.token_id)}")
            return None
        return self._take(draw, change)

    def explain(self, count: int, config: GenerationConfig | None = None, also: Sequence[int] = ()) -> Explained | None:
        """The candidates of the latest position, under the settings in force there or under others.

        Args:
            count: How many to list.
            config: Other settings.
            also: Tokens to list however unlikely they are.

        Returns:
            None while no token has been drawn.
        """
        if self._seen is None:
            return None
        logits, prospect = self._seen
        index = prospect.index
        taken = self._token_ids[index] if index < len(self._token_ids) else None
        if config is not None:
            # The penalties there did not know of the token that was drawn there.
            with self._history.rewound(len(self._token_ids) - index):
                prospect = Prospect.of(logits, config, self._position(index, config))
        explanation = explain(prospect, count, self._seed, also if taken is None else (*also, taken))
        return Explained(index, explanation, taken)

    def end(self) -> ReplyPiece | None:
        """The text that was held back to the end, if there is some."""
        if self._stops.found is not None:
            return None
        thought, answer = self._split(self._detokenizer.finish())
        last, rest = self._splitter.finish()
        held = self._piece(None, joined([thought, last]), answer + self._stops.add(rest) + self._stops.finish())
        return held if held.text or held.thought != _NO_THOUGHT else None

    def reply(self) -> Reply:
        """The reply so far."""
        decode_seconds = self._last_token_at - self._first_token_at
        new_tokens = len(self._token_ids) - self._new_from
        read = len(self._prompt.token_ids) - self.cached_tokens
        text, thought = "".join(self._text), self._thought()
        unknown_tokens, byte_tokens = count_lacking(self._engine.tokenizer, self._token_ids)
        return Reply(
            text=text,
            token_ids=tuple(self._token_ids),
            finish_reason=self._finish[0],
            finish_detail=self._finish_words(thought.written + text),
            config=self._first_config,
            seed=self._seed,
            model=self._engine.info.name,
            raw=self._prompt.raw,
            changes=tuple(self._changes),
            prompt_tokens=len(self._prompt.token_ids),
            cached_tokens=self.cached_tokens,
            dropped_tokens=self._prompt.dropped_tokens,
            prefill_text=self._prompt.prefill_text,
            prompts=(self._prompt.facts,),
            facts=tuple(self._facts),
            forced=tuple(pick for pick in self._forced if self._new_from <= pick[0] < self._index),
            unknown_tokens=unknown_tokens,
            byte_tokens=byte_tokens,
            thought=thought,
            timings=Timings(
                time_to_first_token_seconds=max(self._first_token_at - self._started, 0.0),
                prompt_tokens_per_second=read / self.prefill_seconds if self.prefill_seconds else 0.0,
                tokens_per_second=(new_tokens - 1) / decode_seconds if decode_seconds > 0 else 0.0,
            ),
        )

    def _finish_words(self, text: str) -> str:
        """The cause of the end, and whether the reply was going round in a loop, which nothing of its own ends."""
        reason, detail = self._finish
        starts = [fact.start for fact in self._facts]
        loops = reason != "stop" and repetition(self._loops, text, starts) is not None
        return f"{detail}, {IN_A_LOOP}" if loops else detail

    @property
    def _index(self) -> int:
        """Which token of the whole reply is next."""
        return len(self._token_ids)

    def _decoded(self, token_id: int) -> str:
        """The text that became certain with a token; before the answer, control tokens of marks by their names."""
        name = self._mark_tokens.get(token_id, "") if self._splitter.stage != "answer" else ""
        return self._detokenizer.add(token_id, name)

    def _split(self, text: str) -> tuple[Thought, str]:
        """What became certain of the thought, and of the answer up to a stop string."""
        thought, answer = self._splitter.add(text)
        return thought, self._stops.add(answer)

    def _goes_on_behind(self, end_id: int) -> bool:
        """Whether an end token ends only the thought."""
        return self._splitter.is_closed_by(self._mark_tokens.get(end_id, ""))

    def _thought(self) -> Thought:
        """What was written before the answer, with its tokens and seconds."""
        thought = joined(self._thoughts)
        if not thought.written:
            return _NO_THOUGHT
        starts = self._detokenizer.offsets
        length = len(thought.written.encode()) - self._prefill_bytes
        # Without an answer, all that was drawn is of the thought.
        has_answer = self._splitter.stage == "answer" and self._detokenizer.byte_count > length
        tokens = tokens_within(starts, length) if has_answer else len(starts)
        seconds = max(self._thought_until - self._first_token_at, 0.0)
        return replace(thought, tokens=tokens, seconds=seconds)

    def _position(self, index: int, config: GenerationConfig) -> Position:
        """What the sampling chain may know; of the vocabulary only what the settings ask for."""
        tokenizer, nothing = self._engine.tokenizer, frozenset[int]()
        return Position(
            index,
            self._history,
            self._engine.end_ids,
            ids_containing(tokenizer, config.dry_breakers) if config.dry_multiplier else nothing,
            ids_of(tokenizer, "\n") if config.xtc_probability and config.xtc_spares_ends else nothing,
        )

    def _take(self, draw: Draw, change: SettingsChange | None) -> ReplyPiece:
        """Make a drawn token part of the reply."""
        self._token_ids.append(draw.token_id)
        self._loops.add(draw.token_id)
        self._history.add_drawn(draw.token_id, draw.final_logprob, self._config)
        thought, text = self._split(self._decoded(draw.token_id))
        if self._splitter.stage != "answer":
            self._thought_until = self._last_token_at
        start = self._detokenizer.offsets[-1] + self._prefill_bytes
        facts = TokenFacts(start, draw.raw_logprob, draw.final_logprob, draw.rank, draw.entropy)
        self._facts.append(facts)
        return self._piece(draw.token_id, thought, text, facts, change)

    def is_over(self) -> bool:
        """Whether something other than an end token ends the reply here; notes what."""
        limit = self._config_for(self._index).max_new_tokens
        context = self._engine.info.context_length
        if self._stops.found is not None:
            self._finish = ("stop", f"stop string {self._stops.found!r}")
        elif self._should_stop():
            self._finish = ("cancelled", "stopped by you")
        elif len(self._token_ids) - self._new_from >= limit:
            self._finish = ("length", f"max_new_tokens {limit}")
        elif not self._engine.slides and len(self._prompt.token_ids) + len(self._token_ids) - self._new_from >= context:
            self._finish = ("length", f"the context of {context} tokens is full")
        else:
            return False
        return True

    def _read_config(self) -> SettingsChange | None:
        """Take the settings for the next token; notes what moved since the last one."""
        config, before = self._config_for(self._index), self._config
        if config.lora_scale != self._lora_scale:
            # Moved since the logits were computed.
            config = config.changed(lora_scale=self._lora_scale)
        if config is before or config == before:
            return None
        self._config = config
        moved = {name: value for name, value in config.difference(before).items() if name not in OF_WHOLE_REPLY}
        if not moved:
            return None
        change = SettingsChange(self._index, self._written_length, moved)
        self._changes.append(change)
        return change

    def _piece(
        self,
        token_id: int | None,
        thought: Thought,
        text: str,
        facts: TokenFacts | None = None,
        change: SettingsChange | None = None,
    ) -> ReplyPiece:
        """One step, which becomes part of the reply."""
        self._text.append(text)
        self._written_length += len(text)
        if thought != _NO_THOUGHT:
            self._thoughts.append(thought)
            self._written_length += len(thought.written)
        return ReplyPiece(token_id, text, facts, change, thought)

    def _note_time(self) -> None:
        self._last_token_at = time.perf_counter()
        if not self._first_token_at:
            self._first_token_at = self._last_token_at


def _limit_after(earlier: Reply | None, count: int) -> float | None:
    """Mirostat's limit behind the first tokens of a reply; None where it begins anew."""
    if earlier is None or not count or len(earlier.facts) < count:
        return None
    if not earlier.config.mirostat_tau and not any("mirostat_tau" in change.values for change in earlier.changes):
        return None
    return limit_after([fact.final_logprob for fact in earlier.facts[:count]], earlier.config_at)
