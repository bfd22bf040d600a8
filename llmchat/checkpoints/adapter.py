"""A LoRA adapter on a model: each of its pairs at the matrix that it belongs to, in the order of the model's rows.

    adapter's names ─ its source's layout ─ plan's parameters ─ the model's order of rows ─▶ Adapter

So an adapter that was trained on a directory fits the model's GGUF file, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmchat.checkpoints.adapter_files import AdapterFile, names, read_adapter
from llmchat.checkpoints.assembly import rows_of
from llmchat.checkpoints.checkpoint import Adapter, Checkpoint, LowRank, RawTensor
from llmchat.errors import ModelLoadError
from llmchat.files import describe
from llmchat.models.family import Family, find_family
from llmchat.models.plan import ModelPlan
from llmchat.models.stored import Places, Stored

_UNREAD = ("embedding.weight", "positions.weight")
"""Matrices of which rows are read and nothing is multiplied."""


def open_adapter(path: Path, checkpoint: Checkpoint) -> Adapter:
    """Read an adapter for an opened model.

    Raises:
        ModelLoadError: It is none, is damaged, does more than llmchat can, or is for another model.
    """
    try:
        file = read_adapter(path)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {describe(error)}.") from error
    plan = checkpoint.plan
    family = find_family("config", plan.family) or find_family("gguf", plan.family)
    if family is None:
        raise ModelLoadError(f"{checkpoint.name} is no model that adapters are made for: open it without --lora.")
    if file.source == "gguf" and file.made_for not in family.names.get("gguf", ()):
        raise ModelLoadError(
            f"{path} is an adapter for {file.made_for} models, and {checkpoint.name} is a {plan.family} model."
        )
    added = dict(_placed(file, family, checkpoint))
    return Adapter(file.path.stem if file.path.is_file() else file.path.name, str(path), added)


def _placed(file: AdapterFile, family: Family, checkpoint: Checkpoint) -> Iterator[tuple[str, LowRank]]:
    """Each pair under the plan's name of its matrix.

    Raises:
        ModelLoadError: A pair has no matrix, or one of another shape.
    """
    # A tied output layer can be adapted alone.
    plan = replace(checkpoint.plan, tied=False)
    shapes = {name: (pair.up.shape[0], pair.down.shape[1]) for name, pair in file.pairs.items()}
    places = Places(family.layouts[file.source], plan, shapes)
    wanted, used = plan.tensors(), set()
    turns = family.pairs_channels and file.source != checkpoint.source
    for name, stored in places.find():
        if stored is None:
            continue
        if name in _UNREAD:
            raise ModelLoadError(
                f"{file.path} adapts the embedding, {names([*stored.names])}, which llmchat cannot do."
            )
        # Whichever way the matrix lies in the base's file, the pair is of rows and columns.
        needed = replace(stored, transposed=False).shape_in_file(wanted[name])
        given = stored.names[0]
        if stored.stacked or len(wanted[name]) != 2:
            raise ModelLoadError(f"{file.path} adapts experts, {names([given])}, which llmchat cannot do.")
        if shapes[given] != needed:
            raise _mismatch(file, checkpoint, f"{names([given])} is for {shapes[given]}, not {needed}")
        used.add(given)
        pair = _part(file.pairs[given], stored)
        yield name, _turned(pair, plan, name, to_pairs=checkpoint.source == "gguf") if turns else pair
    if rest := shapes.keys() - used:
        raise _mismatch(file, checkpoint, f"there {'is' if len(rest) == 1 else 'are'} no {names([*rest])} to adapt")


def _mismatch(file: AdapterFile, checkpoint: Checkpoint, what: str) -> ModelLoadError:
    made_for = f" (it was made for {file.made_for[:80]})" if file.made_for and file.source == "config" else ""
    return ModelLoadError(f"{file.path} is an adapter for another model than {checkpoint.name}{made_for}: {what}.")


def _part(pair: LowRank, stored: Stored) -> LowRank:
    """What a parameter has of a pair for the matrix in which it is joined with others."""
    return replace(pair, up=rows_of(pair.up, stored)) if stored.group else pair


def _turned(pair: LowRank, plan: ModelPlan, name: str, *, to_pairs: bool) -> LowRank:
    """The pair of queries or keys with its rows in the other order: two halves of a head, or pairs of channels."""
    part = name.rpartition(".attention.")[2]
    if part not in ("q_proj.weight", "k_proj.weight"):
        return pair
    half = plan.layers[0].attention.head_dim // 2
    data = pair.up.data
    order = (-1, 2, half) if to_pairs else (-1, half, 2)
    turned = np.ascontiguousarray(data.reshape(*order, data.shape[-1]).swapaxes(1, 2)).reshape(data.shape)
    return replace(pair, up=RawTensor(pair.up.kind, pair.up.shape, turned))
