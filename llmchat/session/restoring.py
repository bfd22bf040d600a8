"""Opening a conversation brings back what it was held under, but for what the person asked for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.at_end import last_reply, state_at_end, system_at_end
from llmchat.chat.generation_config import GenerationConfig, Value
from llmchat.chat.quoting import written
from llmchat.chat.standing_state import StandingState
from llmchat.chat.turn import Reply
from llmchat.errors import UsageError

if TYPE_CHECKING:
    from llmchat.session.session import ChatSession

LAST = "last"
"""What `/model` takes for the model of the last reply."""

_LONGEST = 40
_MOST = 6
"""So many settings are told one by one."""


def restore(session: ChatSession, given: Collection[str]) -> str:
    """Bring back settings, system prompt and prefill of the conversation in a session.

    Args:
        session: The session, its transcript opened.
        given: What the person asked for at the start and stays: names of settings, "system", "prefill", "raw".

    Returns:
        A sentence that tells what is another than before; "" if nothing is.
    """
    transcript = session.transcript
    reply, state = last_reply(transcript), state_at_end(transcript)
    if state is None:
        if "system" not in given:
            session.system = system_at_end(session.transcript) or session.system
        return ""
    before, words = session.config, []
    session.config = _joined(state.config, before, given)
    if reply is not None:
        session.last_seed = reply.seed
    words += _differing(session.config, before)
    # A reply without a template does not tell whether that was chosen, nor the system prompt.
    is_told = transcript.state is not None or reply is None or not reply.raw
    if "raw" not in given and is_told and session.raw != state.raw:
        session.raw = state.raw
        words += ["raw"] if state.raw else []
    if "system" not in given and is_told and session.system != state.system:
        session.system = state.system
        words.append(f"system {_short(state.system)}")
    if "prefill" not in given and session.prefill_text != state.prefill_text:
        session.prefill_text = state.prefill_text
        words.append(f"prefill {_short(state.prefill_text)}")
    return f"As in this conversation: {', '.join(words)}." if words else ""


Begun = tuple[StandingState, Reply | None]
"""What was in force, and the last reply, when a conversation was begun or opened."""


def begun(session: ChatSession) -> Begun:
    """What is in force in a session, and the last reply."""
    state = StandingState(session.config, session.system, session.prefill_text, session.raw)
    return state, last_reply(session.transcript)


def note_state(session: ChatSession) -> None:
    """Note what is in force with the conversation, if it changed and opening would bring back something else."""
    now = begun(session)
    if now != session.begun_with and now[0] != state_at_end(session.transcript):
        session.transcript.state = now[0]


def other_model(session: ChatSession) -> str:
    """A sentence that offers the model of the last reply, once after opening, if another one is open; else ""."""
    reply, model = last_reply(session.transcript), session.model
    if model is None or not session.is_just_opened:
        return ""
    session.is_just_opened = False
    if reply is None or not reply.model or reply.model == model.name:
        return ""
    begin = f"The last reply is by {reply.model}; {model.name} is open."
    return f"{begin} /model {LAST} opens {reply.model}." if _exists(reply.model_path) else begin


def last_model(session: ChatSession) -> tuple[str, str, str]:
    """The files of the last reply's model, of its tokenizer, and of its adapter.

    Raises:
        UsageError: There is none, or it is no longer where it was.
    """
    reply = last_reply(session.transcript)
    if reply is None or not reply.model_path:
        raise UsageError("No reply here says by which model it was made.")
    if not _exists(reply.model_path):
        raise UsageError(f"{reply.model} is no longer at {reply.model_path}.")
    return reply.model_path, reply.tokenizer_path, reply.lora_path


def _joined(config: GenerationConfig, before: GenerationConfig, given: Collection[str]) -> GenerationConfig:
    values = {name: value for name, value in before.values().items() if name in given}
    if "temperature" in values:
        # Whoever asks for a temperature wants it to have an effect.
        values["do_sample"] = before.do_sample
    try:
        return config.changed(**values)
    except UsageError:
        # The least and the greatest length contradict each other.
        lengths = {name: getattr(before, name) for name in ("min_new_tokens", "max_new_tokens")}
        return config.changed(**{**values, **lengths})


def _differing(config: GenerationConfig, before: GenerationConfig) -> list[str]:
    moved = config.difference(before)
    if len(moved) > _MOST:
        return [f"{len(moved)} settings"]
    return [f"{name} {_shown(value)}" for name, value in moved.items()]


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        return " ".join(written(str(item)) for item in value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "rolled anew", True: "on", False: "off"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return written(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…") if text else "none"


def _exists(path: str) -> bool:
    try:
        return bool(path) and Path(path).exists()
    except OSError:
        return False
