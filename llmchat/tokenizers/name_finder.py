"""Finding the names of tokens in a text, however many there are: some vocabularies have thousands."""

from __future__ import annotations

import re
from collections.abc import Iterable


class NameFinder:
    """Cuts texts at names; of names that begin at the same place the longest counts."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name for name in names if name}
        lengths: dict[str, set[int]] = {}
        for name in self._names:
            lengths.setdefault(name[0], set()).add(len(name))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        self._first = re.compile(f"[{re.escape(''.join(sorted(self._lengths)))}]") if self._names else None

    def split(self, text: str) -> list[str]:
        """The text in parts, joined they are the text: every second one is a name."""
        parts: list[str] = []
        start = at = 0
        while self._first is not None and (found := self._first.search(text, at)) is not None:
            at = found.start()
            name = self._name_at(text, at)
            if name:
                parts += [text[start:at], name]
                start = at = at + len(name)
            else:
                at += 1
        return [*parts, text[start:]]

    def _name_at(self, text: str, at: int) -> str:
        named = (text[at : at + length] for length in self._lengths[text[at]])
        return next((name for name in named if name in self._names), "")
