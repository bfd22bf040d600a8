"""Which characters of a reply come from which token."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from llmchat.chat.turn import TokenFacts


class TokenSpans:
    """The tokens of a text, by its characters. `update` again as the text grows.

    A character that several tokens make together belongs to the one that completes it.
    """

    def __init__(self) -> None:
        self._text = ""
        self._facts: Sequence[TokenFacts] = ()
        self._ends: array[int] = array("q")
        """For each character, where it ends in bytes of UTF-8."""

    def update(self, text: str, facts: Sequence[TokenFacts]) -> None:
        """Take in the text as it is now, and its tokens."""
        if not text.startswith(self._text):
            self._text = ""
            del self._ends[:]
        added = text[len(self._text) :]
        start = self._ends[-1] if self._ends else 0
        if added.isascii():
            self._ends.extend(range(start + 1, start + 1 + len(added)))
        else:
            sizes = (len(character.encode("utf-8", "surrogatepass")) for character in added)
            self._ends.extend(list(accumulate(sizes, initial=start))[1:])
        self._text, self._facts = text, facts

    @property
    def count(self) -> int:
        """How many tokens have a part in the text; a stop string's are behind it."""
        return bisect_left(self._facts, self._ends[-1] if self._ends else 0, key=_start)

    def token_at(self, offset: int) -> int | None:
        """The token that completes a character; None for text that was given and not drawn."""
        token = self._owner(self._ends[offset] - 1)
        return token if token >= 0 else None

    def tokens_at(self, offset: int) -> range:
        """Every token that a character holds a part of."""
        first = self._owner(self._ends[offset - 1] if offset else 0)
        return range(max(first, 0), self._owner(self._ends[offset] - 1) + 1)

    def characters(self, token: int) -> tuple[int, int]:
        """From which character to which a token reaches; one that it has only a part of counts."""
        start = self._facts[token].start
        end = self._facts[token + 1].start if token + 1 < len(self._facts) else max(self._ends[-1:], default=0)
        first = bisect_right(self._ends, start)
        return first, max(first, min(bisect_left(self._ends, end) + 1, len(self._ends)) if end > start else first)

    def _owner(self, byte: int) -> int:
        """The token that has a byte; -1 before the first token."""
        return bisect_right(self._facts, byte, key=_start) - 1


def _start(facts: TokenFacts) -> int:
    return facts.start
