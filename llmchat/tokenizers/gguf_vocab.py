"""The tokenizer inside a GGUF file, from its `tokenizer.ggml.*` keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from tokenizers import AddedToken

from llmchat.errors import ModelLoadError
from llmchat.tokenizers.control_names import looks_like_control, mistyped_notes
from llmchat.tokenizers.library_errors import LibraryErrors
from llmchat.tokenizers.merged import build_bpe
from llmchat.tokenizers.model_proto import Piece, PieceType, build_bpe_model
from llmchat.tokenizers.piece_bytes import BYTE_PIECE
from llmchat.tokenizers.pre_tokenizers import pre_tokenizer_rules
from llmchat.tokenizers.readable import conventional_end_ids
from llmchat.tokenizers.tokenizer import Tokenizer
from llmchat.tokenizers.tokenizer_json import TokenizerJson

_FALLBACK_PRE = "gpt-2"
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


@dataclass(frozen=True, slots=True)
class GGUFVocab:
    """What a GGUF file says of its tokens."""

    tokenizer: Tokenizer
    end_ids: tuple[int, ...]
    """Every token that ends a reply."""
    notes: tuple[str, ...] = ()
    """Sentences a person should see once."""


def load_gguf_vocab(metadata: Mapping[str, Any]) -> GGUFVocab:
    """Build the tokenizer of a GGUF file.

    Args:
        metadata: The file's keys and plain values; those that begin with
            `tokenizer.ggml.` are read.

    Raises:
        ModelLoadError: There is no vocabulary, it is damaged, or of a kind we cannot read.
    """
    prefix = "tokenizer.ggml."
    keys = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    kind, pieces = str(keys.get("model")), _listed(keys, "tokens", str)
    if not pieces:
        raise ModelLoadError("The GGUF file holds no tokenizer: pass one with --tokenizer.")
    types = _piece_types(_listed(keys, "token_type", int), len(pieces))
    types, type_notes = _with_control_types(pieces, types)
    if kind in _READERS:
        with LibraryErrors(ModelLoadError, "The GGUF file's tokenizer is damaged{}: fetch the file again."):
            tokenizer, notes = _READERS[kind](keys, pieces, types)
    else:
        raise ModelLoadError(
            f"The GGUF file's tokenizer is of the kind {kind[:40]!r}, which llmchat cannot read "
            f"(it reads {', '.join(_READERS)}): pass another with --tokenizer."
        )
    end_ids = conventional_end_ids(tokenizer, (_token_id(keys, key) for key in _END_KEYS))
    return GGUFVocab(tokenizer, end_ids, (*notes, *type_notes))


def _listed(keys: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    """A key's list with items of one kind; empty if the file has none."""
    values = keys.get(name, [])
    if not isinstance(values, list) or not set(map(type, values)) <= {kind}:
        raise _damaged(f"{name} is no list of {kind.__name__}")
    return values


def _piece_types(types: Sequence[int], count: int) -> list[PieceType]:
    if types and len(types) != count:
        raise _damaged(f"{count} tokens, {len(types)} types")
    known = {kind.value: kind for kind in PieceType}
    return list(map(known.get, types, repeat(PieceType.NORMAL))) or [PieceType.NORMAL] * count


def _with_control_types(pieces: Sequence[str], types: Sequence[PieceType]) -> tuple[list[PieceType], tuple[str, ...]]:
    """The types, with control tokens typed as such; and what to say where they were not."""
    wrong = (PieceType.NORMAL, PieceType.USER_DEFINED)
    named = (at for at, piece in enumerate(pieces) if piece[:1] == "<" and looks_like_control(piece))
    mistyped = [at for at in named if types[at] in wrong]
    mended = list(types)
    for at in mistyped:
        mended[at] = PieceType.CONTROL
    return mended, mistyped_notes([pieces[at] for at in mistyped])


def _damaged(reason: str) -> ModelLoadError:
    return ModelLoadError(f"The GGUF file's tokenizer is damaged ({reason}): fetch the file again.")


