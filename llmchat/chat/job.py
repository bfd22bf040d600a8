"""One of many prompts that are answered in one go. A plain value."""

from __future__ import annotations

from dataclasses import dataclass

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Turn


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be answered, and how."""

    turns: tuple[Turn, ...]
    """The conversation up to and including the turn to answer, oldest first."""
    config: GenerationConfig
    seed: int
    raw: bool = False
    """Continue the last turn's text as it stands, without a chat template."""
    prefill_text: str = ""
    """Text the reply must begin with."""
