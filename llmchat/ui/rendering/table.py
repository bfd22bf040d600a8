"""Tables: columns that fit the width, with wrapped cells."""

from __future__ import annotations

from typing import Literal

from markdown_it.tree import SyntaxTreeNode

from llmchat.ui.rendering.inline import inline_spans
from llmchat.ui.rendering.line import Line, Look, Span
from llmchat.ui.rendering.marks import Chips
from llmchat.ui.rendering.wrap import wrap_spans

SEPARATOR = " │ "
NARROWEST_COLUMN = 4

Alignment = Literal["left", "right", "center"]
Cell = list[Span]


def lay_out_table(node: SyntaxTreeNode, width: int, chips: Chips, look: Look) -> list[Line]:
    """Lay out a table node.

    Where the columns cannot be told apart in the width, each row becomes a list
    of "heading: value" lines.
    """
    rows = [row for part in node.children for row in part.children]
    cells = [
        [
            inline_spans("".join(child.content for child in cell.children), chips, _cell_look(number, look))
            for cell in row.children
        ]
        for number, row in enumerate(rows)
    ]
    alignments = [_alignment(cell) for cell in rows[0].children]
    columns = len(alignments)
    available = width - len(SEPARATOR) * (columns - 1)
    if available < columns * NARROWEST_COLUMN:
        return _records(cells, width)
    widths = fit_columns([max(_cells(row[index]) for row in cells) for index in range(columns)], available)
    lines: list[Line] = []
    for number, row in enumerate(cells):
        lines += _row(row, widths, alignments)
        if number == 0:
            rule = "─┼─".join("─" * column for column in widths)
            lines.append(Line((Span(rule, ("rule",)),)))
    return lines


def fit_columns(natural: list[int], available: int) -> list[int]:
    """Share a width among columns: narrow ones get what they need, wide ones share the rest.

    Args:
        natural: The width of each column's longest cell.
        available: Cells for all columns together.

    Returns:
        One width per column, none under `NARROWEST_COLUMN`.
    """
    natural = [max(column, NARROWEST_COLUMN) for column in natural]
    widths = list(natural)
    left, open_columns = available, sorted(range(len(natural)), key=lambda index: natural[index])
    while open_columns:
        index = open_columns.pop(0)
        widths[index] = min(natural[index], max(NARROWEST_COLUMN, left // (len(open_columns) + 1)))
        left -= widths[index]
    return widths


def _cell_look(row: int, look: Look) -> Look:
    return look if row else (*look, "table-header")


def _alignment(cell: SyntaxTreeNode) -> Alignment:
    style = str(cell.attrs.get("style", ""))
    if "right" in style:
        return "right"
    return "center" if "center" in style else "left"


def _cells(cell: Cell) -> int:
    return Line(tuple(cell)).cells


def _row(row: list[Cell], widths: list[int], alignments: list[Alignment]) -> list[Line]:
    columns = [wrap_spans(cell, width) for cell, width in zip(row, widths, strict=True)]
    height = max(len(column) for column in columns)
    lines: list[Line] = []
    for number in range(height):
        spans: list[Span] = []
        for index, column in enumerate(columns):
            if index:
                spans.append(Span(SEPARATOR, ("rule",)))
            line = column[number] if number < len(column) else Line()
            spans += _aligned(line, widths[index], alignments[index])
        lines.append(Line(tuple(spans)))
    return lines


def _aligned(line: Line, width: int, alignment: Alignment) -> list[Span]:
    missing = max(0, width - line.cells)
    before = {"left": 0, "right": missing, "center": missing // 2}[alignment]
    return [Span(" " * before), *line.spans, Span(" " * (missing - before))]


def _records(cells: list[list[Cell]], width: int) -> list[Line]:
    header, *rows = cells
    lines: list[Line] = []
    for row in rows:
        if lines:
            lines.append(Line())
        for heading, cell in zip(header, row, strict=True):
            lines += wrap_spans([*heading, Span(": "), *cell], width)
    return lines or [line for heading in header for line in wrap_spans(heading, width)]
