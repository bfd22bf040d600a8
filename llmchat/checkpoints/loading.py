"""Reading a model file or directory with the loader of its format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint, Progress
from llmchat.errors import ModelLoadError

_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


def load_checkpoint(spec: ModelSpec, progress: Progress) -> Checkpoint:
    """Read the file or directory with the loader of its format."""
    path = Path(spec.model)
    if path.is_dir():
        return _load_directory(path, spec, progress)
    if path.suffix == ".gguf" or _begins_with(path, b"GGUF"):
        from llmchat.checkpoints.gguf import load_gguf

        return load_gguf(spec, progress)
    if path.suffix == ".safetensors":
        return _load_directory(path.parent, replace(spec, model=str(path.parent)), progress)
    from llmchat.checkpoints.llmbuilder import load_llmbuilder

    return load_llmbuilder(spec, progress)


def _load_directory(path: Path, spec: ModelSpec, progress: Progress) -> Checkpoint:
    """A Hugging Face directory, or one that holds a single model file."""
    weights = [*path.glob("*.safetensors"), *path.glob("pytorch_model*.bin")]
    if (path / "config.json").exists() and weights:
        from llmchat.checkpoints.huggingface import load_huggingface

        return load_huggingface(spec, progress)
    files = sorted(item for item in path.iterdir() if item.suffix in (".gguf", *_TORCH_SUFFIXES))
    if len(files) == 1 and not (path / "config.json").exists():
        return load_checkpoint(replace(spec, model=str(files[0])), progress)
    if (path / "config.json").exists() and not files:
        raise ModelLoadError(f"{path} has a config.json but no *.safetensors with the weights.")
    if files:
        names = ", ".join(item.name for item in files[:5])
        raise ModelLoadError(f"{path} is a directory with several models. Name one with --model: {names}")
    raise ModelLoadError(
        f"{path} is a directory without a model. Give a .pt or .gguf file or a Hugging Face directory."
    )


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}.") from error
