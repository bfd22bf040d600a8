"""As much of a line as there is room for."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len


def fitting(parts: Iterable[str], width: int) -> str:
    """The first parts, with dots between them, that fit into `width` cells together; the first in any case."""
    first, *others = parts
    line = first
    for part in others:
        longer = f"{line} · {part}"
        if cell_len(longer) > width:
            break
        line = longer
    return line
