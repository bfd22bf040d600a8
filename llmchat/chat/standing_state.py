"""What a conversation is held under, apart from its turns, as it was left. Plain values."""

from __future__ import annotations

from typing import NamedTuple

from llmchat.chat.generation_config import GenerationConfig


class StandingState(NamedTuple):
    """What holds for whatever is said next."""

    config: GenerationConfig
    system: str
    """The system prompt; "" for none."""
    prefill_text: str
    """What replies must begin with; "" for nothing."""
    raw: bool
    """Whether prompts without a chat template were chosen."""
