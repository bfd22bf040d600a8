"""Reading a model file or directory with the loader of its format."""

from __future__ import annotations

from dataclasses import replace

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint, Progress
from llmchat.checkpoints.formats import recognise
from llmchat.files import expanded


def load_checkpoint(spec: ModelSpec, progress: Progress) -> Checkpoint:
    """Read a file or directory.

    Raises:
        ModelLoadError: It is no model, it cannot be read, or llmchat cannot run it; says which, and the way out.
    """
    found = recognise(expanded(spec.model))
    checkpoint = found.format.load(replace(spec, model=str(found.path)), progress)
    return _adapted(checkpoint, spec.lora, progress) if spec.lora else checkpoint


def _adapted(checkpoint: Checkpoint, path: str, progress: Progress) -> Checkpoint:
    """A model with an adapter, under the names of both."""
    from llmchat.checkpoints.adapter import open_adapter

    progress("reading the adapter", None)
    adapter = open_adapter(expanded(path), checkpoint)
    return replace(checkpoint, adapter=adapter, name=f"{checkpoint.name}+{adapter.name}")
