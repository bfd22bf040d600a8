"""From a vocabulary's pieces to the bytes they stand for, by the rules of a `tokenizers` decoder.

The library's decoders work on whole texts; these rules are the part of them
that can be said of one piece alone, so that a reply can be read token by token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A piece that stands for one byte, in SentencePiece's spelling."""


@dataclass(frozen=True, slots=True)
class PieceRules:
    """How the pieces of one vocabulary become text."""

    to_bytes: Callable[[str], bytes]
    """The bytes of a piece, a leading space included."""
    adds_space_prefix: bool
    """Whether a text's first space is the vocabulary's own and not part of the text."""
    joins_words: bool = False
    """Whether every piece that begins a word brings its own space."""


def piece_rules(backend: tokenizers.Tokenizer) -> PieceRules:
    """The rules of a loaded tokenizer."""
    decoder: dict[str, Any] = json.loads(backend.decoder.__getstate__()) if backend.decoder is not None else {}
    inner_prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
    kind = decoder.get("type", "")
    # llmbuilder 1.x names a word-end mark that its vocabulary lacks; the "##" inside words is what it has.
    has_no_suffix = kind == "BPEDecoder" and not getattr(backend.model, "end_of_word_suffix", None)
    if not kind or (has_no_suffix and inner_prefix):
        return _joined(inner_prefix)
    if kind == "WordPiece":
        return _joined(decoder.get("prefix", "##"))
    steps = decoder.get("decoders", []) if kind == "Sequence" else [decoder]
    return PieceRules(_pipeline(steps), any(map(_strips_first_space, steps)))


def byte_level_bytes(piece: str) -> bytes:
    """The bytes of a byte-level piece; a character outside the byte alphabet stands for itself."""
    return b"".join(_BYTE_OF.get(char) or char.encode() for char in piece)


def _joined(inner_prefix: str) -> PieceRules:
    def to_bytes(piece: str) -> bytes:
        if inner_prefix and piece.startswith(inner_prefix):
            return piece.removeprefix(inner_prefix).encode()
        return f" {piece}".encode()

    return PieceRules(to_bytes, adds_space_prefix=True, joins_words=True)


def _pipeline(steps: list[Mapping[str, Any]]) -> Callable[[str], bytes]:
    kinds = {step["type"] for step in steps}
    replaced = [pair for step in steps if (pair := _replacement(step))]

    def to_bytes(piece: str) -> bytes:
        if "ByteFallback" in kinds and (match := BYTE_PIECE.fullmatch(piece)):
            return bytes.fromhex(match[1])
        for old, new in replaced:
            piece = piece.replace(old, new)
        return byte_level_bytes(piece) if "ByteLevel" in kinds else piece.encode()

    return to_bytes


def _replacement(step: Mapping[str, Any]) -> tuple[str, str] | None:
    if step["type"] == "Replace" and "String" in step["pattern"]:
        return step["pattern"]["String"], step["content"]
    if step["type"] == "Metaspace":
        return step["replacement"], " "
    if step["type"] == "BPEDecoder":
        return step["suffix"], " "
    return None


def _strips_first_space(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        return bool(step.get("prepend_scheme", "always") != "never")
    return bool(step["type"] == "Strip" and step["content"] == " " and step["start"])


def _byte_alphabet() -> dict[str, bytes]:
    """GPT-2's alphabet: printable Latin-1 characters stand for themselves, the rest follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    pairs = [(byte, byte) for byte in printable] + [(0x100 + place, byte) for place, byte in enumerate(others)]
    return {chr(point): bytes([byte]) for point, byte in pairs}


_BYTE_OF = _byte_alphabet()
