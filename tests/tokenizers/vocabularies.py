"""Small vocabularies for the tests, built from llmbuilder's own where merges matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, decoders, models, pre_tokenizers

DATA = Path(__file__).parents[1] / "data"
LLMBUILDER_2 = DATA / "llmbuilder-formats" / "2.0.0" / "tokenizers"
LLMBUILDER_1 = DATA / "llmbuilder-formats" / "1.0.0"
TINY = DATA / "llmbuilder-2.0.0-tiny" / "tokenizer"

SENTENCEPIECE_MODELS = [TINY / "tokenizer.model", *sorted((DATA / "llmbuilder-formats").rglob("*.model"))]
TOKENIZER_JSONS = sorted((DATA / "llmbuilder-formats").rglob("tokenizer.json"))

TEXTS = (
    "Alice was beginning to get very tired.",
    "User: Hi!\nAssistant: Hello, how are you?",
    "  two  blanks\tand\na line ",
    "naïve café 你好 😀",
    "<s>no control</s> <unk>",
    "",
    "\n",
)


class PieceTokenizer:
    """Token i is the i-th of some byte strings."""

    bos_id = eos_id = unk_id = None
    adds_bos = False
    control_names = ()
    longest_token = None
    notes = ()

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self.vocab_size = len(pieces)

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Every piece once."""
        return list(range(self.vocab_size))

    def encode_apart(self, text: str, joint: str) -> list[int]:
        """The same, for no name is a token's."""
        return self.encode(text.replace(joint, ""))

    def token_bytes(self, token_id: int) -> bytes:
        """The piece."""
        return self._pieces[token_id]

    def token_text(self, token_id: int) -> str:
        """The piece as text."""
        return repr(self._pieces[token_id])

    def is_control(self, token_id: int) -> bool:
        """Empty pieces are."""
        return not self._pieces[token_id]

    def find(self, piece: str) -> int | None:
        """None has a name."""
        return None

    def decode(self, token_ids: Sequence[int]) -> str:
        """The pieces as text."""
        return b"".join(self._pieces[token_id] for token_id in token_ids).decode("utf-8", "replace")


def llama_metadata(**keys: Any) -> dict[str, Any]:
    """GGUF keys of a Llama-like vocabulary: <unk> <s> </s>, 256 bytes, <|im_end|>, then llmbuilder's BPE pieces."""
    source = SentencePieceProcessor(model_file=str(LLMBUILDER_2 / "spm2_bpe" / "tokenizer.model"))
    words = [str(source.id_to_piece(token_id)) for token_id in range(6, source.get_piece_size())]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "<|im_end|>", *words]
    values = {
        "model": "llama",
        "tokens": pieces,
        "token_type": [2, 3, 3, *[6] * 256, 3, *[1] * len(words)],
        "scores": [0.0] * 260 + [-float(rank) for rank in range(len(words))],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    } | keys
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


def llama_fast() -> tokenizers.Tokenizer:
    """The same vocabulary as Hugging Face's fast Llama tokenizer (legacy=False) has it."""
    keys = llama_metadata()
    pieces, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    ids = {piece: token_id for token_id, piece in enumerate(pieces)}
    merges = sorted(
        (ids[piece], at, (piece[:at], piece[at:]))
        for piece, kind in zip(pieces, types, strict=True)
        for at in range(1, len(piece))
        if kind == 1 and piece[:at] in ids and piece[at:] in ids
    )
    backend = tokenizers.Tokenizer(
        models.BPE(ids, [pair for _, _, pair in merges], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    control = [piece for piece, kind in zip(pieces, types, strict=True) if kind in (2, 3)]
    backend.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in control])
    return backend


def byte_level_metadata(**keys: Any) -> dict[str, Any]:
    """GGUF keys of a small byte-level vocabulary: the 256 bytes, a few merges, three control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["Ġ h", "e l", "el l", "ell o", "h ello", "Ġh ello"]
    words = [merge.replace(" ", "") for merge in merges]
    pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, *words]
    values = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": pieces,
        "token_type": [3, 3, 3, *[1] * (len(alphabet) + len(words))],
        "merges": merges,
        "bos_token_id": 1,
        "eos_token_id": 2,
    } | keys
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}
