"""The JSON files beside a model: Hugging Face's, and what llmbuilder writes."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from random import Random

from tests.hostile.damage import damaged_text
from tests.hostile.opened import DATA, converse
from tests.hostile.safetensors_cases import KINDS, files_of
from tests.hostile.trees import damaged_tree, json_text

_LLMBUILDER = DATA / "llmbuilder-formats"
_TOKENIZER = _LLMBUILDER / "1.0.0" / "tok_hf"
_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
_MORE_SETTINGS = {
    "special_tokens_map.json": {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "lstrip": False},
        "unk_token": "<unk>",
    },
    "rope": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}


def sound(place: Path) -> None:
    """A model that opens."""
    for name, data in files_of("llama").items():
        (place / name).write_bytes(data)


def write(rng: Random, place: Path) -> None:
    """A model that is described wrongly."""
    if rng.random() < 0.25:
        _write_llmbuilder(rng, place)
        return
    files = dict(files_of(rng.choice(KINDS)))
    trees = {name: json.loads(files[name]) for name in _SETTINGS if name in files}
    trees["special_tokens_map.json"] = _MORE_SETTINGS["special_tokens_map.json"]
    if rng.random() < 0.3:
        trees["config.json"]["rope_scaling"] = _MORE_SETTINGS["rope"]
        trees["config.json"].pop("rope_parameters", None)
    for name in {rng.choice(("config.json", *trees)) for _ in range(rng.choice((1, 1, 2)))}:
        files[name] = damaged_text(rng, json_text(damaged_tree(rng, trees[name])))
    for name, data in files.items():
        (place / name).write_bytes(data)


@cache
def _llmbuilder_models() -> list[tuple[Path, dict[str, Path]]]:
    model = _LLMBUILDER / "2.0.0" / "quant" / "int8.pt"
    metadata = {"int8.metadata.json": model.with_name("int8.metadata.json")}
    trained = _LLMBUILDER / "1.0.0" / "simple_transformer" / "latest.pt"
    return [(model, metadata), (trained, {"config.json": _LLMBUILDER / "1.0.0" / "trainer" / "config.json"})]


def _write_llmbuilder(rng: Random, place: Path) -> None:
    model, described = rng.choice(_llmbuilder_models())
    (place / model.name).symlink_to(model)
    for path in (_TOKENIZER / "tokenizer.json", _TOKENIZER / "tokenizer_config.json"):
        shutil.copyfile(path, place / path.name)
    damaged_names = {rng.choice((*described, *described, "tokenizer_config.json"))}
    for name, path in {**described, "tokenizer_config.json": _TOKENIZER / "tokenizer_config.json"}.items():
        tree = json.loads(path.read_text())
        if name in damaged_names:
            (place / name).write_bytes(damaged_text(rng, json_text(damaged_tree(rng, tree))))
        else:
            (place / name).write_text(json.dumps(tree))


def attempt(place: Path) -> None:
    """Open it and let it answer."""
    found = next(place.glob("*.pt"), None)
    converse(place if found is None else found)
