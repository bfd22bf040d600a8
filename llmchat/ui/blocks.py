"""From the session's turns to what the transcript pane shows. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath

from llmchat.chat.diagnostics import Repetition
from llmchat.chat.generation_config import SAMPLING_SPECS, SPEC_BY_NAME, GenerationConfig, Value
from llmchat.chat.turn import Reply, SettingsChange, Turn
from llmchat.session import ChatSession, Running
from llmchat.ui.rendering.turn_block import Notice, TurnBlock

ARROW = "→"

_DETAIL_LABELS = {
    "temperature": "temp",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
    "repetition_penalty": "rep",
}
"""Short words for the parameters that a reply's heading tells when they differ from the default."""

_NOT_TOLD = ("min_new_tokens", "max_new_tokens")
"""Lengths, which show in the reply itself."""

_ENDINGS = {"length": "length", "cancelled": "stopped", "error": "failed"}

_DRAG_TOKENS = 8
"""A slider that moves again within so many tokens is still being dragged."""

_FEWEST_MOVES = 3
"""So many moves make a drag; fewer are marked one by one."""

_QUOTED = 40
"""Characters of a repeated text that are quoted."""


def session_blocks(session: ChatSession) -> list[TurnBlock]:
    """Everything the pane shows: the path, the running reply, the prompts that wait."""
    running = session.running
    path = session.transcript.path() if running is None else session.transcript.path(running.parent)
    blocks = _with_system([_turn_block(turn, session) for turn in path], session)
    if running is not None:
        blocks.append(running_block(running, session))
    blocks += (
        TurnBlock(f"queued-{place}", "user", "You", text, dimmed=True, notices=(Notice("waiting"),))
        for place, text in enumerate(session.queued)
    )
    return _with_divider(blocks, session)


SYSTEM_BLOCK = "system-prompt"
"""The id of a system prompt that no turn of the conversation holds yet."""


def _with_system(blocks: list[TurnBlock], session: ChatSession) -> list[TurnBlock]:
    """The blocks under the system prompt that the next reply is made under."""
    if session.is_raw:
        return blocks
    first = blocks[0] if blocks and blocks[0].role == "system" else None
    if first is None:
        return [TurnBlock(SYSTEM_BLOCK, "system", "System", session.system), *blocks] if session.system else blocks
    if session.system == first.text:
        return blocks
    if not session.system:
        notice = Notice("no longer given to the model")
        return [replace(first, dimmed=True, notices=(notice,)), *blocks[1:]]
    notice = Notice("from here on; the conversation began under another")
    return [replace(first, text=session.system, notices=(notice,)), *blocks[1:]]


def running_block(running: Running, session: ChatSession) -> TurnBlock:
    """The reply that is being generated."""
    reply = running.reply()
    beside = len(session.transcript.children(running.parent)) + 1
    return TurnBlock(
        running.turn_id,
        "assistant",
        _model_name(reply, session.transcript.children(running.parent)),
        reply.text,
        thought=reply.thought,
        markdown=not reply.raw,
        details=_details(reply, is_done=False),
        alternatives=(beside, beside) if beside > 1 else None,
        marks=_marks(reply),
        live=True,
        notices=() if running.repetition is None else (_loop_notice(running.repetition),),
    )


def short_name(model: str) -> str:
    """What of a model's name goes into a heading: the part before its size or kind."""
    return _SIZE_OR_KIND.split(model, maxsplit=1)[0] or model or "Model"


_SIZE_OR_KIND = re.compile(r"-(?=\d+(?:\.\d+)?[mbt](?:-|$)|instruct|chat|base|it(?:-|$))", re.IGNORECASE)


def _model_name(reply: Reply, beside: Iterable[Turn]) -> str:
    """The model's name, with the directory of its file where one beside it has the same name for another file."""
    name = short_name(reply.model)
    others = (turn.reply for turn in beside if turn.reply is not None)
    is_shared = any(other.model == reply.model and other.model_path != reply.model_path for other in others)
    return f"{PurePath(reply.model_path).parent.name}/{name}" if is_shared and reply.model_path else name


def _turn_block(turn: Turn, session: ChatSession) -> TurnBlock:
    beside = session.transcript.alternatives(turn.id)
    alternatives = (beside.index(turn) + 1, len(beside)) if len(beside) > 1 else None
    dimmed = turn.id in session.dropped_turns
    reply = turn.reply
    if turn.role == "system":
        return TurnBlock(turn.id, "system", "System", turn.text, dimmed=dimmed)
    if turn.role == "user":
        return TurnBlock(turn.id, "user", "You", turn.text, alternatives=alternatives, dimmed=dimmed)
    if reply is None:
        name = short_name(session.transcript.model)
        return TurnBlock(
            turn.id, "assistant", name, turn.text,
            markdown=not session.is_raw, details="edited", alternatives=alternatives, dimmed=dimmed,
        )  # fmt: skip
    return TurnBlock(
        turn.id, "assistant", _model_name(reply, beside), turn.text, thought=reply.thought,
        markdown=not reply.raw, details=_details(reply), alternatives=alternatives, marks=_marks(reply),
        dimmed=dimmed, notices=tuple(_ending(reply)),
    )  # fmt: skip


def _with_divider(blocks: list[TurnBlock], session: ChatSession) -> list[TurnBlock]:
    """The blocks, with a line where the model's context begins if turns were left out."""
    first = next((place for place, block in enumerate(blocks) if _follows_dropped(blocks, place)), None)
    if first is None:
        return blocks
    count = sum(block.dimmed and not block.id.startswith("queued") for block in blocks[:first])
    words = "turn above no longer fits" if count == 1 else "turns above no longer fit"
    blocks.insert(
        first, TurnBlock("window", "notice", "", notices=(Notice(f"the {count} {words} into the context", "divider"),))
    )
    return blocks


