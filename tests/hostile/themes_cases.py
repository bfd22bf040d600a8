"""Theme files."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from llmchat.themes import load_theme, load_themes, shipped_dir
from tests.hostile.damage import damaged_text
from tests.hostile.trees import damaged_tree, toml_text

_NAME = "mine.toml"
_COLORS = (
    "#fff",
    "#12345678",
    "#zzzzzz",
    "red",
    "ansi_red",
    "ansi_bright_white",
    "rgb(1,2,3)",
    "rgba(1,2,3,9e999)",
    "hsl(999999999,1%,1%)",
    "rgb(999999999999,0,0)",
    "auto",
    "auto 60%",
    "transparent",
    "auto 99999999999999999999%",
    "#7aa2f7 10%",
    "$primary",
    "",
    "rgb(" + "1" * 5000 + ",0,0)",
    "hsl(0," + "9" * 400 + "%,0%)",
    "rgba(1,2,3,nan)",
    "ansi_default",
    "red 50%",
    "#٣٣٣",
    "auto ٣%",
)


@cache
def _trees() -> list[dict[str, Any]]:
    return [tomllib.loads(path.read_text()) for path in sorted(shipped_dir().glob("*.toml"))]


def sound(place: Path) -> None:
    """A theme that is read."""
    (place / _NAME).write_text(toml_text(_trees()[0]))


def write(rng: Random, place: Path) -> None:
    """A theme with strange colours, names and variables."""
    tree: Any = deepcopy(rng.choice(_trees()))
    if rng.random() < 0.5:
        tree = damaged_tree(rng, tree, toml=True)
    if not isinstance(tree, dict):
        tree = {"primary": tree}
    for _ in range(rng.choice((0, 1, 1, 3))):
        section = rng.choice((tree, tree.get("variables")))
        if isinstance(section, dict):
            known = [
                *section,
                "border-blurred",
                "text-muted",
                "link-style",
                "scrollbar",
                "footer-background",
                "input-cursor-background",
                "name",
            ]
            section[rng.choice(known)] = rng.choice(_COLORS)
    (place / _NAME).write_bytes(damaged_text(rng, toml_text(tree)))


def attempt(place: Path) -> None:
    """Read it alone and in the list of all, and work out every colour of the window."""
    load_themes(place)
    theme = load_theme(place / _NAME)
    colors = {**theme.to_color_system().generate(), **theme.variables}
    _parse(colors)


def _parse(colors: dict[str, str]) -> None:
    from textual.css.stylesheet import Stylesheet

    sheet = Stylesheet(variables=colors)
    sheet.add_source(
        "Screen { background: $background; color: $foreground; } .a { color: $user; background: $change-background; }"
    )
    sheet.parse()
