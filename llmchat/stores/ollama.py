"""What Ollama has on this machine: manifests that say which blob is a model.

    manifests/HOST/NAMESPACE/MODEL/TAG      JSON, with layers by media type and digest
    blobs/sha256-HEX                        GGUF without a suffix

Templates, parameters and system prompts of Ollama's own are left aside: a GGUF file has its template in it.
A manifest is somebody else's text: nothing that it names outside the store is looked at.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from llmchat.errors import ModelLoadError
from llmchat.files import expanded
from llmchat.stores.stored_model import StoredModel, read_json

SIGN = "ollama"
STORE = "Ollama"
_SERVICE_STORE = "/usr/share/ollama/.ollama/models"
"""Where Ollama's installer for Linux lets its service keep models."""
_MODEL = "application/vnd.ollama.image.model"
_ADAPTER = "application/vnd.ollama.image.adapter"
_TENSOR = "application/vnd.ollama.image.tensor"
_OFFICIAL = "library"
"""The namespace of models that go by their name alone."""
_LATEST = "latest"
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+){0,3}(?::[\w.-]+)?", re.ASCII)
_MOST = 2000
"""Of the manifests, so many are looked at."""


def places() -> list[Path]:
    """The stores, the person's own first."""
    if given := os.environ.get("OLLAMA_MODELS"):
        return [expanded(given)]
    return [expanded("~/.ollama/models"), Path(_SERVICE_STORE)]


def models() -> list[StoredModel]:
    """Every model that can be opened."""
    found: dict[str, StoredModel] = {}
    for store in places():
        for manifest in _manifests(store):
            with contextlib.suppress(ModelLoadError, OSError):
                name = _short_name(manifest.relative_to(store / "manifests").parts)
                path = _blob(store, manifest, name)
                found.setdefault(name, StoredModel(name, path, path.stat().st_size, STORE, SIGN))
    return list(found.values())


def find(name: str) -> Path | None:
    """The GGUF file of a model by its name in Ollama, such as llama3.2 or qwen2.5:0.5b; None if there is none.

    Raises:
        ModelLoadError: It is there, but not to be run by llmchat; says why.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        return None
    for store in places():
        for manifest in _manifests(store):
            parts = manifest.relative_to(store / "manifests").parts
            if name.casefold() in _all_names(parts):
                return _blob(store, manifest, _short_name(parts))
    return None


def _manifests(store: Path) -> Iterator[Path]:
    """The manifests that lie in a store, and are no links out of it."""
    with contextlib.suppress(OSError):
        for count, path in enumerate(sorted((store / "manifests").glob("*/*/*/*"))):
            if count < _MOST and path.is_file() and _is_inside(path, store):
                yield path


def _short_name(parts: tuple[str, ...]) -> str:
    """What Ollama calls a model: as short as it can be told apart."""
    host, namespace, model, tag = parts
    short = model if namespace == _OFFICIAL else f"{namespace}/{model}" if _is_official(host) else "/".join(parts[:3])
    return short if tag == _LATEST else f"{short}:{tag}"


def _is_official(host: str) -> bool:
    """Whether models of a host go without its name."""
    return host.startswith("registry.")


def _all_names(parts: tuple[str, ...]) -> set[str]:
    host, namespace, model, tag = (part.casefold() for part in parts)
    names = {f"{host}/{namespace}/{model}", f"{namespace}/{model}", *([model] if namespace == _OFFICIAL else [])}
    return {f"{name}:{tag}" for name in names} | (names if tag == _LATEST else set())


def _blob(store: Path, manifest: Path, name: str) -> Path:
    """The file of a manifest's model.

    Raises:
        ModelLoadError: It has none that llmchat could run, or names something outside the store.
    """
    kinds: dict[str, str] = {}
    match read_json(manifest):
        case {"layers": [*layers]}:
            for layer in layers:
                match layer:
                    case {"mediaType": str(kind), "digest": str(digest)}:
                        kinds.setdefault(kind, digest)
    found = _DIGEST.fullmatch(kinds.get(_MODEL, ""))
    if found is None:
        why = " (its weights lie in another form than GGUF)" if _TENSOR in kinds else ""
        raise ModelLoadError(f"{name} in Ollama's store {store} has no GGUF file{why}: get it anew, or use another.")
    path = store / "blobs" / f"sha256-{found[1]}"
    if not path.is_file() or not _is_inside(path, store):
        raise ModelLoadError(f"{name} is not whole in Ollama's store {store}: get it again with: ollama pull {name}")
    if _ADAPTER in kinds:
        raise ModelLoadError(
            f"{name} in Ollama's store is a model with an adapter, which would be left out. The model alone: {path}"
        )
    return path


def _is_inside(path: Path, store: Path) -> bool:
    """Whether a path does not lead out of the store."""
    return path.resolve().is_relative_to(store.resolve())
