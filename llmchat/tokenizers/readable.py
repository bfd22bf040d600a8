"""Tokens and prompts in a form a person can read, and the names of tokens that end a reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from llmchat.tokenizers.control_names import END_PIECES
from llmchat.tokenizers.tokenizer import Tokenizer


def conventional_end_ids(tokenizer: Tokenizer, declared: Iterable[int | None] = ()) -> tuple[int, ...]:
    """Every token that ends a reply: the declared ones, the tokenizer's own, then the usual names.

    Args:
        tokenizer: The model's tokenizer.
        declared: Ids that the model's files call ends, such as `eos_token_id`; None is skipped.

    Returns:
        Ids inside the vocabulary, each once, declared ones first.
    """
    candidates = [*declared, tokenizer.eos_id, *(tokenizer.find(piece) for piece in END_PIECES)]
    known = (token_id for token_id in candidates if token_id is not None)
    return tuple(dict.fromkeys(token_id for token_id in known if 0 <= token_id < tokenizer.vocab_size))


def readable_token(piece: str, data: bytes, is_control: bool) -> str:
    r"""One token for a person to read.

    Control tokens go by their name, partial characters as `<0xE2><0x82>`, line
    breaks and the like as escapes; spaces stay spaces.
    """
    if is_control or not data:
        return piece
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in data)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def count_lacking(tokenizer: Tokenizer, token_ids: Sequence[int]) -> tuple[int, int]:
    """How much of a text its vocabulary lacks.

    Returns:
        The number of unknown tokens, and of those that hold only part of a character: single
        bytes that are fallen back to, or the pieces of byte-level vocabularies.
    """
    times = Counter(token_ids)
    unknown = 0 if tokenizer.unk_id is None else times[tokenizer.unk_id]
    return unknown, sum(count for token_id, count in times.items() if _is_partial(tokenizer.token_bytes(token_id)))


def _is_partial(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def readable_prompt(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    """The text of some ids with the control tokens written out, as the model sees it."""
    return "".join(text for text, _ in readable_parts(tokenizer, token_ids))


def readable_parts(tokenizer: Tokenizer, token_ids: Sequence[int]) -> Iterator[tuple[str, bool]]:
    """The same in stretches: text, or one control token by its name, and which of the two it is."""
    for is_control, group in groupby(token_ids, tokenizer.is_control):
        if is_control:
            yield from ((tokenizer.token_text(token_id), True) for token_id in group)
        else:
            yield b"".join(map(tokenizer.token_bytes, group)).decode("utf-8", "replace"), False


def encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, as question marks."""
    return text.encode("utf-8", "replace").decode()
