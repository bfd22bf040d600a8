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
    return found.format.load(replace(spec, model=str(found.path)), progress)
