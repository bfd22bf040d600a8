"""Which files of a Hugging Face directory hold its weights: judged from names and the index. Imports nothing heavy."""

from __future__ import annotations

import json
import os
from pathlib import Path

from llmchat.errors import ModelLoadError
from llmchat.files import describe

_NAMES = ("model.safetensors", "pytorch_model.bin")
"""The usual names of weights in one file; safetensors are preferred."""

ADAPTER_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
"""Weights that are added to those of another model."""

_MOST_PARTS = 10_000
_INDEX_LIMIT = 64 * 2**20
_NAME_LIMIT = 255
"""Bytes; no file's name is longer."""


def weight_files(directory: Path) -> list[Path]:
    """The files of a directory that hold its weights, in order; empty if there are none.

    Those under the usual names, in one file or in parts; else a single safetensors file, whatever it is called.

    Raises:
        ModelLoadError: A part is missing, or the index is damaged.
    """
    for name in _NAMES:
        if files := _listed(directory, name):
            return files
    others = [file for file in directory.glob("*.safetensors") if not is_beside_the_model(file)]
    return others if len(others) == 1 else []


def is_beside_the_model(file: Path) -> bool:
    """Whether a file's name says that it holds an adapter, or the weights once more in their maker's own layout."""
    return file.name in ADAPTER_NAMES or file.name.startswith("consolidated")


def _listed(directory: Path, name: str) -> list[Path]:
    """The file of this name, or the parts that its index lists, or parts that look like its own."""
    if (directory / name).is_file():
        return [directory / name]
    index = directory / f"{name}.index.json"
    if not index.is_file():
        stem, _, suffix = name.partition(".")
        return _all_parts(sorted(directory.glob(f"{stem}-*-of-*.{suffix}")))
    files = [directory / part for part in sorted(set(_parts(index)))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise _incomplete(directory, missing)
    return files


def _all_parts(files: list[Path]) -> list[Path]:
    """Parts found by their names, of which the last word tells how many there are."""
    ends = {file.stem.rpartition("-")[2] for file in files}
    if len(ends) == 1 and (end := ends.pop()).isdecimal() and len(files) < int(end) <= _MOST_PARTS:
        stem, there = files[0].name.partition("-")[0], {file.name for file in files}
        names = (f"{stem}-{number:05}-of-{end}{files[0].suffix}" for number in range(1, int(end) + 1))
        raise _incomplete(files[0].parent, [name for name in names if name not in there])
    return files


def _incomplete(directory: Path, missing: list[str]) -> ModelLoadError:
    more = f" and {len(missing) - 1} more are missing" if len(missing) > 1 else " is missing"
    return ModelLoadError(f"{directory} is incomplete: {missing[0]}{more}. Fetch the rest of the model.")


def _parts(index: Path) -> list[str]:
    """The names of the files in an index."""
    try:
        if index.stat().st_size > _INDEX_LIMIT:
            raise ModelLoadError(f"{index} is too large to be what its name says.")
        parts = list(json.loads(index.read_text("utf-8-sig"))["weight_map"].values())
    except OSError as error:
        raise ModelLoadError(f"{index} cannot be read: {describe(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelLoadError(f"{index} is damaged: it has no list of files.") from error
    for part in parts:
        # A name with a directory in it would lead out of the model's own.
        if not isinstance(part, str) or not _is_file_name(part):
            raise ModelLoadError(f"{index} names a file that is not beside it: {str(part)[:80]!r}.")
    return parts


def _is_file_name(name: str) -> bool:
    try:
        return Path(name).name == name and 0 < len(os.fsencode(name)) <= _NAME_LIMIT and "\0" not in name
    except UnicodeEncodeError:
        return False
