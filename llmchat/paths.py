"""Where llmchat keeps things on this machine.

Every function names a place and creates nothing; `ensure` creates. Each raises UsageError
where the system knows of no home directory for the person. If the
environment variable LLMCHAT_HOME is set, everything lies under it; otherwise
the places are the operating system's own for configuration, data, state and caches.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from llmchat.errors import UsageError
from llmchat.files import describe, expanded

HOME_VARIABLE = "LLMCHAT_HOME"


def located(place: str | Path) -> Path:
    """The path of a file that a person named.

    Raises:
        UsageError: The name is empty, or "~" stands before a name that is no user.
    """
    text = str(place)
    if not text.strip():
        raise UsageError("A file's name is empty. Give one, or leave the option out.")
    path = expanded(place)
    if text.startswith("~") and str(path).startswith("~") and not path.exists():
        raise UsageError(f"There is no home directory for {path.parts[0]}: write the path out.")
    return path


def _root(kind: Literal["config", "data", "state", "cache"]) -> Path:
    if home := os.environ.get(HOME_VARIABLE):
        return located(home).absolute() / kind
    from platformdirs import PlatformDirs

    places = PlatformDirs("llmchat", appauthor=False)
    try:
        root = Path(getattr(places, f"user_{kind}_dir"))
    except RuntimeError:
        root = Path()
    if not root.is_absolute():
        raise UsageError(f"There is no home directory to keep things in. Name a directory with {HOME_VARIABLE}.")
    return root


def config_dir() -> Path:
    """The directory of what a person writes by hand: settings and themes."""
    return _root("config")


def data_dir() -> Path:
    """The directory of what is worth keeping: models and transcripts."""
    return _root("data")


def state_dir() -> Path:
    """The directory of what may be thrown away: the log, the prompt history and which models were opened."""
    return _root("state")


def cache_dir() -> Path:
    """The directory of what can be made again at any time."""
    return _root("cache")


def snapshots_dir() -> Path:
    """What models have read of conversations."""
    return cache_dir() / "snapshots"


def weights_dir() -> Path:
    """The weights of large models, as the native step has them."""
    return cache_dir() / "weights"


def models_dir() -> Path:
    """The directory into which models are fetched."""
    return data_dir() / "models"


def transcripts_dir() -> Path:
    """The directory of saved conversations."""
    return data_dir() / "transcripts"


def themes_dir() -> Path:
    """The directory of the person's own themes."""
    return config_dir() / "themes"


def settings_path() -> Path:
    """The settings file."""
    return config_dir() / "settings.toml"


def log_path() -> Path:
    """The log, which also takes what libraries write to the terminal's outputs."""
    return state_dir() / "llmchat.log"


def history_path() -> Path:
    """The prompts that were typed before."""
    return state_dir() / "prompts.history"


def recent_models_path() -> Path:
    """The models that were opened by path."""
    return state_dir() / "models.recent"


def ensure(directory: Path) -> Path:
    """Create a directory, and those above it that are missing, for their owner alone; return it.

    A directory that is there already keeps its permissions.

    Raises:
        UsageError: It cannot be created.
    """
    try:
        _create(directory)
    except FileExistsError:
        raise UsageError(f"{directory} cannot be created: there is a file of that name.") from None
    except OSError as error:
        raise UsageError(f"{directory} cannot be created: {describe(error)}.") from error
    return directory


def _create(directory: Path) -> None:
    # Path.mkdir(parents=True) would leave the directories above open to others.
    if not directory.is_dir():
        _create(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
