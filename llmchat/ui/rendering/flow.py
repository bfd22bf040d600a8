"""A text that may grow, laid out so that growing it costs only its last block.

The lines of a text are the same whether it came at once or in pieces.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it.token import Token

from llmchat.chat.plain_text import visible as sanitize
from llmchat.ui.rendering.line import Line
from llmchat.ui.rendering.markdown import MarkdownLayout, needs_gap, parse_blocks
from llmchat.ui.rendering.marks import Chips, Marks, insert_sentinels
from llmchat.ui.rendering.wrap import wrap_spans


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of the text that is laid out by itself."""

    start: int
    end: int
    """Offsets into the part of the text that is not frozen."""
    stable: bool
    """Whether no later text can change the piece."""
    tokens: tuple[Token, ...] = ()


class Flow(ABC):
    """The lines of one text. `update` again with a longer text to let it grow."""

    def __init__(self, width: int) -> None:
        self.lines: list[Line] = []
        self._width = width
        self._frozen_text = ""
        self._frozen_marks: tuple[tuple[int, str], ...] = ()
        self._frozen_lines = 0

    def update(self, text: str, marks: Marks = ()) -> int:
        """Lay out a text.

        Args:
            text: All of the text, as it came.
            marks: Offsets into the text, ascending, and labels.

        Returns:
            The index of the first line that may have changed.
        """
        frozen = len(self._frozen_text)
        if not text.startswith(self._frozen_text) or self._marks_before(marks, frozen) != self._frozen_marks:
            self._reset()
            frozen = 0
        first_changed = self._frozen_lines
        del self.lines[first_changed:]
        tail = sanitize(text[frozen:])
        regions = self._split(tail)
        for region in regions:
            last = region is regions[-1]
            inside = [
                (number, offset - frozen - region.start, label)
                for number, (offset, label) in enumerate(marks)
                if region.start <= offset - frozen < region.end or (last and offset - frozen >= region.end)
            ]
            self._add_region(region, tail, inside)
            if region.stable:
                self._freeze(text[: frozen + region.end])
        self._frozen_marks = self._marks_before(marks, len(self._frozen_text))
        return first_changed

    def _add_region(self, region: Region, tail: str, marks: list[tuple[int, int, str]]) -> None:
        first = marks[0][0] if marks else 0
        chips = Chips([label for _, _, label in marks], first)
        self._lay_out(region, tail, [offset for _, offset, _ in marks], first, chips)

    def _reset(self) -> None:
        self.lines.clear()
        self._frozen_text, self._frozen_marks, self._frozen_lines = "", (), 0

    @staticmethod
    def _marks_before(marks: Marks, offset: int) -> tuple[tuple[int, str], ...]:
        return tuple(mark for mark in marks if mark[0] < offset)

    def _freeze(self, text: str) -> None:
        """Keep the lines so far, which are those of `text`, for good."""
        self._frozen_lines, self._frozen_text = len(self.lines), text

    @abstractmethod
    def _split(self, tail: str) -> list[Region]:
        """Cut the part of the text that is not frozen into regions, without gaps."""

    @abstractmethod
    def _lay_out(self, region: Region, tail: str, offsets: Sequence[int], first: int, chips: Chips) -> None:
        """Append the lines of a region; `offsets` are those of its marks, numbered from `first`."""


class PlainFlow(Flow):
    """Text as it is: wrapped by words, every blank kept."""

    def _split(self, tail: str) -> list[Region]:
        cut = tail.rfind("\n") + 1
        complete = [Region(0, cut, stable=True)] if cut else []
        return [*complete, Region(cut, len(tail), stable=False)]

    def _lay_out(self, region: Region, tail: str, offsets: Sequence[int], first: int, chips: Chips) -> None:
        source = insert_sentinels(tail[region.start : region.end], offsets, first, markdown=False)
        if region.stable:
            source = source.removesuffix("\n")
        self.lines += wrap_spans(chips.place(source.expandtabs(4), ()), self._width)


class MarkdownFlow(Flow):
    """Markdown, one top-level block at a time."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self._before = self._frozen_before = _NOTHING

    def _reset(self) -> None:
        super()._reset()
        self._frozen_before = _NOTHING

    def _split(self, tail: str) -> list[Region]:
        self._before = self._frozen_before
        blocks = _top_level(parse_blocks(tail))
        offsets = _line_offsets(tail)
        complete_lines = len(offsets) - 1
        starts = [(block[0].map or [0])[0] for block in blocks]
        regions: list[Region] = []
        for index, block in enumerate(blocks):
            last = index + 1 == len(blocks)
            # Two complete lines of the next block settle what it is, and so that this one has ended.
            stable = not last and starts[index + 1] + 2 <= complete_lines
            begin = offsets[starts[index]] if index else 0
            end = len(tail) if last else offsets[starts[index + 1]]
            regions.append(Region(begin, end, stable, tuple(block)))
        return regions or [Region(0, len(tail), stable=False)]

    def _lay_out(self, region: Region, tail: str, offsets: Sequence[int], first: int, chips: Chips) -> None:
        source, tokens = tail, region.tokens
        if offsets:
            source = insert_sentinels(tail[region.start : region.end], offsets, first, markdown=True)
            tokens = tuple(parse_blocks(source))
        if not tokens:
            return
        kind = tokens[0].type.removesuffix("_open")
        if self._before.kind and needs_gap(self._before.kind, kind, self._before.blank_after):
            self.lines.append(Line())
        self.lines += MarkdownLayout(source, chips).lay_out(tokens, self._width)
        ending = tail[region.start : region.end]
        self._before = _Before(kind, ending[len(ending.rstrip()) :].count("\n") > 1)

    def _freeze(self, text: str) -> None:
        super()._freeze(text)
        self._frozen_before = self._before


@dataclass(frozen=True, slots=True)
class _Before:
    """What the gap before a block depends on."""

    kind: str
    """The node type of the block above; empty at the start."""
    blank_after: bool
    """Whether an empty line follows it in the source."""


_NOTHING = _Before("", False)


def _top_level(tokens: Sequence[Token]) -> list[list[Token]]:
    blocks: list[list[Token]] = []
    for token in tokens:
        if token.level == 0 and token.nesting >= 0:
            blocks.append([])
        blocks[-1].append(token)
    return blocks


def _line_offsets(text: str) -> list[int]:
    """Where each line begins; one entry more than there are line feeds."""
    offsets = [0]
    at = text.find("\n")
    while at >= 0:
        offsets.append(at + 1)
        at = text.find("\n", at + 1)
    return offsets
