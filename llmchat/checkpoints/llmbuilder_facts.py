"""What an llmbuilder file says beside its weights: attention heads and training progress.

The number of heads shows in no tensor's shape, and each of llmbuilder's writers
keeps it somewhere else, or nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from llmchat.errors import ModelLoadError

_SIDECAR_LIMIT = 2**20
_LIMIT = 2**63
_HEAD_DIM = 64
"""The width of a head in every preset of llmbuilder."""

_STEP = (("training_state", "step"), ("metrics", "step"), ("metadata", "step"), ("", "global_step"), ("", "step"))
_EPOCH = (("training_state", "epoch"), ("metrics", "epoch"), ("metadata", "epoch"), ("", "epoch"))
_LOSS = (
    ("metrics", "val_loss"),
    ("", "val_loss"),
    ("metadata", "loss"),
    ("", "loss"),
    ("training_state", "best_val_loss"),
    ("", "best_val_loss"),
    ("metrics", "train_loss"),
    ("", "train_loss"),
)


def choose_heads(payload: object, path: Path, dim: int, wanted: int | None) -> tuple[int, tuple[str, ...]]:
    """The number of attention heads, and what a person should know about where it comes from.

    Args:
        payload: What the file holds.
        path: The file; JSON files beside it are read too.
        dim: Width of the model, which the heads divide.
        wanted: What the person asked for; it goes before everything else.

    Raises:
        ModelLoadError: The number does not divide `dim`.
    """
    stated = next(_stated_heads(payload, path, dim), None)
    if wanted is not None:
        _check(wanted, dim, f"--heads {wanted} does not fit {path}")
        differs = stated not in (None, wanted)
        return wanted, (f"The file says {stated} attention heads; {wanted} are used, as asked.",) if differs else ()
    if stated is not None:
        _check(stated, dim, f"{path} says it has {stated} attention heads, which cannot be")
        return stated, ()
    guess = _guess(dim)
    return guess, (
        f"The file does not say how many attention heads the model has; {guess} is a guess. "
        f"If the text is poor, try --heads with another of {_divisors_text(dim)}.",
    )


def training_facts(payload: object) -> dict[str, int | float]:
    """step, epoch and loss, as far as the file says; the validation loss before the training loss."""
    facts: dict[str, int | float] = {}
    for name, places in (("step", _STEP), ("epoch", _EPOCH), ("loss", _LOSS)):
        found = (_number(_inside(payload, group) if group else payload, key) for group, key in places)
        value = next((number for number in found if number is not None), None)
        if value is not None:
            facts[name] = value
    return facts


def _stated_heads(payload: object, path: Path, dim: int) -> Iterator[int]:
    """Every number of heads that the file and its neighbours state, the most certain first."""
    config = _inside(payload, "config")
    inside = (
        _inside(payload, "model_config"),
        _inside(payload, "metadata"),
        _inside(config, "model"),
        config,
        _inside(_inside(payload, "metadata"), "config"),
    )
    yield from (heads for place in inside if (heads := _heads_in(place, dim)) is not None)
    for sidecar in (path.with_suffix(".metadata.json"), path.parent / "config.json"):
        said = _read_json(sidecar)
        yield from (heads for place in (said, _inside(said, "model")) if (heads := _heads_in(place, dim)) is not None)


def _heads_in(place: object, dim: int) -> int | None:
    """The heads that one mapping states, unless it describes a model of another width."""
    if not isinstance(place, Mapping):
        return None
    if any(place.get(key) not in (None, dim) for key in ("embedding_dim", "n_embd")):
        return None
    for key in ("num_heads", "n_head"):
        heads = place.get(key)
        if isinstance(heads, int) and not isinstance(heads, bool) and abs(heads) < _LIMIT:
            return heads
    return None


def _check(heads: int, dim: int, problem: str) -> None:
    if heads < 1 or dim % heads:
        raise ModelLoadError(f"{problem}: its width is {dim}. Give --heads with one of {_divisors_text(dim)}.")


def _guess(dim: int) -> int:
    if dim % _HEAD_DIM == 0 and dim >= 4 * _HEAD_DIM:
        return dim // _HEAD_DIM
    return next(heads for heads in (4, 2, 1) if dim % heads == 0)


def _divisors_text(dim: int) -> str:
    """The usual choices: those that leave each head at least 8 numbers wide."""
    return ", ".join(str(heads) for heads in range(1, max(dim // 8, 1) + 1) if dim % heads == 0)


def _inside(mapping: object, key: str) -> object:
    return mapping.get(key) if isinstance(mapping, Mapping) else None


def _number(mapping: object, key: str) -> int | float | None:
    value = _inside(mapping, key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # NaN and infinity compare false as well.
    return value if abs(value) < _LIMIT else None


def _read_json(path: Path) -> object:
    """What a small JSON file holds; None if there is none or it cannot be read."""
    try:
        if not path.is_file() or path.stat().st_size > _SIDECAR_LIMIT:
            return None
        said: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return said
