"""`llmchat models`: what can be opened by name, what is on this machine, and what is worth fetching."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llmchat.chat.plain_text import visible
from llmchat.streams import print_json

_NAME_WIDTH = 13


def list_models(*, as_json: bool) -> None:
    """Print every model that goes by a name: ours, those in stores of this machine, and recommended ones of the hub."""
    if as_json:
        print_json(json.dumps(list(_rows()), indent=2))
    else:
        print("\n".join(_lines()))


def clean_caches() -> None:
    """Remove repacked weights and what was read of conversations, and print how much that was.

    Raises:
        UsageError: The system knows of no place for them.
    """
    from llmchat import disk_cache, paths
    from llmchat.chat.amounts import size_words

    removed = [disk_cache.clean(directory) for directory in (paths.weights_dir(), paths.snapshots_dir())]
    count, size = (sum(one) for one in zip(*removed, strict=True))
    files = "1 file" if count == 1 else f"{count} files"
    kinds = "repacked weights and KV caches"
    print(f"Removed {files} with {size_words(size)} of {kinds}." if count else "There was nothing to remove.")


def _lines() -> Iterator[str]:
    """The list for a person, at most 80 columns wide where names and paths allow."""
    from llmchat.chat.amounts import memory_words, size_words
    from llmchat.checkpoints import catalog
    from llmchat.stores.on_disk import stored_models

    for entry in catalog.models():
        place = str(entry.path) if entry.is_on_disk else f"not fetched; llmchat pull {entry.name}"
        yield f"{entry.name:<{_NAME_WIDTH}} {size_words(entry.size):>7}  {entry.description}"
        yield f"{'':<{_NAME_WIDTH + 10}}{place}"
    stored = stored_models()
    for store in dict.fromkeys(model.store for model in stored):
        yield f"\nOn this machine, from {store}:"
        for model in stored:
            if model.store == store:
                yield visible(f"{size_words(model.size):>{_NAME_WIDTH + 8}}  {model.name}")
    yield "\nFetched from the hub when they are first asked for (size, memory, licence):"
    for one in catalog.recommended_models():
        sizes = f"{size_words(one.size):>7} {memory_words(one.size):>7}"
        gated = "; gated" if one.is_gated else ""
        yield f"{one.name:<{_NAME_WIDTH}} {sizes}  {one.licence:<11} {one.description}{gated}"
    yield "\nAny other: --model OWNER/NAME of the hub, OWNER/NAME:Q4_K_M, or an https address."


def _rows() -> Iterator[dict[str, Any]]:
    """The list for a program."""
    from llmchat.checkpoints import catalog
    from llmchat.stores.hub_cache import find_cached
    from llmchat.stores.hub_name import HubName
    from llmchat.stores.on_disk import stored_models

    for entry in catalog.models():
        facts = (entry.name, entry.description, entry.size, str(entry.path), entry.is_on_disk, "llmchat", entry.licence)
        yield _row(*facts)
    for model in stored_models():
        yield _row(model.name, model.store, model.size, str(model.path), True, model.sign, None)
    for one in catalog.recommended_models():
        cached = find_cached(HubName(one.hub))
        path = None if cached is None else str(cached)
        row = _row(one.name, one.description, one.size, path, cached is not None, "recommended", one.licence)
        yield {**row, "hub": one.hub, "gated": one.is_gated}


def _row(
    name: str, description: str, size: int, path: str | None, on_disk: bool, source: str, licence: str | None
) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "size_bytes": size,
        "path": path,
        "on_disk": on_disk,
        "source": source,
        "licence": licence,
    }
