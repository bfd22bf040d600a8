"""Finding a model: from what a person typed to a path that exists, fetched first if need be."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelSpec, is_pattern
from llmchat.files import expanded

if TYPE_CHECKING:
    from llmchat.checkpoints.checkpoint import Progress


def locate(spec: ModelSpec, progress: Progress, cancel: threading.Event, *, may_fetch: int | None = None) -> ModelSpec:
    """The spec with `model` a path that exists: of a pattern the newest checkpoint, of a name what it means.

    Args:
        spec: What a person asked for.
        progress: Told what is being done.
        cancel: Set to give up a fetch.
        may_fetch: Bytes that may be fetched from the hub or an address without asking; None is any number.

    Raises:
        FetchQuestionError: More than `may_fetch` bytes would be fetched.
        ModelLoadError: There is no such file, directory or name, or the fetch failed.
    """
    from llmchat.checkpoints import catalog
    from llmchat.stores.fetch_named import fetch_named
    from llmchat.stores.hub_name import is_remote

    model = spec.model
    if not is_remote(model):
        if is_pattern(model):
            from llmchat.checkpoints.timeline import newest_checkpoint

            return replace(spec, model=str(newest_checkpoint(model)))
        path = expanded(model)
        if model and path.exists():
            # A conversation names the model that it began with by its path.
            entry = next((entry for entry in catalog.models() if entry.path == path.absolute()), None)
            if entry is None:
                return replace(spec, model=str(path))
            model = entry.name
    return replace(spec, model=str(fetch_named(model, progress, cancel, may_fetch=may_fetch)))
