"""Hugging Face vocabularies: a tokenizer.json read by the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

from llmchat.errors import GenerationError, ModelLoadError, PromptTooLongError
from llmchat.tokenizers.control_names import TURN_PIECES, mistyped_notes
from llmchat.tokenizers.declared import declared_id, declared_tokens
from llmchat.tokenizers.library_errors import LibraryErrors
from llmchat.tokenizers.piece_bytes import piece_rules
from llmchat.tokenizers.readable import encodable, readable_token
from llmchat.tokenizers.text_files import read_text
from llmchat.tokenizers.text_growth import MOST_BYTES, Growth, read_rules

_BOS_NAMES = ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "<|bos|>", "[BOS]")
_EOS_NAMES = (
    "</s>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "<eos>", "<|endoftext|>", "<|eos|>",
)  # fmt: skip
_UNK_NAMES = ("<unk>", "[UNK]", "<|unk|>")
_FAILS = "The model's tokenizer fails on this text{}: pass another --tokenizer."
_GROWS = "its rules can make a short text too long to be kept in memory."
_TOKENIZER_LIMIT = 256 * 2**20
"""Bytes; the largest vocabularies take some thirty million."""


class TokenizerJson:
    """A `tokenizers.Tokenizer` behind the `Tokenizer` protocol.

    Args:
        backend: The library's tokenizer. It is used from one thread, by this object alone.
        bos_id: The begin token; None for none.
        eos_id: The end token; None for none.
        unk_id: The token for what the vocabulary lacks; None for none.
        adds_bos: Whether plain texts are meant to begin with `bos_id`.
        vocab_size: One more than the highest id, where the caller knows it; looking for it takes a while.
        growth: How long the rules of the vocabulary can make a text.
        notes: Sentences a person should see once.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos_id: int | None,
        eos_id: int | None,
        unk_id: int | None,
        adds_bos: bool,
        vocab_size: int | None = None,
        growth: Growth | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._backend = backend
        self._growth = growth or Growth()
        self.notes = notes
        self._rules = piece_rules(backend)
        self._added = backend.get_added_tokens_decoder()
        self._added_ids = {token.content: token_id for token_id, token in self._added.items()}
        self.adds_space_prefix = self._rules.adds_space_prefix
        highest = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) if vocab_size is None else -1
        self.vocab_size = highest + 1 if vocab_size is None else vocab_size
        self.bos_id, self.eos_id, self.unk_id = bos_id, eos_id, unk_id
        self.adds_bos = adds_bos and bos_id is not None

    @classmethod
    def from_path(cls, path: Path | str) -> TokenizerJson:
        """Open a tokenizer.json, or the one in a directory, with the settings beside it.

        Raises:
            ModelLoadError: There is none, it is damaged, or it can make texts grow without bound.
        """
        file = Path(path)
        file = file / "tokenizer.json" if file.is_dir() else file
        text = read_text(file, _TOKENIZER_LIMIT)
        if text is None:
            raise ModelLoadError(f"There is no tokenizer {file}: check the path given with --tokenizer.")
        damaged = f"{file} is no tokenizer or is damaged{{}}: copy it again or pass another --tokenizer."
        with LibraryErrors(ModelLoadError, damaged):
            # Before the library opens it: that already normalizes the added tokens.
            rules = read_rules(text)
            if not rules.is_bounded:
                raise ModelLoadError(f"{file} is refused: {_GROWS} Pass another --tokenizer.")
            backend = _with_unknown(tokenizers.Tokenizer.from_str(text))
            # Before anything is encoded: a file may ask for gigabytes of padding.
            backend.no_truncation()
            backend.no_padding()
            return cls.of(backend, file.parent, rules.encoding)

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer, directory: Path, growth: Growth | None = None) -> TokenizerJson:
        """A tokenizer of the library's with what the files of a directory say of its special tokens.

        Raises:
            ModelLoadError: One of the files is damaged.
            Exception: The library fails; its own, see `LibraryErrors`.
        """
        declared = declared_tokens(directory)
        bos_id = _token_id(backend, declared.get("bos_token"), _BOS_NAMES)
        eos_id = _token_id(backend, declared.get("eos_token"), _EOS_NAMES)
        unk_id = _token_id(backend, declared.get("unk_token"), _UNK_NAMES)
        adds_bos = declared.get("add_bos_token", bos_id in backend.encode("").ids[:1])
        notes = mistyped_notes(_mark_control_tokens(backend))
        return cls(backend, bos_id=bos_id, eos_id=eos_id, unk_id=unk_id, adds_bos=adds_bos, growth=growth, notes=notes)

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text, without what a post-processor would add.

        Raises:
            GenerationError: The library fails on it, or it can become too long.
        """
        self._check_growth(text)
        with LibraryErrors(GenerationError, _FAILS):
            self._backend.encode_special_tokens = not parse_special
            return list(self._backend.encode(encodable(text), add_special_tokens=False).ids)

    @cached_property
    def control_names(self) -> Sequence[str]:
        """The names of the special tokens."""
        return [token.content for token in self._added.values() if token.special]

    @cached_property
    def longest_token(self) -> int | None:
        """How many characters of a text a token stands for at most; None where some may stand for any number."""
        takes_blanks = any(token.lstrip or token.rstrip for token in self._added.values())
        normalizer = self._backend.normalizer
        joins = normalizer is not None and normalizer.__getstate__() == b'{"type":"NFC"}'
        if takes_blanks or not self._is_of_bytes or (normalizer is not None and not joins):
            return None
        # NFC makes one character of up to three.
        return (3 if joins else 1) * max(map(len, self._backend.get_vocab(with_added_tokens=True)), default=1)

    @property
    def _is_of_bytes(self) -> bool:
        """Whether every text can be written in tokens of single bytes, and so none becomes the unknown token."""
        state = b"" if self._backend.decoder is None else self._backend.decoder.__getstate__()
        return b'"ByteLevel"' in state or bool(getattr(self._backend.model, "byte_fallback", False))

    def encode_apart(self, text: str, joint: str) -> list[int]:
        """The ids of a text in which only the special tokens without a joint are meant.

        Raises:
            GenerationError: The library fails on it, or it can become too long.
        """
        self._check_growth(text)
        text, ids, at = encodable(text), list[int](), 0
        with LibraryErrors(GenerationError, _FAILS):
            self._backend.encode_special_tokens = False
            found = self._backend.encode(text, add_special_tokens=False)
            for token_id, (start, end) in zip(found.ids, found.offsets, strict=True):
                # The unknown token stands for other texts too. Some tokens take the blanks around them.
                if self.is_control(token_id) and text[start:end].strip() == self._added[token_id].content:
                    ids += self._encode_stretch(text[at:start].replace(joint, ""), is_first=not ids)
                    ids.append(token_id)
                    at = end
            return ids + self._encode_stretch(text[at:].replace(joint, ""), is_first=not ids)

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to a text; b"" for control tokens and ids that stand for nothing."""
        added = self._added.get(token_id)
        if added is not None and not self._rules.joins_words:
            return b"" if added.special else added.content.encode()
        piece = self._piece(token_id)
        return b"" if piece is None or self.is_control(token_id) else self._rules.to_bytes(piece)

    def token_text(self, token_id: int) -> str:
        """The token for a person to read."""
        piece = self._piece(token_id)
        if piece is None:
            return f"<{token_id}>"
        return readable_token(piece, self.token_bytes(token_id), self.is_control(token_id))

    def is_control(self, token_id: int) -> bool:
        """Whether the token stands for no text."""
        return token_id in self._added and bool(self._added[token_id].special)

    def find(self, piece: str) -> int | None:
        """The id of an added token by its name."""
        return self._added_ids.get(piece)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some ids, without the space that the vocabulary itself puts first."""
        text = b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.adds_space_prefix else text

    def _check_growth(self, text: str) -> None:
        if self._growth.of(len(encodable(text).encode())) > MOST_BYTES:
            raise PromptTooLongError(
                f"The text has {len(text):,} characters; the rules of this model's tokenizer can make it too long to "
                "be kept in memory. Shorten it."
            )

    def _encode_stretch(self, text: str, *, is_first: bool) -> list[int]:
        """The ids of a plain text that stands at the beginning, or behind a control token."""
        self._backend.encode_special_tokens = True
        whole, inside = self._pre_tokenizers
        if is_first or inside is None:
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        self._backend.pre_tokenizer = inside
        try:
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        finally:
            self._backend.pre_tokenizer = whole

    @cached_property
    def _pre_tokenizers(self) -> tuple[PreTokenizer | None, PreTokenizer | None]:
        """The vocabulary's own, and one for what is not at a text's beginning; None if that makes no difference."""
        whole = self._backend.pre_tokenizer
        state = b"" if whole is None else whole.__getstate__()
        if b'"first"' not in state:
            return whole, None
        rules = json.loads(state)
        for rule in [rules, *rules.get("pretokenizers", [])]:
            if rule.get("prepend_scheme") == "first":
                rule["prepend_scheme"] = "never"
        bare = {"version": "1.0", "pre_tokenizer": rules, "model": {"type": "BPE", "vocab": {}, "merges": []}}
        return whole, tokenizers.Tokenizer.from_str(json.dumps(bare)).pre_tokenizer

    def _piece(self, token_id: int) -> str | None:
        return self._backend.id_to_token(token_id) if 0 <= token_id < self.vocab_size else None


def _with_unknown(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, with the unknown token named where llmbuilder's Unigram models forget to.

    Without it the library refuses every text with a character outside the vocabulary.
    """
    if not isinstance(backend.model, tokenizers.models.Unigram):
        return backend
    values = json.loads(backend.to_str())
    pieces = [piece for piece, _ in values["model"]["vocab"]]
    if values["model"]["unk_id"] is not None or not pieces:
        return backend
    values["model"]["unk_id"] = next((pieces.index(name) for name in _UNK_NAMES if name in pieces), 0)
    return tokenizers.Tokenizer.from_str(json.dumps(values))


def _mark_control_tokens(backend: tokenizers.Tokenizer) -> list[str]:
    """Make the tokens special that begin and end turns where the file forgets to; the names of those."""
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    mistyped = [name for name in TURN_PIECES if name not in special and backend.token_to_id(name) is not None]
    if mistyped:
        backend.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in mistyped])
    return mistyped


def _token_id(backend: tokenizers.Tokenizer, declared: object, names: Iterable[str]) -> int | None:
    """The id of a declared token (a name, an id, several of these), else of the first usual name there is."""
    found = declared_id(declared, backend.token_to_id, lambda one: backend.id_to_token(one) is not None)
    if found is not None:
        return found
    special = {token.content: token_id for token_id, token in backend.get_added_tokens_decoder().items()}
    return next((special[name] for name in names if name in special), None)
