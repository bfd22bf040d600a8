"""Marks in the text: where a setting changed while a reply was written.

A mark travels through the Markdown parser as one private character, which the
layout replaces by a chip. Sanitised text holds none of these characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmchat.ui.rendering.line import Look, Span

Marks = Sequence[tuple[int, str]]

_FIRST = 0xF0000
_LIMIT = 0xFFF0
SENTINEL = re.compile("[\U000f0000-\U000ffff0]")

# Markup at the start of a line, lines that are nothing but markup, and what must not be torn within a line.
_LINE_MARKUP = re.compile(r"[ \t]*(?:(?:[-*+]|#{1,6}|\d{1,9}[.)])[ \t]+|>[ \t]?)*(?:\|[ \t]*)?")
_MARKUP_ONLY = re.compile(r"[ \t>]*(?:(?:```|~~~).*|[\s|:=~*_+>#-]*)")
_UNBREAKABLE = re.compile(r"\]\([^)\n]*\)|<[^<>\s]+>|&#?\w+;|\\.|([*_`~\[\]!])\1*")


def insert_sentinels(source: str, offsets: Sequence[int], first: int, *, markdown: bool) -> str:
    """Put a private character at each offset, moved on where it would tear markup apart.

    Args:
        source: Sanitised text of one block.
        offsets: Ascending offsets into the source.
        first: The number of the first mark.
        markdown: Whether the source is Markdown.
    """
    for number in range(len(offsets) - 1, -1, -1):
        at: int | None = min(offsets[number], len(source))
        if markdown and source.strip():
            at = _safe_offset(source, offsets[number])
        if at is None:
            continue
        source = f"{source[:at]}{chr(_FIRST + (first + number) % _LIMIT)}{source[at:]}"
    return source


def _safe_offset(source: str, at: int) -> int | None:
    """The nearest place for a mark where it tears nothing; None if there is only markup."""
    line = _text_line(source, at)
    if line is None:
        return None
    start, stop = line
    at = max(start, min(at, stop))
    markup = _LINE_MARKUP.match(source, start, stop)
    if markup and at < markup.end():
        return markup.end()
    for whole in _UNBREAKABLE.finditer(source, start, stop):
        if whole.start() < at < whole.end():
            at = whole.end()
    # After the bar that ends a row of a table there would be one more cell.
    return stop - 1 if at == stop and source[stop - 1] == "|" else at


def _text_line(source: str, at: int) -> tuple[int, int] | None:
    """The first line from an offset on that holds text, or else the last one before it."""
    before: tuple[int, int] | None = None
    start = 0
    for line in source.split("\n"):
        stop = start + len(line)
        if not _MARKUP_ONLY.fullmatch(line):
            before = start, start + len(line.rstrip())
            if stop >= at:
                return before
        start = stop + 1
    return before


class Chips:
    """The chips of one block, and which of them have found their place."""

    def __init__(self, labels: Sequence[str] = (), first: int = 0) -> None:
        self._labels = dict(enumerate(labels, first))
        self._placed: set[int] = set()

    def place(self, text: str, look: Look) -> list[Span]:
        """Split a text at its private characters and put the chips there."""
        if not self._labels:
            return [Span(text, look)]
        spans: list[Span] = []
        position = 0
        for match in SENTINEL.finditer(text):
            number = ord(match.group()) - _FIRST
            before, position = text[position : match.start()], match.end()
            spans.append(Span(before, look))
            if number in self._labels and number not in self._placed:
                self._placed.add(number)
                after = text[position : position + 1]
                previous = text[match.start() - 1 : match.start()]
                spans.append(Span(" " if previous.strip() else "", ("chip",)))
                spans.append(chip(self._labels[number]))
                spans.append(Span(" " if after.strip() else "", ("chip",)))
        spans.append(Span(text[position:], look))
        return [span for span in spans if span.text]

    def lost(self) -> list[Span]:
        """Chips whose place was not drawn, such as inside the address of a link."""
        return [chip(label) for number, label in self._labels.items() if number not in self._placed]


def chip(label: str) -> Span:
    """A bordered label in the text. It stays in one piece where it fits the width."""
    return Span(f"▏{label}▕".replace(" ", "\u00a0"), ("chip", "change"))


def without_sentinels(text: str) -> str:
    """The text without private characters."""
    return SENTINEL.sub("", text)
