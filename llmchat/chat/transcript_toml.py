"""What a transcript's TOML tables mean: turns, replies and what happened to them as tables, and back.

    schema = 1
    id = "5f0c2a91be77"
    created = 2026-01-31 18:04:11+00:00
    title = "Tell me about the sea."

    [[turns]]
    id = "90ab12cd34ef"
    role = "user"
    created = 2026-01-31 18:04:11+00:00
    text = "Tell me about the sea."

The keys stand in an order that shows whether the last turn is whole: `text` is the
last plain key, and a reply ends with `[turns.settings]`, whose last key is `stop`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from llmchat.chat.generation_config import SAMPLER_ORDER, GenerationConfig, Value
from llmchat.chat.history import Mark
from llmchat.chat.prompt_facts import PromptFacts, digest, is_named
from llmchat.chat.standing_state import StandingState
from llmchat.chat.table_reader import TableReader
from llmchat.chat.thought import Thought
from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import SCHEMA, Document, Record, Table
from llmchat.chat.turn import (
    FINISH_REASONS,
    ROLES,
    FinishReason,
    Reply,
    Role,
    SettingsChange,
    Timings,
    TokenFacts,
    Turn,
)
from llmchat.errors import TranscriptError, UsageError

_CONFIG_NAMES = tuple(item.name for item in fields(GenerationConfig))
_TIMING_NAMES = tuple(item.name for item in fields(Timings))
_HEADER_TEXTS = ("title", "model", "model_path", "tokenizer_path")
_REPLY_TEXTS = ("model", "model_path", "tokenizer_path", "lora_path", "engine")
_FACT_NAMES = TokenFacts._fields
_COUNTS = ("prompt_tokens", "cached_tokens", "dropped_tokens")
_RARE_COUNTS = ("unknown_tokens", "byte_tokens", "drafted_tokens", "accepted_tokens")
"""Written only where they are above zero."""


def header_table(transcript: Transcript) -> Table:
    """What stands above the turns."""
    table: Table = {"schema": SCHEMA, "id": transcript.id, "created": transcript.created}
    texts = {name: getattr(transcript, name) for name in _HEADER_TEXTS}
    return table | {name: _clean(text) for name, text in texts.items() if text}


def turn_table(turn: Turn) -> Table:
    """A turn as it is kept, its text the last of the plain keys."""
    table: Table = {"id": turn.id, "role": turn.role, "created": turn.created}
    if turn.parent is not None:
        table["parent"] = turn.parent
    if turn.reply is not None:
        table |= _reply_table(turn.reply, turn.text)
    table["text"] = turn.text
    if turn.reply is not None:
        if turn.reply.thought.written:
            table["thought"] = _thought_table(turn.reply.thought)
        if turn.reply.changes:
            table["changes"] = [_change_table(change) for change in turn.reply.changes]
        if turn.reply.prompts:
            table["prompts"] = [_prompt_table(facts) for facts in turn.reply.prompts]
        table["timings"] = {name: getattr(turn.reply.timings, name) for name in _TIMING_NAMES}
        table["settings"] = _plain(turn.reply.config.to_mapping())
    return _clean(table)  # type: ignore[no-any-return]


def _reply_table(reply: Reply, turn_text: str) -> Table:
    table: Table = {name: getattr(reply, name) for name in _REPLY_TEXTS if getattr(reply, name)}
    table |= {"raw": True} if reply.raw else {}
    table |= {} if reply.system is None else {"system": reply.system}
    table |= {"seed": reply.seed, "finish_reason": reply.finish_reason, "finish_detail": reply.finish_detail}
    table |= {name: getattr(reply, name) for name in _COUNTS}
    table |= {name: getattr(reply, name) for name in _RARE_COUNTS if getattr(reply, name)}
    if reply.prefill_text:
        table["prefill_text"] = reply.prefill_text
    table["token_ids"] = _join_ids(reply.token_ids)
    if reply.facts:
        columns = zip(*reply.facts, strict=True)
        table["token_facts"] = {name: _join_numbers(column) for name, column in zip(_FACT_NAMES, columns, strict=True)}
    if reply.forced:
        table["forced"] = " ".join(f"{index}:{token_id}" for index, token_id in reply.forced)
    if reply.parts:
        table["parts"] = _join_ids(reply.parts)
    if reply.text != turn_text:
        table["reply_text"] = reply.text
    return table


def _thought_table(thought: Thought) -> Table:
    """What was written before the answer; joined with it, that is all that was written."""
    table: Table = {"tokens": thought.tokens, "seconds": round(thought.seconds, 3)}
    return table | {"opening": thought.opening, "closing": thought.closing, "text": thought.text}


def _change_table(change: SettingsChange) -> Table:
    return {"token_index": change.token_index, "text_offset": change.text_offset} | _plain(change.values)


def _prompt_table(facts: PromptFacts) -> Table:
    """What made a prompt; the text of a template that was asked for stands once, in a record of its own."""
    table: Table = {"tokens": facts.tokens, "ids": facts.ids, "said": facts.said}
    table |= {"template": facts.template} if facts.template else {}
    if facts.given_template:
        named = is_named(facts.given_template)
        table |= {"template_name": facts.given_template} if named else {"template_given": True}
    table |= {} if facts.moment is None else {"moment": facts.moment}
    return table | ({"parse_special": True} if facts.parse_special else {})


def template_tables(turn: Turn) -> dict[str, Table]:
    """The chat templates that a turn's reply was asked for with, by their digests."""
    prompts = turn.reply.prompts if turn.reply else ()
    texts = [facts.given_template for facts in prompts if facts.given_template and not is_named(facts.given_template)]
    return {digest(text): {"digest": digest(text), "text": text} for text in texts}


