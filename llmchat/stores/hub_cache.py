"""The cache that huggingface_hub and all tools built on it share: what is in it, found without a request.

models--OWNER--NAME/refs/REVISION        the commit that a branch was at when it was fetched
models--OWNER--NAME/snapshots/COMMIT/…   links to the files, which lie in blobs/
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from llmchat.errors import ModelLoadError
from llmchat.stores.hub_choice import HubChoice, RepoFile, choose
from llmchat.stores.hub_name import MAIN, HubName
from llmchat.stores.stored_model import StoredModel, read_json

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_FILES = 2000
"""Of a snapshot, so many files are looked at."""


def hub_dir() -> Path:
    """The cache's directory, wherever the person's variables put it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def repo_dir(repo: str) -> Path:
    """Where a repository lies, or will lie."""
    return hub_dir() / f"models--{repo.replace('/', '--')}"


def find_cached(name: HubName) -> Path | None:
    """The file or directory of a model that is whole in the cache; None if it is not."""
    for snapshot in _snapshots(repo_dir(name.repo), name.revision):
        if (found := _whole(snapshot, name.wanted)) is not None:
            return found
    return None


def cached_models() -> list[StoredModel]:
    """Every model that is whole in the cache, each of several GGUF files by itself."""
    found: list[StoredModel] = []
    with contextlib.suppress(OSError):
        for place in sorted(hub_dir().glob("models--*--*")):
            with contextlib.suppress(OSError):
                found += _models_of(place)
    return found


def _snapshots(place: Path, revision: str) -> list[Path]:
    """The snapshots that a revision may mean, the best first: the one it was at last, or of main, the newest."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if _COMMIT.fullmatch(revision):
            return [place / "snapshots" / revision]
        commit = (place / "refs" / revision).read_text(encoding="utf-8").strip()
        if _COMMIT.fullmatch(commit):
            return [place / "snapshots" / commit]
    if revision != MAIN:
        return []
    with contextlib.suppress(OSError):
        return sorted((place / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    return []


def _whole(snapshot: Path, wanted: str) -> Path | None:
    """The model of a snapshot, if all of its files are there."""
    choice = _choice(snapshot, wanted)
    return None if choice is None else snapshot / choice.main


def _choice(snapshot: Path, wanted: str = "") -> HubChoice | None:
    """What of a snapshot would be opened, if all of its files are there."""
    try:
        files = list(_files(snapshot))
        if not _is_whole_directory(snapshot):
            files = [file for file in files if not file.path.endswith(".safetensors")]
        return choose(files, wanted)
    except (ModelLoadError, OSError):
        return None


def _files(snapshot: Path) -> Iterator[RepoFile]:
    """The files of a snapshot that are there; a link to nothing is none."""
    count = 0
    for folder, _, names in os.walk(snapshot):
        for name in names:
            path = Path(folder, name)
            if (count := count + 1) > _MOST_FILES:
                return
            with contextlib.suppress(OSError):
                yield RepoFile(path.relative_to(snapshot).as_posix(), path.stat().st_size)


def _is_whole_directory(snapshot: Path) -> bool:
    """Whether a snapshot has a configuration, a tokenizer, and every shard that its index names."""
    if not (snapshot / "config.json").is_file():
        return False
    if not any((snapshot / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return False
    if (snapshot / "model.safetensors").is_file():
        return True
    if indexes := list(snapshot.glob("*.safetensors.index.json")):
        shards = _shards(indexes[0])
        return bool(shards) and all((snapshot / name).is_file() for name in shards)
    return any(snapshot.glob("*.safetensors")) and not any(snapshot.glob("*-of-*.safetensors"))


def _shards(index: Path) -> set[str]:
    """The files that an index names; none where it is no index."""
    match read_json(index):
        case {"weight_map": dict(names)} if all(isinstance(name, str) and "\0" not in name for name in names.values()):
            return set(names.values())
    return set()


def _is_of_text(snapshot: Path) -> bool:
    """Whether a configuration says that its model writes text, or does not say what it does."""
    match read_json(snapshot / "config.json"):
        case {"architectures": [*names]} if names:
            return any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in names)
    return True


def _models_of(place: Path) -> Iterator[StoredModel]:
    """The models of a repository's newest snapshot."""
    repo = place.name.removeprefix("models--").replace("--", "/", 1)
    for snapshot in _snapshots(place, MAIN)[:1]:
        whole = _choice(snapshot)
        if whole is not None and not whole.main and _is_of_text(snapshot):
            yield _stored(repo, snapshot, whole)
        choices: dict[str, HubChoice] = {}
        for file in sorted(_files(snapshot), key=lambda file: file.path):
            if file.path.lower().endswith(".gguf") and (choice := _choice(snapshot, file.path)) is not None:
                choices.setdefault(choice.main, choice)
        words = [choice.words for choice in choices.values()]
        for choice in choices.values():
            word = choice.words if words.count(choice.words) == 1 else choice.main
            yield _stored(f"{repo}:{word}", snapshot / choice.main, choice)


def _stored(name: str, path: Path, choice: HubChoice) -> StoredModel:
    return StoredModel(name, path, choice.weights_size, "Hugging Face's cache", "hub")
