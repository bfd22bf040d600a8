"""What a typed path is, as the formats' own table judges it: quick enough for every key press.

Whether the model really opens is for the worker to find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmchat.chat.amounts import size_words
from llmchat.checkpoints import catalog
from llmchat.checkpoints.formats import has_model_name, recognise
from llmchat.errors import ModelLoadError, UsageError
from llmchat.files import describe, expanded
from llmchat.stores.hub_name import is_address, is_remote, read_hub_name
from llmchat.stores.on_disk import find_stored
from llmchat.tokenizers.loading import find_tokenizer, tokenizer_in


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
    """What a typed path or name is.

    Raises:
        UsageError: There is nothing, it cannot be read, or it is no model.
    """
    path = typed_path(text, "Type the path of a model file, a name, or OWNER/NAME of the hub; or browse for a file.")
    try:
        if is_remote(text) or not path.exists():
            kind = _kind_of_name(text.strip())
            if kind:
                return ModelFile(Path(text.strip()), kind, 0, has_tokenizer=True)
        found = recognise(path)
    except ModelLoadError as error:
        raise UsageError(error.message) from None
    return ModelFile(found.path, found.format.words, found.size, found.has_tokenizer)


def is_name(text: str) -> bool:
    """Whether a model is asked for by a name or an address, and not by a path.

    Raises:
        ModelLoadError: It looks like a name, and cannot be one.
    """
    return is_remote(text) or (not expanded(text).exists() and bool(_kind_of_name(text)))


def _kind_of_name(text: str) -> str:
    """What a name means, in words; "" if it means nothing."""
    if catalog.find_model(text) is not None:
        return "a model of llmchat's list"
    recommended = catalog.find_recommended(text)
    if find_stored(text if recommended is None else recommended.hub) is not None:
        return "a model on this machine"
    if is_address(text):
        return "a model at an address, to be fetched"
    if recommended is not None:
        return f"a model of the hub, to be fetched: {size_words(recommended.size)}"
    return "a model of the hub, to be fetched" if read_hub_name(text) is not None else ""


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
