"""From the name of a model to its file or directory, wherever it is: here, or to be fetched."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from llmchat.errors import ModelLoadError
from llmchat.stores.abandoned import Progress

_FILE_SUFFIXES = (".gguf", ".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def fetch_named(
    model: str, progress: Progress, cancel: threading.Event, *, may_fetch: int | None = None, anew: bool = False
) -> Path:
    """The file or directory of a model that was asked for by name or address, fetched if it is not here.

    A name of the catalogue goes before one of another program's store, and what is here before the hub.

    Args:
        model: A name of the catalogue, of a store, of the hub, or an address; empty for the default model.
        progress: Told what is being done and how far it is.
        cancel: Set, from any thread, to give up.
        may_fetch: Bytes that may be fetched from the hub or an address without asking; None is any number.
        anew: Fetch what has changed since, and verify what can be.

    Raises:
        FetchQuestionError: More than `may_fetch` bytes would be fetched.
        ModelLoadError: There is nothing of that name, or it could not be fetched.
    """
    from llmchat.checkpoints import catalog
    from llmchat.checkpoints.verified import is_as_noted
    from llmchat.stores.hub_name import PREFIX, is_address, read_address, read_hub_name

    if (entry := catalog.find_model(model)) is not None:
        # What is here needs nothing of what fetching imports.
        with contextlib.suppress(OSError):
            if not anew and is_as_noted(entry):
                return entry.path
        from llmchat.checkpoints.fetch import fetch

        return fetch(entry, progress, cancel, verify=anew)
    recommended = catalog.find_recommended(model)
    asked = model if recommended is None else f"{PREFIX}{recommended.hub}"
    if not anew and (stored := _stored(model, asked)) is not None:
        return stored
    name = read_address(asked) if is_address(asked) else read_hub_name(asked)
    if name is not None:
        from llmchat.stores.hub_fetch import fetch_from_hub

        return fetch_from_hub(name, progress, cancel, may_fetch=may_fetch, anew=anew)
    if is_address(asked):
        from llmchat.stores.addresses import fetch_address

        return fetch_address(asked, progress, cancel, may_fetch=may_fetch, anew=anew)
    raise ModelLoadError(_unknown_words(model))


def _stored(*names: str) -> Path | None:
    """What a store holds under one of these names."""
    from llmchat.stores.on_disk import find_stored

    return next((path for name in dict.fromkeys(names) if (path := find_stored(name)) is not None), None)


def _unknown_words(model: str) -> str:
    """That there is nothing of a name, and what may have been meant."""
    from llmchat.checkpoints import catalog

    if Path(model).suffix in _FILE_SUFFIXES or os.sep in model:
        return f"There is no file or directory {model!r}. What goes by a name shows: llmchat models"
    near = catalog.near_names(model)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"There is no model called {model!r}, nor a file of that name.{meant} "
        "What goes by a name shows: llmchat models; anything of the hub is OWNER/NAME."
    )