def read_templates(document: Document) -> dict[str, str]:
    """The chat templates that a file holds, by their digests."""
    texts = [record.table.get("text") for record in document.records if record.kind == "templates"]
    return {digest(text): text for text in texts if isinstance(text, str)}


def _plain(values: Mapping[str, Value]) -> Table:
    # TOML has no null; -1 is how a seed that is rolled anew is written.
    return {name: -1 if value is None else _clean(value) for name, value in values.items()}


def _join_ids(ids: tuple[int, ...]) -> str:
    return " ".join(map(str, ids))


def _join_numbers(numbers: tuple[int | float, ...]) -> str:
    return " ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)


def _clean(value: Any) -> Any:
    """Make strings that UTF-8 cannot hold safe: surrogate pairs are joined, lone ones become U+FFFD."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def mark_table(mark: Mark, turn_count: int) -> Table:
    """What happened to a conversation as it is kept.

    Args:
        mark: What happened.
        turn_count: How many turns the file has by then; earlier versions take a selection for true only with it.
    """
    if mark.kind == "selections":
        return {"turn": mark.leaf or "", "turns": turn_count}
    step: Table = {"id": mark.step_id, "turn": mark.turn_id} if mark.kind == "deletions" else {"step": mark.step_id}
    if mark.is_final:
        step = {"turn": mark.turn_id, "final": True}
    return step | {"leaf": mark.leaf or ""}


def state_table(state: StandingState) -> Table:
    """What is in force as it is kept, the settings last."""
    table: Table = {"raw": state.raw, "system": state.system, "prefill_text": state.prefill_text}
    return _clean(table | {"settings": _plain(state.config.to_mapping())})  # type: ignore[no-any-return]


def _parse_state(table: Table) -> StandingState | None:
    read = TableReader(table, "")
    try:
        config = _parse_config(read.inner("settings"))
        return StandingState(config, read.text("system"), read.text("prefill_text"), read.flag("raw"))
    except TranscriptError:
        return None


def make_transcript(document: Document, name: str) -> Transcript:
    """The conversation that a file's records make, one after the other, selected where it was left.

    Raises:
        TranscriptError: A value is missing or not of its kind, or a turn follows one that is not there.
    """
    header = TableReader(_last_header(document), name)
    transcript = Transcript(
        transcript_id=header.text("id") or None,
        created=header.moment("created"),
        title=header.text("title"),
        model=header.text("model"),
        model_path=header.text("model_path"),
        tokenizer_path=header.text("tokenizer_path"),
    )
    number, templates = 0, read_templates(document)
    for record in document.records:
        if record.kind != "turns":
            _apply(record, transcript)
            continue
        number += 1
        turn = parse_turn(record.table, f"{name}, turn {number}", templates, number)
        try:
            transcript.add(turn)
        except TranscriptError as error:
            raise TranscriptError(f"{name}, turn {number}: {error.message}") from None
    transcript.note_selection()
    return transcript


def _last_header(document: Document) -> Table:
    table = dict(document.header)
    for record in document.records:
        if record.kind == "headers":
            table |= {key: value for key, value in record.table.items() if key in _HEADER_TEXTS}
    return table


def _apply(record: Record, transcript: Transcript) -> None:
    """Let happen what a record says; one that makes no sense here, or is of a newer version, is passed over."""
    names = ("id", "turn", "leaf", "step")
    id_, turn, leaf, step = (value if isinstance(value := record.table.get(name), str) else None for name in names)
    match record.kind:
        case "selections":
            leaf = turn
        case "deletions" if turn in transcript and record.table.get("final") is True:
            transcript.retract(turn or "")
        case "deletions" if turn in transcript:
            transcript.delete(turn or "", id_)
        case "undos" if step:
            transcript.undo(step)
        case "redos" if step:
            transcript.redo(step)
        case "states":
            transcript.state = _parse_state(record.table)
            return
        case _:
            return
    if leaf == "" or leaf in transcript:
        transcript.stop_at(leaf or None)
    transcript.note_selection()


def parse_turn(table: Table, place: str, templates: Mapping[str, str] | None = None, number: int = 0) -> Turn:
    """A turn from its table; keys that are not known are passed over.

    Args:
        table: The `[[turns]]` table.
        place: Where it stands, for messages, such as "sea.toml, turn 3".
        templates: The chat templates that the file holds, by their digests.
        number: Which of the file's turns it is.

    Raises:
        TranscriptError: A value is missing or not of its kind.
    """
    read = TableReader(table, place)
    text = read.text("text")
    return Turn(
        role=cast(Role, read.choice("role", ROLES)),
        text=text,
        parent=read.text("parent") or None,
        id=read.text("id") or _id_of(table, number),
        created=read.moment("created"),
        reply=_parse_reply(read, text, templates or {}) if "finish_reason" in table else None,
    )


def _id_of(table: Table, number: int) -> str:
    """The name of a turn that has none, the same at each reading: what is kept of it later refers to it."""
    said = [number, *(str(table.get(key, "")) for key in ("role", "parent", "text"))]
    return hashlib.sha256(repr(said).encode()).hexdigest()[:12]


def _parse_reply(read: TableReader, turn_text: str, templates: Mapping[str, str]) -> Reply:
    return Reply(
        text=read.text("reply_text", turn_text),
        token_ids=read.ids("token_ids"),
        finish_reason=_parse_finish(read),
        finish_detail=read.text("finish_detail"),
        config=_parse_config(read.inner("settings")),
        seed=read.whole("seed"),
        model=read.text("model"),
        model_path=read.text("model_path"),
        tokenizer_path=read.text("tokenizer_path"),
        engine=read.text("engine"),
        lora_path=read.text("lora_path"),
        raw=read.flag("raw"),
        system=read.text("system") if "system" in read.table else None,
        changes=tuple(_parse_change(change) for change in read.items("changes")),
        prompt_tokens=read.whole("prompt_tokens"),
        cached_tokens=read.whole("cached_tokens"),
        dropped_tokens=read.whole("dropped_tokens"),
        prefill_text=read.text("prefill_text"),
        facts=_parse_facts(read.inner("token_facts"), len(read.ids("token_ids"))),
        forced=_parse_forced(read.text("forced")),
        parts=read.ids("parts"),
        prompts=tuple(_parse_prompt(prompt, templates) for prompt in read.items("prompts")),
        **{name: read.whole(name) for name in _RARE_COUNTS},
        thought=_parse_thought(read.inner("thought")),
        timings=Timings(**{name: read.inner("timings").number(name) for name in _TIMING_NAMES}),
    )


def _parse_thought(read: TableReader) -> Thought:
    opening, closing = read.text("opening"), read.text("closing")
    return Thought(read.text("text"), opening, closing, read.whole("tokens"), read.number("seconds"))


def _parse_prompt(read: TableReader, templates: Mapping[str, str]) -> PromptFacts:
    template = read.text("template")
    given = templates.get(template, "") if read.flag("template_given") else read.text("template_name")
    return PromptFacts(
        tokens=read.whole("tokens"),
        ids=read.text("ids"),
        said=read.text("said"),
        template=template,
        given_template=given,
        moment=read.local_time("moment"),
        parse_special=read.flag("parse_special"),
    )


def _parse_finish(read: TableReader) -> FinishReason:
    """Why a reply ended; a reason of a newer llmchat counts as an end of its own."""
    reason = read.text("finish_reason")
    return reason if reason in FINISH_REASONS else "stop"


def _parse_facts(read: TableReader, count: int) -> tuple[TokenFacts, ...]:
    """One fact a token; numbers that are damaged cost the colours, never the conversation."""
    columns = [read.text(name).split() for name in _FACT_NAMES]
    if any(len(column) != count for column in columns):
        return ()
    try:
        return tuple(
            TokenFacts(int(start), float(logprob), float(final), int(rank), float(entropy))
            for start, logprob, final, rank, entropy in zip(*columns, strict=True)
        )
    except ValueError:
        return ()


def _parse_forced(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (word.partition(":") for word in text.split())
    return tuple((int(index), int(token)) for index, _, token in pairs if index.isdecimal() and token.isdecimal())


def _parse_config(read: TableReader) -> GenerationConfig:
    known = {name: _known(name, value) for name, value in read.table.items() if name in _CONFIG_NAMES}
    try:
        return GenerationConfig.from_mapping(known)
    except UsageError as error:
        raise TranscriptError(f"{read.place}: {error.message}") from None


def _known(name: str, value: object) -> object:
    """A stored value without the stages that only a newer llmchat has."""
    if name == "sampler_order" and isinstance(value, str):
        return " ".join(stage for stage in value.split() if stage in SAMPLER_ORDER)
    return value


def _parse_change(read: TableReader) -> SettingsChange:
    values: dict[str, Value] = {}
    for name in _CONFIG_NAMES:
        if name in read.table:
            try:
                values[name] = getattr(
                    GenerationConfig.from_mapping({name: _known(name, read.table[name])}, _ROOMY), name
                )
            except UsageError as error:
                raise TranscriptError(f"{read.place}: {error.message}") from None
    return SettingsChange(read.whole("token_index"), read.whole("text_offset"), values)


_ROOMY = GenerationConfig(max_new_tokens=1_000_000)
"""A config under which every min_new_tokens can be checked alone."""
