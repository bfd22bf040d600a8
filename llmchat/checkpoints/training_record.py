"""What a checkpoint says of its training, read in a moment: without torch, without its weights, without trust.

A .pt file's description is unpickled with a stand-in for every class and function that
it names, so nothing of it runs; tensors become stand-ins too.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmchat.checkpoints.llmbuilder_facts import training_facts

_LIMIT = 16 * 2**20
"""Bytes of a description; a checkpoint's takes kilobytes."""

_STATE_FILE = "trainer_state.json"
"""Where Hugging Face's Trainer keeps the progress, beside the weights of each checkpoint."""

_READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
"""What the reading of bytes raises that are not as they should be."""


def read_training(path: Path) -> Mapping[str, int | float]:
    """step, epoch and loss of a checkpoint file or directory, as far as it says; nothing if it cannot be read."""
    try:
        return _from_trainer_state(path / _STATE_FILE) if path.is_dir() else training_facts(_described(path))
    except _READ_ERRORS:
        return {}


def _described(path: Path) -> object:
    """What a .pt file holds, with stand-ins for all but numbers, texts and containers."""
    with zipfile.ZipFile(path) as archive:
        index = next((record for record in archive.infolist() if record.filename.endswith("/data.pkl")), None)
        if index is None or index.file_size > _LIMIT or index.compress_type != zipfile.ZIP_STORED:
            return None
        with archive.open(index) as file:
            return _Reader(file).load()


class _StandIn:
    """Takes the place of whatever a pickle names, and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _StandIn:
        """One more stand-in, whatever it is made from."""
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Nothing is kept."""

    def __setstate__(self, state: Any) -> None:
        """Nothing is kept."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nothing is kept."""

    def append(self, item: Any) -> None:
        """Nothing is kept."""

    def __hash__(self) -> int:
        return id(self)


# The one in C gives a hostile file's memo as much memory as it asks for.
class _Reader(pickle._Unpickler):
    """Reads a pickle without running anything that it names."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The real thing for ordered dicts, a stand-in for everything else."""
        return OrderedDict if (module_name, global_name) == ("collections", "OrderedDict") else _StandIn

    def persistent_load(self, pid: Any) -> Any:
        """A tensor's bytes, which are not wanted."""
        return None


def _from_trainer_state(path: Path) -> Mapping[str, int | float]:
    if path.stat().st_size > _LIMIT:
        return {}
    state = json.loads(path.read_text(encoding="utf-8"))
    history = state.get("log_history", [])
    losses = (entry[name] for name in ("eval_loss", "loss") for entry in reversed(history) if name in entry)
    return training_facts({**state, "loss": next(losses, None)})
