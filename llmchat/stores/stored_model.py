"""A model that lies in a store of this machine, whoever put it there. A plain value, and reading what stores say."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LARGEST_JSON = 2**25


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model in a store."""

    name: str
    """What to type after --model."""
    path: Path
    """A file or a Hugging Face directory."""
    size: int
    """Bytes of its weights."""
    store: str
    """Whose store it is, in words."""
    sign: str = ""
    """What it is for a machine: hub, ollama, lm-studio."""


def read_json(path: Path) -> Any:
    """What a JSON file of a store holds; None if it is none, or larger than any of its kind."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= _LARGEST_JSON:
            return json.loads(path.read_bytes())
    return None
