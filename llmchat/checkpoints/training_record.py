"""What a checkpoint says of its training, read in a moment: without torch, without its weights, without trust.

A .pt file's description is unpickled with a stand-in for every class and function that
it names, so nothing of it runs; tensors become stand-ins too.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmchat.checkpoints.llmbuilder_facts import training_facts
from llmchat.checkpoints.torch_pickle import INDEX_LIMIT, READ_ERRORS, CheckedUnpickler, Named, empty_dict

_STATE_FILE = "trainer_state.json"
"""Where Hugging Face's Trainer keeps the progress, beside the weights of each checkpoint."""


def read_training(path: Path) -> Mapping[str, int | float]:
    """step, epoch and loss of a checkpoint file or directory, as far as it says; nothing if it cannot be read."""
    try:
        return _from_trainer_state(path / _STATE_FILE) if path.is_dir() else training_facts(_described(path))
    except (*READ_ERRORS, MemoryError):
        return {}


def _described(path: Path) -> object:
    """What a .pt file holds, with stand-ins for all but numbers, texts and containers."""
    with zipfile.ZipFile(path) as archive:
        index = next((record for record in archive.infolist() if record.filename.endswith("/data.pkl")), None)
        if index is None or index.file_size > INDEX_LIMIT or index.compress_type != zipfile.ZIP_STORED:
            return None
        return _Unpickler(archive.read(index)).load()


class _StandIn:
    """Takes the place of what a pickle makes by a name, and does nothing."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nothing is kept."""

    def append(self, item: Any) -> None:
        """Nothing is kept."""


class _Unpickler(CheckedUnpickler):
    """Reads what a pickle says in plain values and containers, whatever else it names."""

    def find_class(self, module_name: str, global_name: str) -> Named:
        """What makes ordered dicts, or stand-ins for everything else."""
        is_dict = (module_name, global_name) == ("collections", "OrderedDict")
        return Named(empty_dict if is_dict else lambda *_: _StandIn())

    def persistent_load(self, pid: Any) -> None:
        """A storage's bytes, which are not wanted."""


def _from_trainer_state(path: Path) -> Mapping[str, int | float]:
    if path.stat().st_size > INDEX_LIMIT:
        return {}
    state = json.loads(path.read_text(encoding="utf-8"))
    history = state.get("log_history", [])
    losses = (entry[name] for name in ("eval_loss", "loss") for entry in reversed(history) if name in entry)
    return training_facts({**state, "loss": next(losses, None)})
