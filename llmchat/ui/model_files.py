"""What a path is, judged from its name and first bytes: quick enough for every key press.

Whether the model really opens is for the worker to find out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llmchat.errors import UsageError
from llmchat.files import describe, expanded
from llmchat.tokenizers.loading import find_tokenizer

MODEL_SUFFIXES = (".gguf", ".pt", ".pth", ".safetensors")
"""How the names of model files end."""


_HUB_NAME = re.compile(r"hf:[\w.-]+/[\w.-]+")
_TOKENIZER_NAMES = ("tokenizer.json", "tokenizer.model", "sentencepiece.model")


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
    """Whether a file browser offers a path as a model: by its suffix, or a directory with a config.json."""
    if path.suffix.lower() in MODEL_SUFFIXES:
        return path.is_file()
    return (path / "config.json").is_file()


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
        return _check_directory(path) if path.is_dir() else _check_file(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {describe(error)}.") from error


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
            if not any(
                (path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "sentencepiece.model")
            ):
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


def _check_directory(path: Path) -> ModelFile:
    files = sorted(item for item in path.iterdir() if item.suffix.lower() in MODEL_SUFFIXES and item.is_file())
    tensors = [item for item in files if item.suffix.lower() == ".safetensors"]
    weights = tensors or [*path.glob("pytorch_model*.bin")]
    if (path / "config.json").is_file() and weights:
        size = sum(item.stat().st_size for item in weights)
        has_tokenizer = any((path / name).is_file() for name in _TOKENIZER_NAMES)
        return ModelFile(path, "Hugging Face directory", size, has_tokenizer)
    if len(files) == 1 and not tensors:
        return _check_file(files[0])
    if len(files) > 1:
        raise UsageError(f"{path.name} holds several models: choose one of its files.")
    raise UsageError(f"{path.name} is a directory without a model.")


def _check_file(path: Path) -> ModelFile:
    if not path.exists():
        raise UsageError("There is no such file or directory.")
    if not path.is_file():
        raise UsageError(f"{path.name} is no regular file.")
    with path.open("rb") as file:
        head = file.read(4)
    size = path.stat().st_size
    if not head:
        raise UsageError(f"{path.name} is empty.")
    if head == b"GGUF":
        return ModelFile(path, "GGUF model", size, has_tokenizer=True)
    if path.suffix.lower() == ".safetensors":
        if not (path.parent / "config.json").is_file():
            raise UsageError(f"{path.name} needs its config.json beside it.")
        return _check_directory(path.parent)
    if head.startswith(b"PK"):
        return ModelFile(path, "PyTorch checkpoint", size, has_tokenizer=False)
    raise UsageError(f"{path.name} is neither a GGUF file nor a PyTorch checkpoint.")
