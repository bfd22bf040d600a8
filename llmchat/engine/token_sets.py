"""Which tokens hold a text: what DRY and XTC must know of a vocabulary."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from llmchat.tokenizers.tokenizer import Tokenizer

_known: WeakKeyDictionary[Tokenizer, dict[tuple[str, ...], frozenset[int]]] = WeakKeyDictionary()


def ids_containing(tokenizer: Tokenizer, strings: tuple[str, ...]) -> frozenset[int]:
    """The ids of all tokens whose text contains one of some strings.

    The whole vocabulary is read the first time, and the answer kept as long as the tokenizer.

    Args:
        tokenizer: Whose tokens.
        strings: None of them empty.
    """
    answers = _known.setdefault(tokenizer, {})
    if strings not in answers:
        wanted = [string.encode() for string in strings]
        pieces = enumerate(map(tokenizer.token_bytes, range(tokenizer.vocab_size)))
        answers[strings] = frozenset(
            token_id for token_id, piece in pieces if any(string in piece for string in wanted)
        )
    return answers[strings]


def ids_of(tokenizer: Tokenizer, text: str) -> frozenset[int]:
    """The ids of all tokens that stand for a text and nothing else."""
    wanted = text.encode()
    return frozenset(token for token in ids_containing(tokenizer, (text,)) if tokenizer.token_bytes(token) == wanted)
