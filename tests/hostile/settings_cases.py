"""The settings file."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from llmchat.settings import Settings, load_settings, render_settings, save_settings
from tests.hostile.damage import damaged_text
from tests.hostile.formats import Untrue
from tests.hostile.trees import damaged_tree, strange_value, toml_text

_NAME = "settings.toml"


@cache
def _tree() -> dict[str, Any]:
    generation: dict[str, Any] = {
        "temperature": 0.7,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
        "seed": 7,
        "stop": ["\n", "User:"],
        "do_sample": True,
        "max_new_tokens": 64,
        "min_new_tokens": 2,
        "banned_tokens": "1 2 3",
        "dry_multiplier": 0.8,
        "dry_breakers": ["\n"],
        "temperature_last": True,
        "sampler_order": "penalties dry top_n_sigma temperature top_k top_p min_p typical_p xtc",
        "mirostat_tau": 5.0,
        "repetition_penalty": 1.2,
    }
    keys = {"sidebar": "ctrl+b,f3", "quit": "ctrl+q"}
    text = render_settings(
        Settings(model="tiny", threads=2, heads=4, system="Be brief.", preset="Creative", generation=generation)
    )
    return {**tomllib.loads(text), "device": "cpu", "dtype": "float32", "theme": "day", "raw": True, "keys": keys}


def sound(place: Path) -> None:
    """Settings that are read."""
    (place / _NAME).write_text(toml_text(_tree()))


def write(rng: Random, place: Path) -> None:
    """Settings that are damaged, or whose values are others."""
    tree = damaged_tree(rng, _tree(), toml=True)
    if not isinstance(tree, dict):
        tree = {"model": tree}
    if rng.random() < 0.3:
        section = rng.choice((tree, tree.get("generation", {}), tree.get("keys", {})))
        if isinstance(section, dict) and section:
            section[rng.choice(list(section))] = strange_value(rng, toml=True)
    text = toml_text(tree)
    if rng.random() < 0.2:
        lines = text.split("\n")
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines.insert(at, lines[other])
        text = rng.choice(("\n", "\r\n", "\r")).join(lines)
    (place / _NAME).write_bytes(damaged_text(rng, text))


def attempt(place: Path) -> None:
    """Read them, and what was read is the same when it is saved and read again."""
    settings = load_settings(place / _NAME)
    settings.model_spec()
    settings.check_keys(settings.keys)
    save_settings(settings, place / "saved.toml")
    if load_settings(place / "saved.toml") != settings:
        raise Untrue("settings that were saved are others")
