"""The catalogue of named models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmchat import paths
from llmchat.checkpoints import catalog
from llmchat.checkpoints.catalog import default_model, find_model, models
from llmchat.stores.hub_name import read_hub_name


@pytest.mark.parametrize("name", ["", "smollm2", "SmolLM2", "SmolLM2-135M-Instruct", "smollm2-135m-instruct"])
def test_names_of_the_default_model(name: str) -> None:
    """The default model answers to its name and aliases in any case, and to no name at all."""
    assert find_model(name) is default_model()


@pytest.mark.parametrize("name", ["gpt5", "./tiny", "smollm2.gguf", " "])
def test_other_names_are_none(name: str) -> None:
    """What is no name of the catalogue is left to be taken as a path."""
    assert find_model(name) is None


def test_names_are_unique() -> None:
    """No two entries can be asked for by the same word."""
    names = [name.casefold() for entry in models() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


def test_fetched_models_lie_in_the_data_directory(sandbox: Path) -> None:
    """A fetched model lies where LLMCHAT_HOME says, and counts as there only when it is whole."""
    entry = default_model()
    assert entry.path == paths.models_dir() / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert sandbox in entry.path.parents
    assert not entry.is_on_disk
    entry.path.parent.mkdir(parents=True)
    entry.path.write_bytes(b"GGUF")
    assert not entry.is_on_disk
    with entry.path.open("wb") as file:
        file.truncate(entry.size)
    assert entry.is_on_disk


def test_tiny_is_always_there() -> None:
    """The storyteller is inside the package, whole, with its tokenizer beside it."""
    entry = find_model("tiny")
    assert entry is not None
    assert entry.is_on_disk
    assert (entry.path.parent / "tokenizer.model").is_file()


def test_the_catalogue_is_light() -> None:
    """`llmchat models` answers at once: nothing heavy is imported."""
    code = (
        "import sys, llmchat.checkpoints.catalog, llmchat.checkpoints.fetch; "
        "print([name for name in ('torch', 'numpy', 'gguf', 'textual') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_recommended_models() -> None:
    """Each has a name of its own, which Ollama's spelling finds too, a place on the hub, and stands by its size."""
    listed = catalog.recommended_models()
    names = [model.name for model in listed] + [entry.name for entry in catalog.models()]
    assert len(set(names)) == len(names)
    assert [model.size for model in listed] == sorted(model.size for model in listed)
    assert all(read_hub_name(model.hub) is not None and "/" not in model.name for model in listed)
    assert catalog.find_recommended("Qwen3:0.6B") is catalog.find_recommended("qwen3-0.6b")
    assert catalog.near_names("llama3.2") == ["llama3.2-1b", "llama3.2-3b"]
    assert catalog.near_names("smolm2")[0] == "smollm2"