def _merged(
    keys: Mapping[str, Any], pieces: Sequence[str], types: Sequence[PieceType]
) -> tuple[Tokenizer, tuple[str, ...]]:
    """A BPE vocabulary with merges: of bytes as GPT-2, Llama 3 and Qwen have, or of characters as Gemma 4 has."""
    pre = "gemma4" if keys.get("model") == "gemma4" else str(keys.get("pre", "default"))
    rules = pre_tokenizer_rules(pre)
    notes: tuple[str, ...] = ()
    if rules is None:
        rules = pre_tokenizer_rules(_FALLBACK_PRE)
        notes = (
            f"The way this model cuts text into words ({pre[:40]}) is not known; "
            "GPT-2's is used, replies may be worse.",
        )
    assert rules is not None
    # Of pieces that are listed twice the first counts.
    vocab = dict(zip(reversed(pieces), range(len(pieces) - 1, -1, -1), strict=True))
    merges = _merges(_listed(keys, "merges", str))
    with LibraryErrors(ModelLoadError, _damaged("a merge names no token").message):
        backend = build_bpe(vocab, merges, rules)
    normal = PieceType.NORMAL
    typed = [(piece, kind) for piece, kind in zip(pieces, types, strict=True) if kind is not normal]
    backend.add_special_tokens([_added(p, True) for p, kind in typed if kind in (PieceType.CONTROL, PieceType.UNKNOWN)])
    backend.add_tokens([_added(piece, False) for piece, kind in typed if kind is PieceType.USER_DEFINED])
    tokenizer = TokenizerJson(
        backend,
        bos_id=_token_id(keys, "bos_token_id"),
        eos_id=_token_id(keys, "eos_token_id"),
        unk_id=_token_id(keys, "unknown_token_id"),
        adds_bos=bool(keys.get("add_bos_token", rules.adds_bos)),
        vocab_size=max(vocab.values()) + 1,
    )
    return tokenizer, notes


def _merges(lines: Sequence[str]) -> list[tuple[str, str]]:
    # A piece may itself begin with the separator, so the search starts at its second character.
    return [(line[:at], line[at + 1 :]) for line in lines for at in [line.find(" ", 1)]]


def _added(piece: str, is_special: bool) -> AddedToken:
    return AddedToken(piece, special=is_special, normalized=False)


def _sentencepiece(
    keys: Mapping[str, Any], pieces: Sequence[str], types: Sequence[PieceType]
) -> tuple[Tokenizer, tuple[str, ...]]:
    """A SentencePiece BPE vocabulary, as Llama 2 and Mistral have."""
    from llmchat.tokenizers.sentencepiece import SentencePieceTokenizer

    scores = _listed(keys, "scores", float)
    if len(scores) != len(pieces):
        raise _damaged(f"{len(pieces)} tokens, {len(scores)} scores")
    types = _with_one_unknown(types, _token_id(keys, "unknown_token_id") or 0)
    listed: dict[str, Piece] = {}
    for token_id, (piece, score, kind) in enumerate(zip(pieces, scores, types, strict=True)):
        # SentencePiece refuses empty, repeated and misspelt pieces; nothing can be written with them anyway.
        is_usable = piece and piece not in listed and (kind is not PieceType.BYTE or BYTE_PIECE.fullmatch(piece))
        text = piece if is_usable else f"<unused {token_id}>"
        listed[text] = Piece(text, float(score), kind if is_usable else PieceType.UNUSED)
    tokenizer = SentencePieceTokenizer(
        build_bpe_model(listed.values(), add_dummy_prefix=bool(keys.get("add_space_prefix", True))),
        bos_id=_token_id(keys, "bos_token_id"),
        eos_id=_token_id(keys, "eos_token_id"),
        adds_bos=bool(keys.get("add_bos_token", True)),
    )
    return tokenizer, ()


def _with_one_unknown(types: Sequence[PieceType], unknown_id: int) -> list[PieceType]:
    """The types with exactly one unknown piece, as SentencePiece wants."""
    first = types.index(PieceType.UNKNOWN) if PieceType.UNKNOWN in types else unknown_id
    plain = (PieceType.UNUSED if kind is PieceType.UNKNOWN else kind for kind in types)
    return [PieceType.UNKNOWN if token_id == first else kind for token_id, kind in enumerate(plain)]


def _token_id(keys: Mapping[str, Any], name: str) -> int | None:
    """A special id, if the file has it and it lies inside the vocabulary."""
    value = keys.get(name)
    return value if isinstance(value, int) and 0 <= value < len(keys["tokens"]) else None


_READERS: Mapping[
    str, Callable[[Mapping[str, Any], Sequence[str], Sequence[PieceType]], tuple[Tokenizer, tuple[str, ...]]]
] = {"gpt2": _merged, "llama": _sentencepiece, "gemma4": _merged}
"""By GGUF's name of the kind of vocabulary."""
