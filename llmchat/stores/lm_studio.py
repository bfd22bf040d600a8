"""What LM Studio has on this machine: PUBLISHER/MODEL/FILE.gguf, or a directory with safetensors."""

from __future__ import annotations

import contextlib
from pathlib import Path

from llmchat.errors import ModelLoadError
from llmchat.files import expanded
from llmchat.stores.hub_choice import HubChoice, RepoFile, choose
from llmchat.stores.stored_model import StoredModel

SIGN = "lm-studio"
STORE = "LM Studio"
PLACES = ("~/.lmstudio/models", "~/.cache/lm-studio/models")
"""Where its versions keep models, the newer place first."""
_MOST = 2000
"""Of the directories, so many are looked at."""


def places() -> list[Path]:
    """The stores, the best first."""
    return [expanded(place) for place in PLACES]


def models() -> list[StoredModel]:
    """Every model, each of several quantisations by itself."""
    found: dict[str, StoredModel] = {}
    for store in places():
        with contextlib.suppress(OSError):
            for folder in sorted(store.glob("*/*"))[:_MOST]:
                for name, choice in _choices(folder).items():
                    path = folder / choice.main
                    found.setdefault(name, StoredModel(name, path, choice.weights_size, STORE, SIGN))
    return list(found.values())


def find(repo: str, wanted: str = "") -> Path | None:
    """The file or directory of a model by PUBLISHER/MODEL; None if there is none.

    Args:
        repo: PUBLISHER/MODEL.
        wanted: A file or a quantisation; "" takes what the hub would be asked for.
    """
    for store in places():
        folder = store / repo
        with contextlib.suppress(ModelLoadError, OSError):
            if folder.is_dir() and (files := _files(folder)):
                return folder / choose(files, wanted).main
    return None


def _choices(folder: Path) -> dict[str, HubChoice]:
    """The models of a directory by their names."""
    files, repo = _files(folder), f"{folder.parent.name}/{folder.name}"
    choices: dict[str, HubChoice] = {}
    for wanted in ["", *(file.path for file in files if file.path.lower().endswith(".gguf"))]:
        with contextlib.suppress(ModelLoadError):
            choice = choose(files, wanted)
            choices.setdefault(f"{repo}:{choice.words}" if choice.main else repo, choice)
    return choices


def _files(folder: Path) -> list[RepoFile]:
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        with contextlib.suppress(OSError):
            if path.is_file():
                found.append(RepoFile(path.name, path.stat().st_size))
    return found
