"""What is drawn over a reply's text about its tokens: heat, and the token in hand."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from llmchat.chat.turn import TokenFacts
from llmchat.ui.rendering.document import Entry
from llmchat.ui.rendering.heat import HeatMode, heat_level
from llmchat.ui.rendering.source_map import NOWHERE, SourceMap
from llmchat.ui.rendering.token_spans import TokenSpans

Piece = tuple[int, int, str]
"""From which drawn character of a row to which, and the look."""


class TokenLayer:
    """Maps drawn characters to tokens. Only turns whose tokens are shown cost anything."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Entry, _Tokens] = WeakKeyDictionary()

    def on_row(self, entry: Entry, row: int, in_hand: int | None) -> list[Piece]:
        """The looks to lay over a row of a turn.

        Args:
            entry: The turn.
            row: The row within it.
            in_hand: The token under the token cursor, if it is in this turn.
        """
        if not entry.block.facts:
            return []
        tokens = self._tokens(entry)
        pieces = tokens.heat_on(row) if entry.block.heat != "off" else []
        if in_hand is not None:
            pieces = [*pieces, *tokens.cursor_on(row, in_hand)]
        return pieces

    def token_at(self, entry: Entry, row: int, column: int) -> int | None:
        """The token that drew a character of a row; None if none did."""
        if not entry.block.facts:
            return None
        tokens = self._tokens(entry)
        offsets = tokens.source.row(row)
        offset = offsets[column] if 0 <= column < len(offsets) else -1
        return tokens.spans.token_at(offset) if offset >= 0 else None

    def rows_of(self, entry: Entry, token: int) -> range:
        """The rows of a turn that show something of a token; none if it is only markup, or behind the text."""
        if not entry.block.facts:
            return range(0)
        tokens = self._tokens(entry)
        if token >= tokens.spans.count:
            return range(0)
        return tokens.source.rows_of(*tokens.spans.characters(token))

    def _tokens(self, entry: Entry) -> _Tokens:
        tokens = self._known.get(entry)
        if tokens is None:
            tokens = self._known[entry] = _Tokens()
        tokens.update(entry)
        return tokens


class _Tokens:
    """The tokens of one turn, as it is laid out."""

    def __init__(self) -> None:
        self.source = SourceMap()
        self.spans = TokenSpans()
        self._version = -1
        self._facts: Sequence[TokenFacts] = ()
        self._mode: HeatMode = "off"
        self._heat: list[list[Piece]] = []
        """The runs of one class on each row, as far as they have been asked for."""

    def update(self, entry: Entry) -> None:
        """Take in what changed since the last time."""
        if self._version == entry.version:
            return
        self._version = entry.version
        block = entry.block
        written, thought = block.written, block.thought
        start = len(thought.written if block.folded or not thought.text else thought.opening)
        first_changed = self.source.update(written, entry.lines, start)
        self.spans.update(written, block.facts)
        if block.heat != self._mode or block.facts[:1] != self._facts[:1]:
            first_changed = 0
        self._facts, self._mode = block.facts, block.heat
        del self._heat[first_changed:]

    def heat_on(self, row: int) -> list[Piece]:
        """Runs of characters of one class."""
        while len(self._heat) <= row:
            self._heat.append(self._runs(self.source.row(len(self._heat))))
        return self._heat[row]

    def _runs(self, offsets: Sequence[int]) -> list[Piece]:
        pieces: list[Piece] = []
        start, level = 0, 0
        for column, offset in enumerate([*offsets, NOWHERE]):
            now = self._level(offset) if offset >= 0 else 0
            if now != level:
                if level:
                    pieces.append((start, column, f"heat-{level}"))
                start, level = column, now
        return pieces

    def _level(self, offset: int) -> int:
        """The class of a character: of the most surprising token that it holds a part of."""
        return max((heat_level(self._facts[token], self._mode) for token in self.spans.tokens_at(offset)), default=0)

    def cursor_on(self, row: int, token: int) -> list[Piece]:
        """The characters of a row that a token has a part in."""
        if token >= self.spans.count:
            return []
        first, last = self.spans.characters(token)
        columns = [column for column, offset in enumerate(self.source.row(row)) if first <= offset < last]
        return [(columns[0], columns[-1] + 1, "token-cursor")] if columns else []
