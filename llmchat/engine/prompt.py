"""From the turns of a conversation to the ids that the model reads."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from llmchat.chat.prompt_facts import PromptFacts, digest, digest_of_ids, digest_of_said
from llmchat.chat.template_args import template_values
from llmchat.chat.turn import Turn
from llmchat.engine.engine import Engine, StopSignal
from llmchat.engine.text_size import FEW_CHARS, MOST_CHARS, check_length, least_tokens, too_long
from llmchat.errors import GenerationError, PromptTooLongError, UsageError
from llmchat.tokenizers.prompt_style import EncodedPrompt
from llmchat.tokenizers.thinking import Stage


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is read before the first token is drawn."""

    token_ids: tuple[int, ...]
    raw: bool
    """Whether the text went in as it is, without a chat template."""
    stop: tuple[str, ...] = ()
    """Stop strings that belong to the style, beside the person's own."""
    prefill_text: str = ""
    continued_ids: tuple[int, ...] = ()
    dropped_turns: tuple[str, ...] = ()
    """Ids of turns that did not fit."""
    dropped_tokens: int = 0
    """Tokens of the prompt that the model does not see."""
    facts: PromptFacts = field(default_factory=PromptFacts)
    """What made it."""
    stage: Stage = "answer"
    """Whether a reply begins in a thought that the prompt opened, with an answer, or with either."""


def build_prompt(
    engine: Engine,
    turns: Sequence[Turn],
    *,
    raw: bool = False,
    prefill_text: str = "",
    continued_ids: tuple[int, ...] = (),
    reply_room: int = 1,
    moment: datetime | None = None,
    template_args: Sequence[str] = (),
    should_stop: StopSignal = lambda: False,
) -> Prompt:
    """Turn a conversation into ids that fit the context.

    With a chat template the oldest turns are left out until the rest and
    `reply_room` tokens fit; the system turn stays. Raw prompts stand alone:
    only the last turn's text is read.

    Args:
        engine: The open model.
        turns: Oldest first, the one to answer last.
        raw: Leave the chat template out; so it is in any case if the model has none.
        prefill_text: Text that the reply begins with.
        continued_ids: Ids of the reply's earlier part.
        reply_room: Tokens wanted free for the reply.
        moment: The local time that the chat template is told; by default the present.
        template_args: Variables of the chat template, as a config has them.
        should_stop: Asked now and then while a very long text is looked at.

    Raises:
        UsageError: There is nothing to read.
        GenerationError: It was stopped, or the template fails.
        PromptTooLongError: The last turn alone does not fit.
    """
    if raw or engine.prompt_style is None:
        return _raw_prompt(engine, turns, prefill_text, continued_ids, should_stop)
    style = engine.prompt_style
    moment = (moment or datetime.now().replace(microsecond=0)) if style.asks_for_date else None
    known = [_with_trusted_ids(turn, engine) for turn in turns]
    head = 1 if known and known[0].role == "system" else 0
    starts = [i for i, turn in enumerate(known) if i >= head and turn.role == "user"] or [head]

    context = engine.info.context_length
    first = _first_that_may_fit(engine, known, head, starts, should_stop)

    told = template_values(template_args)

    def encode(dropped: int) -> EncodedPrompt:
        kept = known[:head] + known[starts[dropped] :]
        return style.encode_prompt(
            kept,
            prefill_text=prefill_text,
            continued_ids=continued_ids,
            parse_special=engine.info.parse_special,
            moment=moment,
            told=told,
        )

    token_ids, stage = encode(first)
    dropped, dropped_tokens = first, 0
    if len(token_ids) > context - reply_room and len(starts) > first + 1:
        whole = len(token_ids)
        dropped = bisect.bisect_left(
            range(len(starts) - 1), True, lo=first, key=lambda count: len(encode(count).ids) <= context - reply_room
        )
        token_ids, stage = encode(dropped)
        dropped_tokens = whole - len(token_ids)
    gone = tuple(turn.id for turn in known[head : starts[dropped]]) if dropped else ()
    prompt = Prompt(
        tuple(token_ids), False, style.stop_strings, prefill_text, continued_ids, gone, dropped_tokens, stage=stage
    )
    return _with_facts(engine, _checked(engine, prompt), turns, moment)


