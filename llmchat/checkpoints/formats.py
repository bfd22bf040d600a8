"""What a path is as a model: the one table of file formats, which opening, the file browser and timelines ask.

    path ─ recognise ─ ModelFiles: its format, what is loaded, the files of its weights ─ load

It is judged from names and first bytes, quick enough for every key press; whether it really opens, loading finds out.
Nothing heavy is imported before something is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.checkpoints.strangers import stranger_words
from llmchat.checkpoints.weight_files import is_beside_the_model, weight_files
from llmchat.errors import ModelLoadError
from llmchat.file_kinds import HEAD_BYTES
from llmchat.files import describe
from llmchat.tokenizers.loading import tokenizer_in

if TYPE_CHECKING:
    from llmchat.chat.model import ModelSpec
    from llmchat.checkpoints.checkpoint import Checkpoint, Progress

_GGUF_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)
"""In the names of GGUF files that turn pictures into what the model beside them reads."""


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which models are stored."""

    words: str
    """What such a file or directory is called."""
    suffixes: tuple[str, ...]
    """How the names of its files end, in small letters."""
    load: Callable[[ModelSpec, Progress], Checkpoint]
    """Opens one, whose `model` is `ModelFiles.path`. Raises ModelLoadError."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A file or directory that looks like a model."""

    format: Format
    path: Path
    """What is loaded: one file, the first of several, or a directory."""
    weights: tuple[Path, ...]
    """The files that hold its weights."""

    @property
    def size(self) -> int:
        """Bytes of the weights; files that are gone count nothing."""
        return sum(file.stat().st_size for file in self.weights if file.is_file())

    @property
    def has_tokenizer(self) -> bool:
        """Whether it brings its own tokenizer."""
        if self.format is HUGGING_FACE:
            return tokenizer_in(self.path if self.path.is_dir() else self.path.parent) is not None
        return self.format is GGUF


def _load_gguf(spec: ModelSpec, progress: Progress) -> Checkpoint:
    from llmchat.checkpoints.gguf import load_gguf

    return load_gguf(spec, progress)


def _load_huggingface(spec: ModelSpec, progress: Progress) -> Checkpoint:
    from llmchat.checkpoints.huggingface import load_huggingface

    return load_huggingface(spec, progress)


def _load_llmbuilder(spec: ModelSpec, progress: Progress) -> Checkpoint:
    from llmchat.checkpoints.llmbuilder import load_llmbuilder

    return load_llmbuilder(spec, progress)


GGUF = Format("GGUF model", (".gguf",), _load_gguf)
HUGGING_FACE = Format("Hugging Face directory", (".safetensors",), _load_huggingface)
TORCH = Format("PyTorch checkpoint", (".pt", ".pth", ".ckpt", ".bin"), _load_llmbuilder)
FORMATS = (GGUF, HUGGING_FACE, TORCH)

SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)
"""How the names of model files end."""


def has_model_name(path: Path) -> bool:
    """Whether a path may be a model, by its name alone: a file's suffix, or a config.json in a directory."""
    return path.suffix.lower() in SUFFIXES or (path / "config.json").is_file()


def recognise(path: Path) -> ModelFiles:
    """What a file or directory is.

    Raises:
        ModelLoadError: It is no model, or one that llmchat does not read; the message says what it is, and the way out.
    """
    try:
        if path.is_dir():
            return _directory(path)
        return _file(path)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {describe(error)}.") from error


def _file(path: Path) -> ModelFiles:
    if not path.exists():
        raise ModelLoadError(f"{path}: there is no such file or directory.")
    if not path.is_file():
        raise ModelLoadError(f"{path} is no regular file.")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise ModelLoadError(f"{path} is empty.")
    if head.startswith(b"GGUF"):
        return _gguf(path)
    if words := stranger_words(path, head):
        raise ModelLoadError(f"{path} {words}.")
    if path.suffix.lower() in HUGGING_FACE.suffixes:
        return _weights_of_directory(path)
    if head.startswith(b"PK"):
        is_in_directory = path.name.startswith("pytorch_model") and (path.parent / "config.json").is_file()
        return _weights_of_directory(path) if is_in_directory else ModelFiles(TORCH, path, (path,))
    if path.suffix.lower() in TORCH.suffixes:
        raise ModelLoadError(f"{path} was not written by torch.save: it is no model checkpoint.")
    if path.suffix.lower() in GGUF.suffixes:
        raise ModelLoadError(f"{path} is no GGUF file, which begins with GGUF: fetch or copy it again.")
    raise ModelLoadError(
        f"{path} is no model: it is neither a GGUF file nor safetensors, nor a checkpoint of torch.save."
    )


def _gguf(path: Path) -> ModelFiles:
    """A GGUF file; of a model in several the first, whichever was given."""
    found = _GGUF_PART.fullmatch(path.name)
    if found is None:
        return ModelFiles(GGUF, path, (path,))
    parts = sorted(path.parent.glob(f"{_escaped(found['stem'])}-*-of-{found['count']}{path.suffix}"))
    return ModelFiles(GGUF, parts[0], tuple(parts))


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _weights_of_directory(file: Path) -> ModelFiles:
    """A file with weights alone: with the rest of its directory, of which it may be one of several."""
    if not (file.parent / "config.json").is_file():
        raise ModelLoadError(
            f"{file} holds weights alone: it needs the config.json and the tokenizer of its model beside it. "
            "Fetch the whole directory, or take a GGUF file."
        )
    files = weight_files(file.parent)
    if any(file.samefile(other) for other in files if other.exists()):
        return ModelFiles(HUGGING_FACE, file.parent, tuple(files))
    return ModelFiles(HUGGING_FACE, file, (file,))


def _directory(path: Path) -> ModelFiles:
    """A Hugging Face directory, or one that holds a single model file."""
    if (path / "config.json").is_file() and (files := weight_files(path)):
        return ModelFiles(HUGGING_FACE, path, tuple(files))
    models = _models_in(path)
    if len(models) == 1:
        return _file(models[0])
    if models:
        raise ModelLoadError(f"{path} is a directory with several models. Name one with --model: {_listed(models)}")
    if words := stranger_words(path, b""):
        raise ModelLoadError(f"{path} {words}.")
    if (path / "config.json").is_file():
        raise ModelLoadError(f"{path} has a config.json but no weights: fetch its model*.safetensors too.")
    below = sorted(item for item in path.iterdir() if item.is_dir() and (has_model_name(item) or _models_in(item)))
    if below:
        raise ModelLoadError(f"{path} is a directory of models. Name one with --model: {_listed(below)}")
    raise ModelLoadError(
        f"{path} is a directory without a model. Give a .pt or .gguf file or a Hugging Face directory."
    )


def _models_in(path: Path) -> list[Path]:
    """The model files of a directory that can be opened alone, of those in several parts the first that is there."""
    suffixes = (*GGUF.suffixes, *TORCH.suffixes)
    files = sorted(item for item in path.iterdir() if item.suffix.lower() in suffixes and item.is_file())
    models: dict[str, Path] = {}
    for file in files:
        found = _GGUF_PART.fullmatch(file.name)
        models.setdefault(found["stem"] + found["count"] if found else file.name, file)
    rest = [file for file in models.values() if not _PROJECTOR.search(file.name) and not is_beside_the_model(file)]
    return rest or [*models.values()]


def _listed(paths: list[Path]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(path.name for path in paths[:5]) + more
