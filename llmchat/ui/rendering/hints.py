"""Lines that say what keys do, each hint a place to click that does as its key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from textual.content import Content
from textual.style import Style

from llmchat.ui.keys import key_named

_KEY = re.compile(
    r"(?<!\S) (?: \^\S+ | F\d{1,2} | Esc | Enter | Tab | Space | Backspace | Home | End | PgUp | PgDn | [←→↑↓] ) (?!\S)"
    r"| \A [A-Za-z] (?=\s)",
    re.VERBOSE,
)
_BETWEEN = " · "


def action_style(action: str) -> Style:
    """The style of words that do something when they are clicked, to be added to their looks."""
    return Style.from_meta({"@click": action})


def clickable(line: str) -> Content:
    """A line of hints such as "F2 saves · Esc leaves": a click on one presses the key that it begins with."""
    parts = [Content.assemble(*_hint(hint)) for hint in line.split(_BETWEEN)]
    return Content(_BETWEEN).join(parts)


def _hint(hint: str) -> Iterator[tuple[str, Style]]:
    """The pieces of a hint, cut before each of its keys."""
    keys = list(_KEY.finditer(hint))
    starts = [key.start() for key in keys] + [len(hint)]
    yield hint[: starts[0]], Style.null()
    for key, (start, end) in zip(keys, pairwise(starts), strict=True):
        yield hint[start:end], action_style(f"app.press_key({key_named(key[0])!r})")
