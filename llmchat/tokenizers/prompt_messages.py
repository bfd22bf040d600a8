"""Turns on their way into a chat template: plain text, or text in which a mark stands for generated ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llmchat.chat.turn import Turn
from llmchat.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """One turn as the template sees it, and the generated ids that may stand for a part of it."""

    role: str
    text: str
    head: str = ""
    """Text before the ids: the prefill."""
    token_ids: tuple[int, ...] = ()
    """Ids that say what stands between head and tail; empty for plain text."""
    tail: str = ""
    """Text after the ids."""
    mark: str = ""
    """What stands for the ids in the rendered text; empty for plain text."""
    thinking: str = ""
    """What the model wrote to itself before it."""

    @property
    def content(self) -> str:
        """What is given to the template."""
        return f"{self.head}{self.mark}{self.tail}" if self.mark else self.text

    @property
    def body(self) -> str:
        """The part of the text that the ids stand for."""
        return self.text[len(self.head) : len(self.text) - len(self.tail)]

    @property
    def plain(self) -> PromptMessage:
        """The same message as text alone."""
        return PromptMessage(self.role, self.text, thinking=self.thinking)

    def changed(self, change: Callable[[str], str]) -> PromptMessage:
        """The same message, with each of its texts changed."""
        thinking = change(self.thinking)
        if not self.mark:
            return replace(self, text=change(self.text), thinking=thinking)
        head, body, tail = change(self.head), change(self.body), change(self.tail)
        return replace(self, text=head + body + tail, head=head, tail=tail, thinking=thinking)


def message_of(turn: Turn, tokenizer: Tokenizer, mark: str) -> PromptMessage:
    """A turn, with its generated ids as far as they say what its text says; `mark` is to stand for them."""
    reply = turn.reply if turn.role == "assistant" else None
    if reply is None:
        return PromptMessage(turn.role, turn.text)
    plain, head = PromptMessage(turn.role, turn.text, thinking=reply.thought.text), reply.answer_prefill
    if not turn.text.startswith(head):
        return plain
    token_ids, rest = _covering_ids(tokenizer, reply.answer_ids, turn.text.removeprefix(head))
    return replace(plain, head=head, token_ids=token_ids, tail=rest, mark=mark) if token_ids else plain


def new_word() -> str:
    """Letters and digits that are in no other text."""
    return os.urandom(12).hex()


def token_bytes(tokenizer: Tokenizer, token_ids: Sequence[int]) -> bytes:
    """The bytes of several tokens."""
    return b"".join(map(tokenizer.token_bytes, token_ids))


def _covering_ids(tokenizer: Tokenizer, token_ids: tuple[int, ...], body: str) -> tuple[tuple[int, ...], str]:
    """The leading ids that say how a text begins, and the rest of the text.

    A stop string cuts a reply, often in the middle of a token: ids past the cut
    are left out. Ids that say something else give none.
    """
    said = token_bytes(tokenizer, token_ids).decode("utf-8", "replace")
    wanted = body.strip()
    if not wanted or not said.lstrip().startswith(wanted):
        return (), body
    if said.strip() == wanted:
        return token_ids, ""
    for count in range(len(token_ids), 0, -1):
        start = token_bytes(tokenizer, token_ids[:count]).decode("utf-8", "replace").lstrip()
        if wanted.startswith(start):
            return token_ids[:count], wanted[len(start) :]
    return (), body


def merge_user_turns(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """The messages with neighbouring user turns as one: some templates insist that roles alternate."""
    merged: list[PromptMessage] = []
    for message in messages:
        if merged and message.role == "user" == merged[-1].role:
            merged[-1] = PromptMessage("user", f"{merged[-1].text}\n\n{message.text}")
        else:
            merged.append(message)
    return merged


def fold_system(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """The messages with the system's words at the start of the first user turn."""
    words = "\n\n".join(message.text for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    at = next((index for index, message in enumerate(rest) if message.role == "user"), None)
    if at is None:
        return [PromptMessage("user", words), *rest]
    return [*rest[:at], PromptMessage("user", f"{words}\n\n{rest[at].text}"), *rest[at + 1 :]]