def _first_that_may_fit(
    engine: Engine, turns: Sequence[Turn], head: int, starts: Sequence[int], should_stop: StopSignal
) -> int:
    """How many of the questions and answers at the beginning are surely too many, by the length of their texts.

    Raises:
        PromptTooLongError: The last one alone is too long.
    """
    if sum(len(turn.text) for turn in turns) <= FEW_CHARS:
        return 0
    context, ends = engine.info.context_length, [*starts[1:], len(turns)]
    texts = [turn.text for turn in turns]
    total, chars = 0, 0
    for place in range(len(starts) - 1, -1, -1):
        is_last = place == len(starts) - 1
        for text in (*(texts[:head] if is_last else ()), *texts[starts[place] : ends[place]]):
            total += least_tokens(engine.tokenizer, text, context - total, should_stop)
            chars += len(text)
        if total > context or chars > MOST_CHARS:
            if is_last and total > context and not engine.slides:
                raise too_long(chars, total, context)
            if is_last:
                check_length(chars)
            return place if is_last else place + 1
    return 0


def _raw_prompt(
    engine: Engine, turns: Sequence[Turn], prefill_text: str, continued_ids: tuple[int, ...], should_stop: StopSignal
) -> Prompt:
    """The last turn's text as it stands, in the manner of a text to continue."""
    tokenizer, context = engine.tokenizer, engine.info.context_length
    text = (turns[-1].text if turns else "") + prefill_text
    if not engine.slides and (least := least_tokens(tokenizer, text, context, should_stop)) > context:
        raise too_long(len(text), least, context)
    check_length(len(text))
    token_ids = tokenizer.encode(text, parse_special=engine.info.parse_special)
    if tokenizer.adds_bos and tokenizer.bos_id is not None and token_ids[:1] != [tokenizer.bos_id]:
        token_ids.insert(0, tokenizer.bos_id)
    prompt = Prompt((*token_ids, *continued_ids), True, (), prefill_text, continued_ids)
    return _with_facts(engine, _checked(engine, prompt), turns[-1:])


def _with_facts(engine: Engine, prompt: Prompt, turns: Sequence[Turn], moment: datetime | None = None) -> Prompt:
    """The prompt with what made it."""
    style = None if prompt.raw else engine.prompt_style
    facts = PromptFacts(
        tokens=len(prompt.token_ids),
        ids=digest_of_ids(prompt.token_ids),
        said=digest_of_said([*(said for turn in turns for said in _said(turn)), ("prefill", prompt.prefill_text)]),
        template=digest(style.source) if style else "",
        given_template=engine.info.chat_template if style else "",
        moment=moment,
        parse_special=engine.info.parse_special,
    )
    return replace(prompt, facts=facts)


def _said(turn: Turn) -> Iterator[tuple[str, str]]:
    if turn.reply is not None and turn.reply.thought.text:
        yield "thought", turn.reply.thought.text
    yield turn.role, turn.text


def _checked(engine: Engine, prompt: Prompt) -> Prompt:
    """The prompt with every id inside the model's vocabulary, and not too long."""
    if not prompt.token_ids:
        raise UsageError("The prompt is empty for this model's tokenizer. Write a word to go on from.")
    vocab_size, unknown = engine.info.vocab_size, engine.tokenizer.unk_id
    if max(prompt.token_ids) >= vocab_size:
        if unknown is None or unknown >= vocab_size:
            raise GenerationError(
                f"The tokenizer has more tokens than the model's {vocab_size}: they do not belong together. "
                "Give the model's own with --tokenizer."
            )
        fitting = tuple(token if token < vocab_size else unknown for token in prompt.token_ids)
        prompt = replace(prompt, token_ids=fitting)
    excess = len(prompt.token_ids) - engine.info.context_length
    if engine.slides:
        return replace(prompt, dropped_tokens=max(excess, 0))
    if excess >= 0:
        raise PromptTooLongError(
            f"The prompt has {len(prompt.token_ids)} tokens, but the model's context holds "
            f"{engine.info.context_length} with the reply. Shorten the prompt."
        )
    return prompt


def _with_trusted_ids(turn: Turn, engine: Engine) -> Turn:
    """The turn, without its ids if a model with another tokenizer drew them: there they mean other tokens."""
    reply, info = turn.reply, engine.info
    if reply is None or reply.model == info.name:
        return turn
    if reply.tokenizer_path and Path(reply.tokenizer_path) == Path(info.tokenizer_path).absolute():
        return turn
    return replace(turn, reply=replace(reply, token_ids=()))