def _follows_dropped(blocks: list[TurnBlock], place: int) -> bool:
    return place > 0 and blocks[place - 1].dimmed and not blocks[place].dimmed


def _details(reply: Reply, *, is_done: bool = True) -> str:
    """Temperature, seed, number of tokens and why they ended; then, as far as there is room, what else was set."""
    heat, *others = _stamp(reply)
    parts = [heat, f"seed {reply.seed}"]
    if is_done:
        parts += [f"{len(reply.token_ids)} tok", _ENDINGS.get(reply.finish_reason) or _own_ending(reply)]
        parts += _lacking(reply)
    return " · ".join([*parts, *others])


def _own_ending(reply: Reply) -> str:
    """What of its own ended a reply."""
    return "stop string" if reply.finish_detail.startswith("stop string") else "end token"


def _lacking(reply: Reply) -> Iterator[str]:
    """How much of a reply its vocabulary lacks, where that is anything at all."""
    for count, words in ((reply.unknown_tokens, "unknown"), (reply.byte_tokens, "bytes")):
        if count:
            yield f"{max(count / len(reply.token_ids), 0.01):.0%} {words}".replace("%", " %")


def _loop_notice(repetition: Repetition) -> Notice:
    """The offer to stop a reply that goes round in a loop."""
    text = " ".join(repetition.text.split())
    text = text if len(text) <= _QUOTED else text[: _QUOTED - 1].rstrip() + "…"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(repetition.repeats % 10, "th")
    ordinal = f"{repetition.repeats}{'th' if 10 < repetition.repeats % 100 < 14 else ending}"
    return Notice(f"it repeats “{text}” for the {ordinal} time; Esc stops it, or raise the repetition penalty")


def _stamp(reply: Reply) -> Iterator[str]:
    """A reply's settings where they are not the default, with what they moved to."""
    last = _last_values(reply.config, reply.changes)
    if not reply.config.do_sample:
        yield "greedy"
    base = GenerationConfig()
    for spec in SAMPLING_SPECS:
        label = _DETAIL_LABELS.get(spec.name, spec.label.lower())
        first = getattr(reply.config, spec.name)
        then = last.get(spec.name, first)
        if spec.name in _NOT_TOLD:
            continue
        if first != then:
            yield f"{label} {spec.format(first)}{ARROW}{_number(spec.name, then)}"
        elif first != getattr(base, spec.name) or (spec.name == "temperature" and reply.config.do_sample):
            yield f"{label} {spec.format(first)}"
    if banned := len(reply.config.banned_tokens):
        yield f"{banned} banned"
    if reply.config.stages != base.stages and reply.config.do_sample and not reply.config.mirostat_tau:
        yield "own order"


def _last_values(config: GenerationConfig, changes: Iterable[SettingsChange]) -> Mapping[str, Value]:
    values = config.values()
    for change in changes:
        values.update(change.values)
    return values


def _marks(reply: Reply) -> tuple[tuple[int, str], ...]:
    """Where settings moved within the text, and from what to what; of a drag, where it began and where it ended."""
    values = reply.config.values()
    marks = []
    for drag in _drags(reply.changes):
        before = dict(values)
        for change in drag:
            moved = ", ".join(_moved(name, values.get(name), value) for name, value in change.values.items())
            values.update(change.values)
            marks.append((change.text_offset, moved))
        if len(drag) >= _FEWEST_MOVES:
            (name,) = drag[0].values
            start, _, end = _moved(name, before.get(name), values[name]).rpartition(f" {ARROW} ")
            marks[-len(drag) :] = [(drag[0].text_offset, f"{start} {ARROW}"), (drag[-1].text_offset, f"{ARROW} {end}")]
    return tuple(marks)


def _drags(changes: Iterable[SettingsChange]) -> list[list[SettingsChange]]:
    """Changes, those together in which one slider moves again and again."""
    drags: list[list[SettingsChange]] = []
    for change in changes:
        last = drags[-1][-1] if drags else None
        goes_on = (
            last is not None
            and len(change.values) == 1
            and change.values.keys() == last.values.keys()
            and change.token_index - last.token_index <= _DRAG_TOKENS
        )
        if goes_on:
            drags[-1].append(change)
        else:
            drags.append([change])
    return drags


def _moved(name: str, old: Value, new: Value) -> str:
    spec = SPEC_BY_NAME.get(name)
    if spec is None:
        return f"{name.replace('_', ' ')} {_word(old)} {ARROW} {_word(new)}"
    return f"{spec.label.lower()} {_number(name, old)} {ARROW} {_number(name, new)}"


def _number(name: str, value: Value) -> str:
    return SPEC_BY_NAME[name].format(value) if isinstance(value, int | float) else str(value)


def _word(value: Value) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _ending(reply: Reply) -> Iterator[Notice]:
    """Why a reply ended, where that is worth a line."""
    if reply.finish_reason == "cancelled":
        yield Notice(reply.finish_detail)
    elif reply.finish_reason == "length":
        where = " while it was still thinking" if reply.thought.is_open else ""
        yield Notice(f"ended by {reply.finish_detail}{where}; /continue goes on")
    elif reply.finish_reason == "error":
        yield Notice(reply.finish_detail, "error")
    if reply.dropped_tokens and reply.raw:
        yield Notice(f"the first {reply.dropped_tokens} tokens of the prompt were beyond the model's context")
