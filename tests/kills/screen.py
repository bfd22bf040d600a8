"""What a terminal would show of a program's output, as far as the window uses a terminal."""

from __future__ import annotations

import re

from rich.cells import cell_len

_STEP = re.compile(
    r"\x1b\[(?P<numbers>[0-9;:?<>=]*)(?P<final>[ $]*[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1bP[^\x1b]*\x1b\\|\x1b[=>78]|\x1b\([A-Z0-9]"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f])|(?P<text>[^\x00-\x1f]+)"
)
_OPEN = re.compile(r"\x1b[^\x1b]{0,200}\Z")
"""The beginning of a sequence whose end may be still to come."""


class Screen:
    """Cells, and where the cursor is."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._rows = [[" "] * width for _ in range(height)]
        self._x = self._y = 0
        self._rest = ""

    @property
    def rows(self) -> list[str]:
        """The rows as text, without the blanks at their ends."""
        return ["".join(row).rstrip() for row in self._rows]

    @property
    def bare(self) -> str:
        """All that is shown, without blanks and line ends, so that it does not matter how text is wrapped."""
        return "".join("".join(self.rows).split())

    def feed(self, output: str) -> None:
        """Take in what the program wrote."""
        output = self._rest + output
        at = 0
        while at < len(output):
            found = _STEP.match(output, at)
            if found is None:
                if _OPEN.match(output, at):
                    break
                at += 1
                continue
            self._take(found)
            at = found.end()
        self._rest = output[at:]

    def _take(self, found: re.Match[str]) -> None:
        if (text := found["text"]) is not None:
            for character in text:
                self._put(character)
        elif (control := found["control"]) is not None:
            if control == "\n":
                self._y = min(self._y + 1, len(self._rows) - 1)
            elif control == "\r":
                self._x = 0
        elif found["final"] == "H":
            row, _, column = found["numbers"].partition(";")
            self._y = min(int(row or 1), len(self._rows)) - 1
            self._x = min(int(column or 1), self._width) - 1
        elif found["final"] == "J":
            self._rows = [[" "] * self._width for _ in self._rows]

    def _put(self, character: str) -> None:
        width = cell_len(character)
        if width and self._x < self._width:
            self._rows[self._y][self._x] = character
            if width == 2 and self._x + 1 < self._width:
                self._rows[self._y][self._x + 1] = ""
        self._x += width
