"""What a typed path is, as the formats' own table judges it: quick enough for every key press.

Whether the model really opens is for the worker to find out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llmchat.checkpoints.formats import has_model_name, recognise
from llmchat.errors import ModelLoadError, UsageError
from llmchat.files import describe, expanded
from llmchat.tokenizers.loading import find_tokenizer, tokenizer_in

_HUB_NAME = re.compile(r"hf:[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file or directory that looks like a model."""

    path: Path
    kind: str
    """What it is, in words."""
    size: int
    """Bytes of the weights; 0 if that is not known."""
    has_tokenizer: bool
    """Whether it brings its own tokenizer."""

    @property
    def words(self) -> str:
        """What it is and how large, such as "GGUF model, 98 MB"."""
        return f"{self.kind}, {size_words(self.size)}" if self.size else self.kind

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer that lies where the model's writer puts it; None if the model has its own, or none is found."""
        return None if self.has_tokenizer else find_tokenizer(self.path)


def is_model(path: Path) -> bool:
    """Whether a file browser offers a path as a model: a file by its name, or a directory with a config.json."""
    return has_model_name(path) and (path.is_file() or (path / "config.json").is_file())


def is_tokenizer(path: Path) -> bool:
    """Whether a file browser offers a path as a tokenizer."""
    return path.suffix.lower() in (".model", ".json") and path.is_file()


def check_model(text: str) -> ModelFile:
    """What a typed path is.

    Raises:
        UsageError: There is nothing, it cannot be read, or it is no model.
    """
    if _HUB_NAME.fullmatch(text.strip()):
        return ModelFile(Path(text.strip()), "model in Hugging Face's cache", 0, has_tokenizer=True)
    path = typed_path(text, "Type the path of a model file, or browse for one.")
    try:
        found = recognise(path)
    except ModelLoadError as error:
        raise UsageError(error.message) from None
    return ModelFile(found.path, found.format.words, found.size, found.has_tokenizer)


def check_tokenizer(text: str) -> Path:
    """The tokenizer file or directory that a typed path names.

    Raises:
        UsageError: There is none.
    """
    path = typed_path(text, "Type the path of the tokenizer, or browse for it.")
    try:
        if not path.exists():
            raise UsageError("There is no such file or directory.")
        if path.is_dir():
            if tokenizer_in(path) is None:
                raise UsageError(f"There is no tokenizer.json or tokenizer.model in {path.name}.")
        else:
            path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {describe(error)}.") from error
    return path


def typed_path(text: str, advice: str) -> Path:
    """A path as a person types it, "~" for the home directory.

    Args:
        text: What was typed.
        advice: The message if that is nothing.

    Raises:
        UsageError: Nothing was typed, or it cannot be a path.
    """
    if not text.strip():
        raise UsageError(advice)
    try:
        path = expanded(text.strip())
        path.exists()
    except (OSError, ValueError, RuntimeError):
        raise UsageError(f"{text.strip()!r} cannot be a path.") from None
    return path


def size_words(size: int) -> str:
    """A number of bytes as people say it, such as "98 MB"."""
    if size >= 10**9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 10**7 else f"{size / 1e6:.1f} MB"
