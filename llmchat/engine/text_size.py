"""Whether a text can fit at all, found out before it is tokenised: that takes long for millions of characters."""

from __future__ import annotations

from llmchat.engine.engine import StopSignal
from llmchat.errors import GenerationError, PromptTooLongError
from llmchat.tokenizers.tokenizer import Tokenizer

MOST_CHARS = 8_000_000
"""No text that is longer is read by any model."""

FEW_CHARS = 100_000
"""Texts that are no longer are tokenised in a moment."""

_SLICE_CHARS = 50_000
_TOKENS_PER_CUT = 16
"""A text in slices has more tokens than the whole, but not by many."""


def least_tokens(tokenizer: Tokenizer, text: str, limit: int, should_stop: StopSignal) -> int:
    """A number of tokens that a text has at least; it is counted no further than the limit.

    Args:
        tokenizer: The model's tokenizer.
        text: Any text.
        limit: Tokens that would be too many.
        should_stop: Asked between slices.

    Raises:
        GenerationError: It was stopped.
    """
    longest = tokenizer.longest_token
    least = -(-len(text) // longest) if longest else 0
    if least > limit or len(text) > MOST_CHARS or len(text) <= _SLICE_CHARS:
        return least
    count = 0
    for start in range(0, len(text), _SLICE_CHARS):
        if should_stop():
            raise GenerationError("The reply was stopped before the prompt was read.")
        count += max(len(tokenizer.encode(text[start : start + _SLICE_CHARS])) - _TOKENS_PER_CUT, 0)
        if count > limit:
            break
    return max(count, least)


def check_length(chars: int) -> None:
    """Refuse a number of characters that is too much for every model.

    Raises:
        PromptTooLongError: It is.
    """
    if chars > MOST_CHARS:
        raise PromptTooLongError(
            f"The prompt has {chars:,} characters; no more than {MOST_CHARS:,} are read. Shorten the prompt."
        )


def too_long(chars: int, tokens: int, context: int) -> PromptTooLongError:
    """The error for a prompt that was not tokenised, because it cannot fit."""
    return PromptTooLongError(
        f"The prompt has {chars:,} characters, which are at least {tokens:,} tokens, but the model's context holds "
        f"{context} with the reply. Shorten the prompt."
    )
