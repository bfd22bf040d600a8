"""Vocabularies of kinds that llmchat does not read itself, through llama.cpp."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from llmchat.engine.extras.llama_cpp_library import silent_library
from llmchat.errors import ModelLoadError
from llmchat.tokenizers.gguf_vocab import GGUFVocab
from llmchat.tokenizers.name_finder import NameFinder
from llmchat.tokenizers.readable import conventional_end_ids, encodable, readable_token

_PIECE_BYTES = 64
"""More than most tokens stand for."""


def load_llama_cpp_vocab(path: Path) -> GGUFVocab:
    """Read the vocabulary of a GGUF file, and nothing else of it.

    Raises:
        ModelLoadError: llama.cpp cannot read it.
    """
    tokenizer = LlamaCppTokenizer(path)
    return GGUFVocab(tokenizer, conventional_end_ids(tokenizer, tokenizer.declared_ends))


class LlamaCppTokenizer:
    """llama.cpp's vocabulary behind the `Tokenizer` protocol."""

    longest_token: int | None = None
    unk_id: int | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        """Read the vocabulary of a file.

        Raises:
            ModelLoadError: llama.cpp cannot read it.
        """
        self._library = silent_library()
        parameters = self._library.llama_model_default_params()
        parameters.vocab_only = True
        model = self._library.llama_model_load_from_file(os.fsencode(path), parameters)
        if model is None:
            raise ModelLoadError(f"{path} has a tokenizer that llama.cpp cannot read: pass one with --tokenizer.")
        weakref.finalize(self, self._library.llama_model_free, model).atexit = False
        self._vocab = vocab = self._library.llama_model_get_vocab(model)
        self.vocab_size = int(self._library.llama_vocab_n_tokens(vocab))
        self.bos_id = _id(self._library.llama_vocab_bos(vocab))
        self.eos_id = _id(self._library.llama_vocab_eos(vocab))
        self.adds_bos = bool(self._library.llama_vocab_get_add_bos(vocab)) and self.bos_id is not None
        every = range(self.vocab_size)
        self.declared_ends = tuple(each for each in every if self._library.llama_vocab_is_eog(vocab, each))
        self._names = {self._text(each): each for each in every if self.is_control(each)}
        self._finder = NameFinder(self._names)

    @property
    def control_names(self) -> Sequence[str]:
        """The names of the control tokens."""
        return [*self._names]

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text, without begin or end token."""
        ids = self._tokenized(text, parse_special)
        if parse_special or not any(map(self.is_control, ids)):
            return ids
        # Some kinds take a name for its token whatever is asked; character by character it is none.
        parts = enumerate(self._finder.split(text))
        pieces = (piece for at, part in parts for piece in (part if at % 2 else [part]))
        return [token_id for piece in pieces for token_id in self._tokenized(piece, False)]

    def encode_apart(self, text: str, joint: str) -> list[int]:
        """The ids of a text in which only the control tokens without a joint are meant."""
        ids = list[int]()
        for at, part in enumerate(self._finder.split(text)):
            # Every second part is a name.
            ids += [self._names[part]] if at % 2 else self.encode(part.replace(joint, ""))
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to a text; b"" for control tokens and ids that stand for nothing."""
        if not 0 <= token_id < self.vocab_size or self.is_control(token_id):
            return b""
        room = _PIECE_BYTES
        while True:
            piece = ctypes.create_string_buffer(room)
            count = int(self._library.llama_token_to_piece(self._vocab, token_id, piece, room, 0, False))
            if count >= 0:
                return piece.raw[:count]
            room = -count

    def token_text(self, token_id: int) -> str:
        """The token for a person to read."""
        if not 0 <= token_id < self.vocab_size:
            return f"<{token_id}>"
        return readable_token(self._text(token_id), self.token_bytes(token_id), self.is_control(token_id))

    def is_control(self, token_id: int) -> bool:
        """Whether the token stands for no text."""
        return 0 <= token_id < self.vocab_size and bool(self._library.llama_vocab_is_control(self._vocab, token_id))

    def find(self, piece: str) -> int | None:
        """The id of a control token by its name."""
        return self._names.get(piece)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some ids; bytes that are no valid UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")

    def _tokenized(self, text: str, parse_special: bool) -> list[int]:
        said = encodable(text).encode()
        room = len(said) + 8
        while True:
            found = (ctypes.c_int32 * room)()
            count = self._library.llama_tokenize(self._vocab, said, len(said), found, room, False, parse_special)
            if count >= 0:
                return list(found[:count])
            room = -count

    def _text(self, token_id: int) -> str:
        return bytes(self._library.llama_vocab_get_text(self._vocab, token_id)).decode("utf-8", "replace")


def _id(token_id: int) -> int | None:
    return token_id if token_id >= 0 else None
