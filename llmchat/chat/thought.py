"""What a model wrote to itself before its answer. Plain values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thought:
    """The part of a reply before its answer; all empty where the model answered at once.

    `opening`, `text`, `closing` and then the answer are, joined, all that was written, to the last character.
    """

    text: str = ""
    """The thought, without the marks and the blanks around it."""
    opening: str = ""
    """What was written before it, such as "<think>" and a line break; "" where the prompt opened it."""
    closing: str = ""
    """What was written between it and the answer; "" as long as it is not closed."""
    tokens: int = 0
    """How many of the reply's tokens came before the answer: those of the thought, its marks and the blanks."""
    seconds: float = 0.0
    """How long these took."""

    @property
    def written(self) -> str:
        """All that was written before the answer, marks included."""
        return f"{self.opening}{self.text}{self.closing}"

    @property
    def is_open(self) -> bool:
        """Whether it was begun and not closed: no answer has come."""
        return bool(self.opening or self.text) and not self.closing

    def before(self, length: int, token_index: int) -> Thought:
        """The part of it in the first characters of a reply.

        Args:
            length: How many characters of the reply are kept.
            token_index: How many of its tokens these are.
        """
        opening = self.opening[:length]
        text = self.text[: max(length - len(self.opening), 0)]
        closing = self.closing[: max(length - len(self.opening) - len(self.text), 0)]
        tokens = min(self.tokens, token_index)
        seconds = self.seconds * tokens / self.tokens if self.tokens else 0.0
        return Thought(text, opening, closing, tokens, seconds)


def tokens_within(starts: Sequence[int], length: int) -> int:
    """How many tokens end within the first bytes of a text; the last one is taken to end behind them.

    Args:
        starts: Where each begins, in bytes, ascending.
        length: How many bytes.
    """
    return max(bisect_right(starts, length, min(1, len(starts))) - 1, 0)


def joined(pieces: Iterable[Thought]) -> Thought:
    """One thought from its pieces, in the order in which they were written."""
    known = tuple(pieces)
    return Thought(
        "".join(piece.text for piece in known),
        "".join(piece.opening for piece in known),
        "".join(piece.closing for piece in known),
        sum(piece.tokens for piece in known),
        sum(piece.seconds for piece in known),
    )
