"""Rendered text in which marks stand for generated ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from llmchat.tokenizers.prompt_messages import PromptMessage, new_word


class MarkedText(NamedTuple):
    """A rendered text, cut where generated ids stand."""

    parts: list[str]
    """One more than there are messages."""
    messages: list[PromptMessage]
    """Those whose ids stand between the parts, in the order of the text."""


class Marks:
    """The marks of one prompt: a word that is in no other text, and a number behind it."""

    def __init__(self) -> None:
        self._word = new_word()
        self._pattern = re.compile(f"({self._word}[0-9a-f]{{8}})")

    def mark(self, number: int) -> str:
        """The mark for a number, 0 or above."""
        return f"{self._word}{number:08x}"

    def cut(self, text: str, marked: Sequence[PromptMessage], plain: str) -> MarkedText | None:
        """A rendered text, cut at its marks.

        Args:
            text: The text.
            marked: The messages whose marks it should have, each once.
            plain: What it should say, blanks aside.

        Returns:
            None where it is otherwise.
        """
        pieces = self._pattern.split(text)
        by_mark = {message.mark: message for message in marked}
        if len(pieces) != 2 * len(marked) + 1 or set(pieces[1::2]) != set(by_mark):
            return None
        messages = [by_mark[mark] for mark in pieces[1::2]]
        parts = pieces[::2]
        pieces[1::2] = [message.body for message in messages]
        says_the_same = "".join("".join(pieces).split()) == "".join(plain.split())
        return MarkedText(parts, messages) if says_the_same else None


def render_marked(
    messages: Sequence[PromptMessage], marks: Marks, render: Callable[[Sequence[PromptMessage]], str]
) -> MarkedText:
    """Messages as a template writes them, with marks for as many generated ids as it leaves alone.

    Some templates treat replies by what they say; what they do not leave alone goes in as text.
    """
    plain = render([message.plain for message in messages])

    def attempt(kept: Sequence[PromptMessage]) -> MarkedText | None:
        chosen = set(map(id, kept))
        some = [message if id(message) in chosen else message.plain for message in messages]
        return marks.cut(render(some), kept, plain)

    def left_alone(some: list[PromptMessage]) -> list[PromptMessage]:
        if attempt(some) is not None:
            return some
        middle = len(some) // 2
        return left_alone(some[:middle]) + left_alone(some[middle:]) if middle else []

    marked = [message for message in messages if message.mark]
    found = attempt(marked) or attempt(left_alone(marked)) if marked else None
    return found or MarkedText([plain], [])
