"""What Ollama and LM Studio have on this machine, found by the names that they give it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmchat.errors import ModelLoadError
from llmchat.stores import lm_studio, ollama
from llmchat.stores.on_disk import find_stored, stored_models
from tests.conftest import DATA
from tests.program import Here

MODEL = "application/vnd.ollama.image.model"
TEMPLATE = "application/vnd.ollama.image.template"
ADAPTER = "application/vnd.ollama.image.adapter"


def give_ollama(*parts: str, data: bytes = b"GGUF", kinds: tuple[str, ...] = (TEMPLATE, MODEL)) -> Path:
    """Put a model into Ollama's store, as Ollama does; returns the blob."""
    store = Path(os.environ["OLLAMA_MODELS"])
    digest = hashlib.sha256(data).hexdigest()
    layers = [{"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)} for kind in kinds]
    return give_manifest(store, parts, {"schemaVersion": 2, "layers": layers}, digest, data)


def give_manifest(store: Path, parts: tuple[str, ...], manifest: Any, digest: str, data: bytes) -> Path:
    """Write a manifest and a blob."""
    path = store.joinpath("manifests", *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(data)
    return blob


def test_a_model_of_ollama_opens_by_its_name(here: Here) -> None:
    """The blob, which has no suffix, is a GGUF file like any other, and goes by the name that its header tells."""
    give_ollama(*OFFICIAL, "cohere", "2b", data=(DATA / "architectures-gguf" / "cohere2.gguf").read_bytes())
    done = here("-m", "cohere:2b", "--once", "-p", "hello", "-n", "2", "--json")
    assert done.code == 0 and json.loads(done.out)["model"] == "Cohere2"
    assert "Ollama:\n" in here("models").out


OFFICIAL = ("registry.example", "library")


def test_names_of_ollama() -> None:
    """As `ollama list` writes them: a model's own name, its tag unless that is latest, its owner and host if others."""
    latest = give_ollama(*OFFICIAL, "llama3.2", "latest")
    small = give_ollama(*OFFICIAL, "qwen2.5", "0.5b", data=b"GGUF small")
    other = give_ollama("registry.example", "somebody", "story", "latest", data=b"GGUF story")
    hub = give_ollama("hf.co", "maker", "model-GGUF", "Q4_K_M", data=b"GGUF hub")
    assert {model.name: model.path for model in stored_models()} == {
        "llama3.2": latest,
        "qwen2.5:0.5b": small,
        "somebody/story": other,
        "hf.co/maker/model-GGUF:Q4_K_M": hub,
    }
    for model in stored_models():
        assert find_stored(model.name) == model.path
    for name in ("llama3.2:latest", "LLAMA3.2", "library/llama3.2"):
        assert find_stored(name) == latest
    assert find_stored("maker/model-GGUF:q4_k_m") == hub
    for name in ("qwen2.5", "qwen2.5:7b", "llama", "", "../llama3.2", "registry.example/library/llama3.2/latest/x"):
        assert ollama.find(name) is None


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ((TEMPLATE,), "has no GGUF file: get it anew"),
        (("application/vnd.ollama.image.tensor",), "its weights lie in another form than GGUF"),
        ((MODEL, ADAPTER), "is a model with an adapter, which would be left out. The model alone: "),
    ],
)
def test_what_of_ollama_cannot_be_run(kinds: tuple[str, ...], words: str) -> None:
    """It is not listed, and asked for by name it is said why."""
    give_ollama(*OFFICIAL, "odd", "latest", kinds=kinds)
    assert stored_models() == []
    with pytest.raises(ModelLoadError) as caught:
        find_stored("odd")
    assert words in caught.value.message


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {"layers": {}},
        {"layers": [1, None, {"mediaType": MODEL}]},
        {"layers": [{"mediaType": MODEL, "digest": "sha256:../../../../secret.gguf"}]},
        {"layers": [{"mediaType": MODEL, "digest": "sha256:" + "A" * 64}]},
        {"layers": [{"mediaType": MODEL, "digest": ["sha256:" + "a" * 64]}]},
    ],
)
def test_hostile_manifests(manifest: Any, tmp_path: Path) -> None:
    """Whatever a manifest says, it is no model, and nothing outside the store is named."""
    store = Path(os.environ["OLLAMA_MODELS"])
    give_manifest(store, (*OFFICIAL, "bad", "latest"), manifest, "b" * 64, b"GGUF")
    assert stored_models() == []
    with pytest.raises(ModelLoadError, match=r"bad in Ollama's store .* has no GGUF file"):
        find_stored("bad")


def test_nothing_outside_the_store_is_followed(tmp_path: Path) -> None:
    """A link out of it, of a blob or of a manifest, is as if it were not there; nor is nesting without end read."""
    secret = tmp_path / "secret.gguf"
    secret.write_bytes(b"GGUF")
    blob = give_ollama(*OFFICIAL, "linked", "latest")
    blob.unlink()
    blob.symlink_to(secret)
    store = Path(os.environ["OLLAMA_MODELS"])
    outside = tmp_path / "manifest"
    outside.write_text("[" * 100_000)
    (store / "manifests" / "registry.example" / "library" / "linked" / "out").symlink_to(outside)
    deep = store / "manifests" / "registry.example" / "library" / "linked" / "deep"
    deep.write_text("[" * 100_000)
    assert stored_models() == []
    with pytest.raises(ModelLoadError, match="not whole in Ollama's store"):
        find_stored("linked")
    assert ollama.find("linked:out") is None
    with pytest.raises(ModelLoadError, match="has no GGUF file"):
        ollama.find("linked:deep")


def give_lm_studio(*parts: str) -> Path:
    """Put a file into LM Studio's store."""
    path = Path(lm_studio.PLACES[0]).joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path


def test_names_of_lm_studio() -> None:
    """PUBLISHER/MODEL, as on the hub, each quantisation by itself; a directory of safetensors as a whole."""
    four = give_lm_studio("maker", "model-GGUF", "model-Q4_K_M.gguf")
    eight = give_lm_studio("maker", "model-GGUF", "model-Q8_0.gguf")
    give_lm_studio("maker", "model-GGUF", "mmproj-F16.gguf")
    give_lm_studio("other", "directory", "config.json")
    directory = give_lm_studio("other", "directory", "model.safetensors").parent
    give_lm_studio("other", "empty", "README.md")
    assert {model.name: model.path for model in stored_models()} == {
        "maker/model-GGUF:Q4_K_M": four,
        "maker/model-GGUF:Q8_0": eight,
        "other/directory": directory,
    }
    assert find_stored("maker/model-GGUF") == four
    assert find_stored("maker/model-GGUF:q8_0") == eight
    assert find_stored("other/directory") == directory
    assert find_stored("other/empty") is None and find_stored("maker/none") is None
