"""Finding a model: from what a person typed to a path that exists, fetched first if need be."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelSpec, is_pattern
from llmchat.errors import ModelLoadError
from llmchat.files import expanded

if TYPE_CHECKING:
    from llmchat.checkpoints.checkpoint import Progress

_HUB_PREFIX = "hf:"


def locate(spec: ModelSpec, progress: Progress, cancel: threading.Event) -> ModelSpec:
    """The spec with `model` a path that exists: of a pattern the newest checkpoint, a named model fetched at need.

    Raises:
        ModelLoadError: There is no such file, directory or named model, or the fetch failed.
    """
    if spec.model.startswith(_HUB_PREFIX):
        return replace(spec, model=str(_hub_snapshot(spec.model.removeprefix(_HUB_PREFIX))))
    if is_pattern(spec.model):
        from llmchat.checkpoints.timeline import newest_checkpoint

        return replace(spec, model=str(newest_checkpoint(spec.model)))
    path = expanded(spec.model)
    from llmchat.checkpoints import catalog
    from llmchat.checkpoints.fetch import fetch

    if spec.model and path.exists():
        # A conversation names the model that it began with by its path.
        entry = next((entry for entry in catalog.models() if entry.path == path.absolute()), None)
        return replace(spec, model=str(path if entry is None else fetch(entry, progress, cancel)))
    entry = catalog.find_model(spec.model)
    if entry is None:
        looks_like_path = path.suffix or os.sep in spec.model
        what = "There is no file or directory" if looks_like_path else "There is no model called"
        raise ModelLoadError(f"{what} {spec.model!r}. See the named ones with: llmchat models")
    return replace(spec, model=str(fetch(entry, progress, cancel)))


def _hub_snapshot(name: str) -> Path:
    """Where Hugging Face's own tools keep a model that they have downloaded.

    Raises:
        ModelLoadError: It is not on this machine.
    """
    home = os.environ.get("HF_HOME") or expanded("~/.cache/huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    snapshots = hub / f"models--{name.replace('/', '--')}" / "snapshots"
    found = sorted(snapshots.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ModelLoadError(
            f"{name} is not in Hugging Face's cache ({hub}). Download it with Hugging Face's tools, "
            "then ask again, or give a directory or file with --model."
        )
    return found[-1].parent
