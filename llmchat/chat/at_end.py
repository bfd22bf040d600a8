"""What was in force where a conversation ended, so that it can be gone on with under the same. Pure functions."""

from __future__ import annotations

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.standing_state import StandingState
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, system_of
from llmchat.errors import UsageError


def last_reply(transcript: Transcript) -> Reply | None:
    """The last reply on the path that a model drew."""
    return next((turn.reply for turn in reversed(transcript.path()) if turn.reply is not None), None)


def config_at_end(reply: Reply) -> GenerationConfig:
    """The settings under which a reply ended, its slider moves with them."""
    try:
        return reply.config_at(len(reply.token_ids))
    except UsageError:
        # A file may say anything.
        return reply.config


def system_at_end(transcript: Transcript) -> str:
    """The system prompt that the last reply was made under; "" for none."""
    reply = last_reply(transcript)
    return system_of(transcript.path()) if reply is None or reply.system is None else reply.system


def state_at_end(transcript: Transcript) -> StandingState | None:
    """What was in force at the end: as it was left, or else as in the last reply; None where nothing tells."""
    reply = last_reply(transcript)
    if transcript.state is not None or reply is None:
        return transcript.state
    return StandingState(config_at_end(reply), system_at_end(transcript), prefill_at_end(transcript), raw=False)


def prefill_at_end(transcript: Transcript) -> str:
    """What replies were made to begin with; "" for nothing, and for an edited reply that was gone on with."""
    reply = last_reply(transcript)
    if reply is None or not reply.prefill_text:
        return ""
    is_edit = any(turn.reply is None and turn.text == reply.prefill_text for turn in transcript)
    return "" if is_edit else reply.prefill_text
