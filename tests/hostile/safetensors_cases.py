"""Hugging Face directories whose weights are damaged: the header's JSON, its length, the index, the bytes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.hostile.damage import EXTREMES, damaged, damaged_text
from tests.hostile.opened import DATA, converse
from tests.hostile.trees import damaged_tree, json_text

KINDS = ("llama", "mistral", "qwen2", "qwen3")
_INDEX = "model.safetensors.index.json"
_TYPES = ("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "I32", "f32", "")


@cache
def files_of(kind: str) -> dict[str, bytes]:
    """The files of a small sound model."""
    return {
        path.name: path.read_bytes()
        for path in sorted((DATA / "huggingface" / kind).iterdir())
        if path.suffix != ".npy"
    }


def sound(place: Path) -> None:
    """A model that opens."""
    _write(place, files_of("mistral"))


def write(rng: Random, place: Path) -> None:
    """A model whose weights are damaged."""
    files = dict(files_of(rng.choice(KINDS)))
    names = [name for name in files if name.endswith(".safetensors")]
    for name in rng.sample(names, min(len(names), rng.choice((1, 1, 2)))):
        files[name] = _damaged(rng, files[name])
    if _INDEX in files and rng.random() < 0.5:
        files[_INDEX] = damaged_text(rng, json_text(damaged_tree(rng, json.loads(files[_INDEX]))))
    if rng.random() < 0.03:
        del files[rng.choice(names)]
    _write(place, files)


def _write(place: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (place / name).write_bytes(data)


def _damaged(rng: Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    match rng.randrange(8):
        case 0:
            return damaged(rng, data, within=rng.choice((16, 8 + length, None)))
        case 1:
            return (rng.choice(EXTREMES) % 2**64).to_bytes(8, "little") + header + body
        case 2:
            header = damaged_text(rng, json_text(damaged_tree(rng, json.loads(header))))
        case 3:
            body = damaged(rng, body)
        case _:
            header = damaged_text(rng, json_text(_redescribed(rng, json.loads(header))))
    return len(header).to_bytes(8, "little") + header + body


def _redescribed(rng: Random, header: dict[str, Any]) -> dict[str, Any]:
    """The header with tensors that claim other types, shapes and places."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice([key for key in header if key != "__metadata__"])
        tensor = header[name]
        match rng.randrange(8):
            case 0:
                tensor["dtype"] = rng.choice(_TYPES)
            case 1:
                tensor["shape"] = [
                    rng.choice((0, 1, 2, 16, 63, 64, 65, -1, *EXTREMES)) for _ in range(rng.randrange(5))
                ]
            case 2:
                tensor["shape"] = tensor["shape"][::-1] + rng.choice(([], [1], [0]))
            case 3:
                tensor["data_offsets"] = sorted(rng.choice((0, 4, 64, 4096, *EXTREMES)) for _ in range(2))[
                    :: rng.choice((1, -1))
                ]
            case 4:
                other = rng.choice([key for key in header if key != "__metadata__"])
                tensor["data_offsets"] = list(header[other]["data_offsets"])
            case 5:
                tensor["data_offsets"] = [place + rng.choice((-8, -1, 1, 4)) for place in tensor["data_offsets"]]
            case 6:
                header[
                    rng.choice(
                        ("model.layers.99999999999.mlp.up_proj.weight", "", "model.embed_tokens.weight", name * 500)
                    )
                ] = tensor
            case _:
                tensor["shape"], tensor["data_offsets"] = [0, *tensor["shape"]], [0, 0]
    return header


def attempt(place: Path) -> None:
    """Open it and let it answer."""
    converse(place)
