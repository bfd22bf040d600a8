"""What a start of llmchat was asked to do: settings file and command line, joined."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import recorded_tokenizer
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply
from llmchat.settings import ResolvedGeneration, Settings


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How the window, or the line-by-line conversation, begins."""

    settings: Settings = field(default_factory=Settings)
    """The settings file under the command line's flags."""
    generation: ResolvedGeneration = field(default_factory=ResolvedGeneration)
    prompt: str | None = None
    """Sent as soon as the model is ready."""
    prefill_text: str = ""
    resume: Path | None = None
    """A transcript to go on with."""
    save: Path | None = None
    """Where to keep the conversation, in place of a new file in the transcripts directory."""
    settings_path: Path | None = None
    """The settings file in use, if it is not the usual one."""
    given: frozenset[str] = frozenset()
    """What the command line asked for, which a conversation's own settings do not replace."""
    setup: bool = False
    """Whether to begin with the guided set-up."""

    @property
    def config(self) -> GenerationConfig:
        """The sampling settings to begin with."""
        return self.generation.config


def with_recorded_model(settings: Settings, transcript: Transcript | Reply) -> Settings:
    """The settings with the model that a conversation began with, or a reply was made by, where it is to be found."""
    try:
        if not transcript.model_path or not Path(transcript.model_path).exists():
            return settings
    except OSError:
        return settings
    tokenizer = recorded_tokenizer(transcript.model_path, transcript.tokenizer_path)
    lora = transcript.lora_path if isinstance(transcript, Reply) else ""
    return settings.merged(model=transcript.model_path, tokenizer=tokenizer, lora=lora)
