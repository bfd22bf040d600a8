"""What is remembered of a prompt: what it was made from, and by what another one is told from it. Plain values."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What made the prompt of a reply, or of a part of one. Digests have 12 hexadecimal digits."""

    tokens: int = 0
    """How many ids it had, those of the reply's earlier parts among them."""
    ids: str = ""
    """Digest of the ids."""
    said: str = ""
    """Digest of the turns and the prefill that it was made from."""
    template: str = ""
    """Digest of the chat template; "" where the prompt went in raw."""
    given_template: str = ""
    """The template that was asked for in place of the model's own: a built-in one's name, or Jinja; "" for none."""
    moment: datetime | None = None
    """The local time that the template was told; None if it does not ask."""
    parse_special: bool = False
    """Whether the names of control tokens in what was said meant the tokens."""


def is_named(template: str) -> bool:
    """Whether a template that was asked for is there by the name of a built-in one, and not by its text."""
    return not any(mark in template for mark in ("{", "\n"))


def digest(text: str) -> str:
    """A short fingerprint of a text."""
    return _hexadecimal(text.encode(errors="surrogatepass"))


def digest_of_ids(ids: Sequence[int]) -> str:
    """A short fingerprint of token ids."""
    return _hexadecimal(array("q", ids).tobytes())


def digest_of_said(said: Iterable[tuple[str, str]]) -> str:
    """A short fingerprint of what was said, as roles and texts."""
    return digest("".join(f"{role} {len(text)} {text}\n" for role, text in said))


def _hexadecimal(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def other_prompt_words(then: PromptFacts, now: PromptFacts) -> str:
    """That a prompt is not what it was, and the likely cause, in words; "" if it is the same, or was not kept."""
    if not then.ids or (then.ids, then.tokens) == (now.ids, now.tokens):
        return ""
    cause = ", ".join(_causes(then, now)) or "another tokenizer, or another version of llmchat"
    return f"the prompt is another one ({then.tokens} tokens then, {now.tokens} now): {cause}"


def _causes(then: PromptFacts, now: PromptFacts) -> Iterator[str]:
    if then.said != now.said:
        yield "what was said, or the system prompt, has been changed since"
    if then.template != now.template:
        yield "another chat template" if then.template and now.template else "with a chat template and without"
    elif then.moment != now.moment:
        yield "another date"
    if then.parse_special != now.parse_special:
        yield "names of control tokens are read in another way"
