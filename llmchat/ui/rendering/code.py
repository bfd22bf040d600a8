"""Syntax colours for fenced code."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Token
from pygments.util import ClassNotFound

from llmchat.ui.rendering.line import Span

TokenType = Any
"""Pygments' type of a token: a tuple of names with a `parent`."""

SECTION_LINES = 30
"""Long code is coloured in sections, so that a growing block costs only its last one."""
LONGEST_SECTION = 200
LONGEST_LINE = 2_000
"""Characters; code with a longer line stays plain."""

_LOOKS: dict[TokenType, str] = {
    Token.Comment: "code-comment",
    Token.Keyword: "code-keyword",
    Token.Operator.Word: "code-keyword",
    Token.Literal.String: "code-string",
    Token.Literal.Number: "code-number",
    Token.Keyword.Constant: "code-number",
    Token.Name.Function: "code-name",
    Token.Name.Class: "code-name",
    Token.Name.Decorator: "code-name",
    Token.Name.Attribute: "code-name",
    Token.Name.Tag: "code-keyword",
    Token.Name.Builtin: "code-builtin",
    Token.Generic.Inserted: "code-string",
    Token.Generic.Deleted: "code-number",
    Token.Generic.Heading: "code-name",
    Token.Generic.Subheading: "code-name",
}


def highlight(code: str, language: str) -> list[list[Span]]:
    """Colour code.

    Args:
        code: The code, sanitised, without a closing line feed.
        language: A name that Pygments knows; anything else leaves the code plain.

    Returns:
        The spans of each line of the code, in looks that begin with `code-block`.
    """
    lines = code.split("\n")
    if _lexer(language) is None or max(map(len, lines)) > LONGEST_LINE:
        return [[Span(line, ("code-block",))] for line in lines]
    return [spans for section in _sections(lines) for spans in _section(section, language)]


def _sections(lines: list[str]) -> Iterator[str]:
    """Cut before a line that follows an empty one and is not indented: mostly a new statement."""
    start = 0
    for number in range(1, len(lines)):
        size = number - start
        fresh = not lines[number - 1].strip() and lines[number][:1].strip()
        if (size >= SECTION_LINES and fresh) or size >= LONGEST_SECTION:
            yield "\n".join(lines[start:number])
            start = number
    yield "\n".join(lines[start:])


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    if not language:
        return None
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=256)
def _section(code: str, language: str) -> list[list[Span]]:
    lexer = _lexer(language)
    lines: list[list[Span]] = [[]]
    for kind, text in lexer.get_tokens(code) if lexer else ():
        look = ("code-block", *_look(kind))
        first, *others = text.split("\n")
        lines[-1].append(Span(first, look))
        lines.extend([Span(other, look)] for other in others)
    return [[span for span in line if span.text] for line in lines]


@lru_cache(maxsize=512)
def _look(kind: TokenType) -> tuple[str, ...]:
    token: TokenType | None = kind
    while token is not None:
        if token in _LOOKS:
            return (_LOOKS[token],)
        token = token.parent
    return ()
