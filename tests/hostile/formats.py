"""What is tried: how a case of each format is written, and what llmchat does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random

NAMES = (
    "gguf",
    "safetensors",
    "pt",
    "tokenizer_json",
    "configuration",
    "sentencepiece",
    "jinja",
    "transcripts",
    "settings",
    "themes",
)


class Untrue(Exception):
    """Llmchat went on as if all were well, and it was not."""


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file."""

    write: Callable[[Random, Path], None]
    """Writes a case into an empty directory."""
    sound: Callable[[Path], None]
    """Writes a file that is in order, which must open."""
    attempt: Callable[[Path], None]
    """Does with the directory what llmchat does with such files; an `LlmchatError` is as it should be."""


def load(name: str) -> Format:
    """A format by its name."""
    module = import_module(f"tests.hostile.{name}_cases")
    return Format(module.write, module.sound, module.attempt)
