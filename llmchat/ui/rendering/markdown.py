"""Block Markdown: parsed nodes in, lines out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from llmchat.ui.rendering.code import highlight
from llmchat.ui.rendering.inline import MAX_NESTING, PARSER, inline_spans, sanitize_keeping_marks
from llmchat.ui.rendering.line import Line, Look, Span, crop, prefixed
from llmchat.ui.rendering.marks import SENTINEL, Chips, without_sentinels
from llmchat.ui.rendering.table import lay_out_table
from llmchat.ui.rendering.wrap import wrap_spans

NARROWEST = 16
"""Cells; nested blocks stop moving right when less than this is left for text."""
BULLETS = "•◦▪"

_SPACED = frozenset({"heading", "fence", "code_block", "table", "hr", "blockquote"})
_BLANK = re.compile(r"[\s>]*")


def parse_blocks(source: str) -> list[Token]:
    """The block tokens of sanitised Markdown, with unparsed inline content."""
    tokens: list[Token] = []
    PARSER.block.parse(source, PARSER, {}, tokens)
    return tokens


def needs_gap(before: str, after: str, blank_between: bool) -> bool:
    """Whether an empty row stands between two blocks, given their node types."""
    return blank_between or before in _SPACED or after in _SPACED


class MarkdownLayout:
    """Lays out the blocks of one source text."""

    def __init__(self, source: str, chips: Chips) -> None:
        self._source_lines = source.split("\n")
        self._chips = chips

    def lay_out(self, tokens: Sequence[Token], width: int) -> list[Line]:
        """The lines of a run of block tokens.

        Args:
            tokens: Complete blocks, with maps into the source.
            width: Cells per line.
        """
        if any(token.level >= MAX_NESTING - 1 for token in tokens):
            return self._plain(tokens, width)
        lines = self._blocks(SyntaxTreeNode(tokens).children, width, ())
        if lost := self._chips.lost():
            lines += wrap_spans(lost, width)
        return lines

    def _plain(self, tokens: Sequence[Token], width: int) -> list[Line]:
        ranges = [token.map for token in tokens if token.map]
        first, last = min(start for start, _ in ranges), max(end for _, end in ranges)
        source = "\n".join(self._source_lines[first:last]).expandtabs(4)
        return wrap_spans(self._chips.place(source, ()), width)

    def _blocks(self, nodes: Iterable[SyntaxTreeNode], width: int, look: Look) -> list[Line]:
        lines: list[Line] = []
        before: SyntaxTreeNode | None = None
        for node in nodes:
            if before is not None and needs_gap(before.type, node.type, self._blank_before(node)):
                lines.append(Line())
            lines += self._block(node, width, look)
            before = node
        return lines

    def _blank_before(self, node: SyntaxTreeNode) -> bool:
        first = node.map[0] if node.map else 0
        return first > 0 and bool(_BLANK.fullmatch(self._source_lines[first - 1]))

    def _block(self, node: SyntaxTreeNode, width: int, look: Look) -> list[Line]:
        match node.type:
            case "heading":
                return self._heading(node, width, look)
            case "bullet_list" | "ordered_list":
                return self._list(node, width, look)
            case "blockquote":
                return self._quote(node, width, look)
            case "fence" | "code_block":
                return self._code(node, width)
            case "hr":
                return [Line((Span("─" * width, ("rule",)),))]
            case "table":
                return lay_out_table(node, width, self._chips, look)
            case _:
                return wrap_spans(inline_spans(_inline_source(node), self._chips, look), width)

    def _heading(self, node: SyntaxTreeNode, width: int, look: Look) -> list[Line]:
        look = (*look, "heading", f"heading-{min(int(node.tag[1:]), 3)}")
        return wrap_spans(inline_spans(_inline_source(node), self._chips, look), width)

    def _list(self, node: SyntaxTreeNode, width: int, look: Look) -> list[Line]:
        depth = sum(kind == "bullet_list" for kind in _ancestors(node))
        first = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else 0
        number_width = len(str(first + len(node.children) - 1))
        lines: list[Line] = []
        for number, item in enumerate(node.children, first):
            bullet = BULLETS[min(depth, 2)] if node.type == "bullet_list" else f"{number:>{number_width}}."
            if lines and self._blank_before(item):
                lines.append(Line())
            lines += self._item(item, bullet, width, look)
        return lines

    def _item(self, item: SyntaxTreeNode, bullet: str, width: int, look: Look) -> list[Line]:
        nested = any(kind == "list_item" for kind in _ancestors(item))
        margin = 0 if nested or width < 2 * NARROWEST else 2
        indent = margin + len(bullet) + 1
        inner = width - indent
        if inner < NARROWEST:
            margin, indent, inner = 0, 0, max(width - len(bullet) - 1, 2)
        content = self._blocks(item.children, inner, look) or [Line()]
        first = (Span(" " * margin, ("indent",)), Span(f"{bullet} ", (*look, "bullet")))
        return list(prefixed(content, first, (Span(" " * indent, ("indent",)),)))

    def _quote(self, node: SyntaxTreeNode, width: int, look: Look) -> list[Line]:
        look = (*look, "quote")
        if width - 2 < NARROWEST:
            return self._blocks(node.children, width, look)
        bar = (Span("▎ ", ("gutter", "quote-bar")),)
        return list(prefixed(self._blocks(node.children, width - 2, look), bar, bar))

    def _code(self, node: SyntaxTreeNode, width: int) -> list[Line]:
        language = crop(sanitize_keeping_marks(without_sentinels(node.info)).split(" ")[0].strip(), width - 2)
        pad = (Span("▏", ("gutter", "code-block", "rule")),)
        lines: list[Line] = []
        if language:
            label = Span(language, ("code-block", "code-label", "gutter"))
            lines.append(Line((*pad, label), fill=("code-block",), body=False))
        for spans in self._code_spans(node.content.removesuffix("\n"), language):
            rows = wrap_spans(spans, width - 2, fill=("code-block",))
            lines += prefixed(rows, pad, pad)
        return lines

    def _code_spans(self, code: str, language: str) -> list[list[Span]]:
        code = code.expandtabs(4)
        lines = highlight(without_sentinels(code), language.lower())
        if not SENTINEL.search(code):
            return lines
        return [
            self._with_chips(spans, marked) if SENTINEL.search(marked) else spans
            for spans, marked in zip(lines, code.split("\n"), strict=True)
        ]

    def _with_chips(self, spans: list[Span], marked: str) -> list[Span]:
        """Put the chips of a line of code back where its marked text has them."""
        result: list[Span] = []
        position = 0
        for text, look in spans:
            piece = ""
            while len(without_sentinels(piece)) < len(text):
                piece += marked[position]
                position += 1
            result += self._chips.place(piece, look)
        return result + self._chips.place(marked[position:], ("code-block",))


def _inline_source(node: SyntaxTreeNode) -> str:
    return "".join(child.content for child in node.children if child.type == "inline")


def _ancestors(node: SyntaxTreeNode) -> Iterator[str]:
    """The types of the nodes around a node, from the inside out."""
    parent = node.parent
    while parent is not None:
        yield parent.type
        parent = parent.parent
