"""SentencePiece vocabularies: llmbuilder's tokenizer.model, Llama's, and those inside GGUF files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from llmchat.errors import GenerationError, ModelLoadError
from llmchat.file_kinds import HEAD_BYTES, kind_words
from llmchat.tokenizers.declared import AddedName, added_tokens, declared_id, declared_tokens
from llmchat.tokenizers.library_errors import LibraryErrors
from llmchat.tokenizers.model_proto import WITHOUT_DUMMY_PREFIX, Piece, PieceType, read_facts, with_added
from llmchat.tokenizers.name_finder import NameFinder
from llmchat.tokenizers.readable import encodable, readable_token
from llmchat.tokenizers.text_files import read_data

MODEL_NAMES = ("tokenizer.model", "sentencepiece.model")
"""File names under which a directory holds a SentencePiece model."""

_SPACE = "\u2581"
_LIMIT = 256 * 2**20
"""Bytes of a model; the largest take some million."""


class SentencePieceTokenizer:
    """A SentencePiece model behind the `Tokenizer` protocol.

    Special ids come from the model; the arguments override them for formats that
    say otherwise.

    Args:
        source: A model file, a directory that holds one, or a serialized ModelProto.
        bos_id: The begin token, if the model's own is not meant.
        eos_id: The end token, if the model's own is not meant.
        adds_bos: Whether plain texts are meant to begin with `bos_id`.
        added: What a directory adds to the model, by its ids.

    Raises:
        ModelLoadError: There is no model there, or it is damaged.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        source: Path | str | bytes,
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
        adds_bos: bool = False,
        added: Mapping[int, AddedName] | None = None,
    ) -> None:
        self._proto = source if isinstance(source, bytes) else _read(Path(source))
        name = "The vocabulary in the file" if isinstance(source, bytes) else str(source)
        if words := kind_words(self._proto[:HEAD_BYTES]):
            raise ModelLoadError(f"{name} {words}.")
        damaged = f"{name} is no SentencePiece model or is damaged{{}}: copy it again or pass another --tokenizer."
        with LibraryErrors(ModelLoadError, damaged):
            if added:
                self._proto = with_added(self._proto, {token_id: _as_piece(one) for token_id, one in added.items()})
            facts = read_facts(self._proto)
            self._processor = SentencePieceProcessor(model_proto=self._proto)
        self._special = facts.special
        self._keeps_text = facts.keeps_text
        self.adds_space_prefix = facts.adds_dummy_prefix
        self.bos_id = bos_id if bos_id is not None else _known(self._processor.bos_id())
        self.eos_id = eos_id if eos_id is not None else _known(self._processor.eos_id())
        self.unk_id = _known(self._processor.unk_id())
        self._adds_bos = adds_bos
        self._unknown_text = str(self._processor.decode([self._processor.unk_id()])).encode()

    @classmethod
    def from_file(cls, file: Path) -> SentencePieceTokenizer:
        """Open a model with what the files beside it say: added tokens, and which begin and end texts.

        Raises:
            ModelLoadError: There is no model there, or something is damaged.
        """
        declared = declared_tokens(file.parent)
        tokenizer = cls(file, added=added_tokens(file.parent), adds_bos=declared.get("add_bos_token") is True)
        tokenizer.bos_id = tokenizer._declared_id(declared.get("bos_token"), tokenizer.bos_id)
        tokenizer.eos_id = tokenizer._declared_id(declared.get("eos_token"), tokenizer.eos_id)
        return tokenizer

    def _declared_id(self, declared: object, own: int | None) -> int | None:
        """The id of a token that a file names, else the model's own."""

        def find(piece: str) -> int | None:
            token_id = int(self._processor.piece_to_id(piece))
            return None if token_id == self.unk_id and piece != self._piece(token_id) else token_id

        found = declared_id(declared, find, lambda token_id: token_id < self.vocab_size)
        return own if found is None else found

    @property
    def adds_bos(self) -> bool:
        """Whether plain texts are meant to begin with `bos_id`."""
        return self._adds_bos and self.bos_id is not None

    @property
    def vocab_size(self) -> int:
        """How many pieces there are."""
        return int(self._processor.get_piece_size())

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text.

        With `parse_special`, only a text that begins with plain characters gets
        the model's dummy prefix; what follows a special token goes on from it.

        Raises:
            GenerationError: The library fails on it.
        """
        with LibraryErrors(GenerationError, "The model's tokenizer fails on this text{}: pass another --tokenizer."):
            return self._encode(encodable(text), parse_special=parse_special)

    def _encode(self, text: str, *, parse_special: bool) -> list[int]:
        if not parse_special:
            return list(self._processor.encode(text))
        return self._encode_parts(self._parts(self._special_finder, text))

    @cached_property
    def longest_token(self) -> int | None:
        """How many characters of a text a token stands for at most; None where some may stand for any number."""
        return max(len(self._piece(one)) for one in range(self.vocab_size)) if self._keeps_text else None

    def encode_apart(self, text: str, joint: str) -> list[int]:
        """The ids of a text in which only the control tokens without a joint are meant."""
        parts: list[str | int] = []
        for part in self._parts(self._control_finder, encodable(text)):
            if isinstance(part, str):
                parts += self._parts(self._user_defined_finder, part.replace(joint, ""))
            else:
                parts.append(part)
        return self._encode_parts(parts)

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to a text; b"" for control tokens and ids outside the vocabulary."""
        if not 0 <= token_id < self.vocab_size or self._processor.is_control(token_id):
            return b""
        if self._processor.is_unknown(token_id):
            return self._unknown_text
        piece = self._piece(token_id)
        if self._processor.is_byte(token_id):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(_SPACE, " ").encode()

    def token_text(self, token_id: int) -> str:
        """The token for a person to read."""
        if not 0 <= token_id < self.vocab_size:
            return f"<{token_id}>"
        named = self.is_control(token_id) or token_id == self.unk_id
        return readable_token(self._piece(token_id), self.token_bytes(token_id), named)

    def is_control(self, token_id: int) -> bool:
        """Whether the token stands for no text."""
        return 0 <= token_id < self.vocab_size and bool(self._processor.is_control(token_id))

    def find(self, piece: str) -> int | None:
        """The id of a control or user-defined token by its name."""
        return self._special.get(piece)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some ids, without the space that the dummy prefix put first."""
        text = b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")
        if not self.adds_space_prefix:
            return text
        first = next((token_id for token_id in token_ids if self.token_bytes(token_id)), None)
        return text if first == self.unk_id else text.removeprefix(" ")

    def _piece(self, token_id: int) -> str:
        return str(self._processor.id_to_piece(token_id))

    def _parts(self, finder: NameFinder, text: str) -> list[str | int]:
        """A text cut at the names of special tokens, which become ids."""
        return [self._special[part] if index % 2 else part for index, part in enumerate(finder.split(text))]

    def _encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        """The ids of texts with special tokens between them."""
        ids: list[int] = []
        for index, part in enumerate(parts):
            if isinstance(part, int):
                ids.append(part)
            elif part:
                ids += self._processor.encode(part) if index == 0 else self._encode_inside(part)
        return ids

    def _encode_inside(self, part: str) -> list[int]:
        """The ids of a text that follows a special token."""
        # A model that strips leading blanks would glue the words together: there, its prefix is the blank.
        bare = self._bare_processor
        is_stripped = bare.normalize(f"a{part}")[1:2] == _SPACE and bare.normalize(part)[:1] != _SPACE
        return list((self._processor if is_stripped else bare).encode(part))

    @cached_property
    def _bare_processor(self) -> SentencePieceProcessor:
        """The same model without the dummy prefix."""
        if not self.adds_space_prefix:
            return self._processor
        return SentencePieceProcessor(model_proto=self._proto + WITHOUT_DUMMY_PREFIX)

    @cached_property
    def control_names(self) -> Sequence[str]:
        """The names of the control pieces, and of the unknown one."""
        return [name for name, one in self._special.items() if one == self.unk_id or self.is_control(one)]

    @cached_property
    def _special_finder(self) -> NameFinder:
        return _finder(self._special)

    @cached_property
    def _control_finder(self) -> NameFinder:
        return _finder(self.control_names)

    @cached_property
    def _user_defined_finder(self) -> NameFinder:
        return _finder(self._special.keys() - set(self.control_names))


def _as_piece(added: AddedName) -> Piece:
    if added.is_control:
        return Piece(added.name, 0.0, PieceType.CONTROL)
    return Piece(added.name.replace(" ", _SPACE), 0.0, PieceType.USER_DEFINED)


def _known(token_id: int) -> int | None:
    return int(token_id) if token_id >= 0 else None


def _finder(names: Iterable[str]) -> NameFinder:
    """Finds the names that a text can hold."""
    return NameFinder(name for name in names if name.strip() and _SPACE not in name)


def _read(path: Path) -> bytes:
    """The bytes of a model file, or of the one in a directory."""
    if path.is_dir():
        found = next((path / name for name in MODEL_NAMES if (path / name).is_file()), None)
        if found is None:
            raise ModelLoadError(f"There is no tokenizer in {path}: it needs a {' or '.join(MODEL_NAMES)}.")
        path = found
    data = read_data(path, _LIMIT)
    if data is None:
        raise ModelLoadError(f"There is no tokenizer {path}: check the path given with --tokenizer.")
    return data
