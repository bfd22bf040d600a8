"""Inline Markdown: emphasis, code, links and line breaks, as spans."""

from __future__ import annotations

import re
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

from llmchat.chat.plain_text import visible as sanitize
from llmchat.ui.rendering.line import Look, Span
from llmchat.ui.rendering.marks import Chips, without_sentinels

LONGEST_PARAGRAPH = 20_000
"""Characters; a longer paragraph shows its markup as it is, since parsing could take long."""

MAX_NESTING = 60
"""Levels of lists and quotes; a block nested more deeply is shown as plain text."""


def make_parser() -> MarkdownIt:
    """The Markdown dialect of the transcript: CommonMark with tables and strike-through.

    HTML is text. Link definitions are off, so that each block stands for itself.
    """
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
    return parser.enable(["table", "strikethrough"]).disable("reference")


PARSER = make_parser()

_ENCODED_SENTINEL = re.compile("%F3%B[0-9A-F](?:%[89AB][0-9A-F]){2}")
_OPENING = {"strong_open": "strong", "em_open": "emphasis", "s_open": "strike", "link_open": "link"}


def inline_spans(source: str, chips: Chips, look: Look = ()) -> list[Span]:
    """Lay out inline Markdown as one paragraph.

    Line breaks of the source stay line breaks: models write verse and addresses
    without Markdown's two blanks.

    Args:
        source: The sanitised source of the paragraph.
        chips: Marks whose private characters may stand in the source.
        look: The look of plain text.
    """
    return [piece for span in _parsed(source, look) for piece in chips.place(*span)]


# The items of a growing list are read again and again.
@lru_cache(maxsize=1024)
def _parsed(source: str, look: Look) -> tuple[Span, ...]:
    if len(source) > LONGEST_PARAGRAPH:
        return (Span(_flat(source), look),)
    spans: list[Span] = []
    for token in PARSER.parseInline(source):
        _add_tokens(token.children or [], look, spans)
    return tuple(spans)


def _flat(text: str) -> str:
    return text.replace("\t", "    ")


def _add_tokens(tokens: list[Token], look: Look, spans: list[Span]) -> None:
    looks: list[Look] = [look]
    links: list[tuple[str, int]] = []
    for token in tokens:
        if name := _OPENING.get(token.type):
            looks.append((*looks[-1], name))
            if name == "link":
                links.append((str(token.attrs.get("href", "")), len(spans)))
        elif token.nesting < 0 and len(looks) > 1:
            looks.pop()
            if token.type == "link_close" and links:
                _add_address(*links.pop(), looks[-1], spans)
        elif token.type in ("softbreak", "hardbreak"):
            spans.append(Span("\n", looks[-1]))
        elif token.type == "code_inline":
            spans.append(Span(_flat(token.content), (*looks[-1], "code")))
        elif token.type == "image":
            spans.append(Span(f"[image: {_entity_safe(token.content)}]", (*looks[-1], "link")))
            _add_address(str(token.attrs.get("src", "")), len(spans), looks[-1], spans)
        else:
            spans.append(Span(_entity_safe(token.content), looks[-1]))


def _entity_safe(text: str) -> str:
    """Character references such as `&#x202e;` bring back what sanitising took out."""
    return _flat(sanitize_keeping_marks(text).replace("\n", " "))


def sanitize_keeping_marks(text: str) -> str:
    """Sanitise a text that may hold the private characters of marks."""
    kept = without_sentinels(text)
    if len(kept) == len(text):
        return sanitize(text)
    clean = iter(sanitize(kept))
    return "".join(character if 0xF0000 <= ord(character) <= 0xFFFF0 else next(clean) for character in text)


def _add_address(address: str, since: int, look: Look, spans: list[Span]) -> None:
    address = sanitize(_ENCODED_SENTINEL.sub("", without_sentinels(address)))
    shown = without_sentinels("".join(span.text for span in spans[since:]))
    if address and address not in (shown, f"mailto:{shown}"):
        spans.append(Span(f" ({address})", (*look, "address")))
