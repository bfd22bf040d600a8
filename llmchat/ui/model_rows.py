"""The rows of a list of models: those that go by a name, wherever they are."""

from __future__ import annotations

from collections.abc import Iterator

from llmchat.chat.amounts import memory_words, size_words
from llmchat.chat.plain_text import visible
from llmchat.checkpoints import catalog
from llmchat.stores.on_disk import stored_models
from llmchat.ui.widgets.choice_list import Choice


def named_rows() -> Iterator[Choice]:
    """The models that come with llmchat or are fetched by it alone."""
    for entry in catalog.models():
        place = "on this machine" if entry.is_on_disk else "to be fetched"
        memory = f"{memory_words(entry.size)} of memory"
        yield Choice(entry.name, entry.title, f"{size_words(entry.size)}, {place}, {memory}; {entry.description}")


def stored_rows() -> Iterator[Choice]:
    """What stores of this machine hold; of a name in several stores, the first."""
    seen: set[str] = set()
    for model in stored_models():
        if model.name not in seen:
            seen.add(model.name)
            words = f"{size_words(model.size)}, from {model.store}, {memory_words(model.size)} of memory"
            yield Choice(model.name, visible(model.name), words)


def recommended_rows() -> Iterator[Choice]:
    """What is worth fetching from the hub."""
    for model in catalog.recommended_models():
        gated = "; gated" if model.is_gated else ""
        words = f"{size_words(model.size)} to be fetched, {memory_words(model.size)} of memory"
        yield Choice(model.name, model.name, f"{words}; {model.licence}, {model.description}{gated}")


def model_names() -> list[str]:
    """What can be opened by a name that is listed."""
    stored = [model.name for model in stored_models()]
    listed = [model.name for model in catalog.recommended_models()]
    return list(dict.fromkeys([*(entry.name for entry in catalog.models()), *stored, *listed]))
