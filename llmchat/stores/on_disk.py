"""What the stores of this machine hold: the cache of the hub, Ollama, LM Studio, and what came from an address."""

from __future__ import annotations

from pathlib import Path

from llmchat.stores.stored_model import StoredModel


def stored_models() -> list[StoredModel]:
    """Every model of every store, by name within its store."""
    from llmchat.stores import addresses, hub_cache, lm_studio, ollama

    found: list[StoredModel] = []
    for store in (hub_cache.cached_models, ollama.models, lm_studio.models, addresses.models):
        found += sorted(store(), key=lambda model: model.name.casefold())
    return found


def find_stored(name: str) -> Path | None:
    """The file or directory of a model in a store by its name there; None if there is none.

    Raises:
        ModelLoadError: It is there, but not to be run.
    """
    from llmchat.stores import hub_cache, lm_studio, ollama
    from llmchat.stores.hub_name import MAIN, read_hub_name

    if (path := ollama.find(name)) is not None:
        return path
    hub_name = read_hub_name(name)
    if hub_name is None:
        return None
    cached = hub_cache.find_cached(hub_name)
    if cached is None and hub_name.revision == MAIN:
        return lm_studio.find(hub_name.repo, hub_name.wanted)
    return cached
