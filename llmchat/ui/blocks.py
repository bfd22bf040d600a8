"""From the session's turns to what the transcript pane shows. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from llmchat.chat.generation_config import SPEC_BY_NAME, GenerationConfig, Value
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
"""The parameters that a reply's heading tells when they differ from the default, in short words."""


def session_blocks(session: ChatSession) -> list[TurnBlock]:
    """Everything the pane shows: the path, the running reply, the prompts that wait."""
    running = session.running
    path = session.transcript.path() if running is None else session.transcript.path(running.parent)
    blocks = [_turn_block(turn, session) for turn in path]
    if running is not None:
        blocks.append(running_block(running, session))
    blocks += (
        TurnBlock(f"queued-{place}", "user", "You", text, dimmed=True, notices=(Notice("waiting"),))
        for place, text in enumerate(session.queued)
    )
    return _with_divider(blocks, session)


def running_block(running: Running, session: ChatSession) -> TurnBlock:
    """The reply that is being generated."""
    reply = running.reply()
    beside = len(session.transcript.children(running.parent)) + 1
    return TurnBlock(
        running.turn_id,
        "assistant",
        short_name(reply.model),
        reply.text,
        markdown=not reply.raw,
        details=_details(reply, counts=False),
        alternatives=(beside, beside) if beside > 1 else None,
        marks=_marks(reply),
        live=True,
    )


def note_block(number: int, text: str, *, is_error: bool = False) -> TurnBlock:
    """Some lines of the program's own, below the turns."""
    notices = tuple(Notice(line, "error" if is_error else "note") for line in text.splitlines())
    return TurnBlock(f"note-{number}", "notice", "", notices=notices)


def short_name(model: str) -> str:
    """The part of a model's name that fits into a heading: "SmolLM2" of "SmolLM2-135M-Instruct"."""
    return model.split("-")[0] or model or "Model"


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
        turn.id, "assistant", short_name(reply.model), turn.text,
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


def _details(reply: Reply, *, counts: bool = True) -> str:
    """The settings stamp: what differs from the default, the seed, the number of tokens."""
    parts = list(_stamp(reply))
    parts.append(f"seed {reply.seed}")
    if counts:
        parts.append(f"{len(reply.token_ids)} tok")
    return " · ".join(parts)


def _stamp(reply: Reply) -> Iterator[str]:
    """A reply's settings where they are not the default, with what they moved to."""
    last = _last_values(reply.config, reply.changes)
    if not reply.config.do_sample:
        yield "greedy"
    base = GenerationConfig()
    for name, label in _DETAIL_LABELS.items():
        first, then = getattr(reply.config, name), last.get(name, getattr(reply.config, name))
        spec = SPEC_BY_NAME[name]
        if first != then:
            yield f"{label} {spec.format(first)}{ARROW}{spec.format(then)}"
        elif first != getattr(base, name) or (name == "temperature" and reply.config.do_sample):
            yield f"{label} {spec.format(first)}"


def _last_values(config: GenerationConfig, changes: Iterable[SettingsChange]) -> Mapping[str, Value]:
    values = config.values()
    for change in changes:
        values.update(change.values)
    return values


def _marks(reply: Reply) -> tuple[tuple[int, str], ...]:
    """Where settings moved within the text, and from what to what."""
    values = reply.config.values()
    marks = []
    for change in reply.changes:
        moved = ", ".join(_moved(name, values.get(name), value) for name, value in change.values.items())
        values.update(change.values)
        marks.append((change.text_offset, moved))
    return tuple(marks)


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
        yield Notice(f"ended by {reply.finish_detail}; /continue goes on")
    elif reply.finish_reason == "error":
        yield Notice(reply.finish_detail, "error")
    if reply.dropped_tokens and reply.raw:
        yield Notice(f"the first {reply.dropped_tokens} tokens of the prompt were beyond the model's context")
