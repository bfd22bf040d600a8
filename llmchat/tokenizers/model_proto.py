"""SentencePiece's model file, as far as we read and write it: protobuf's wire format by hand.

Field numbers and enum values are those of `sentencepiece_model.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_TYPE = 1, 2, 3
_NORMALIZER_NAME, _ADD_DUMMY_PREFIX, _REMOVE_EXTRA_WHITESPACES = 1, 3, 4
_MODEL_TYPE, _VOCAB_SIZE, _BYTE_FALLBACK, _UNK_PIECE = 3, 4, 35, 45
_BPE = 2
_MOST_FILLED = 2**17


class PieceType(IntEnum):
    """What a piece is; GGUF's `token_type` has the same numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float
    type: PieceType


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What encoding around control tokens needs to know of a model."""

    special: dict[str, int]
    """Ids of the unknown, control and user-defined pieces by their text."""
    adds_dummy_prefix: bool
    """Whether a space is put before every text."""
    keeps_text: bool
    """Whether no character is changed, left out, or joined with others into an unknown piece."""


WITHOUT_DUMMY_PREFIX = bytes((_NORMALIZER << 3 | _BYTES, 2, _ADD_DUMMY_PREFIX << 3 | _VARINT, 0))
"""Appended to a model, this switches its dummy prefix off: repeated messages are merged."""


def read_facts(proto: bytes) -> ModelFacts:
    """Read a serialized ModelProto, whole.

    Raises:
        ValueError: It is no complete ModelProto.
    """
    special: dict[str, int] = {}
    seen: set[int] = set()
    count, dummy_prefix, is_verbatim, has_bytes = 0, True, False, False
    for number, value in _fields(proto):
        seen.add(number)
        if number == _PIECES and isinstance(value, bytes):
            text, kind = _piece_head(value)
            if kind in (PieceType.UNKNOWN, PieceType.CONTROL, PieceType.USER_DEFINED):
                special[text] = count
            count += 1
        elif number == _NORMALIZER and isinstance(value, bytes):
            options = dict(_fields(value))
            dummy_prefix = bool(options.get(_ADD_DUMMY_PREFIX, dummy_prefix))
            is_named = options.get(_NORMALIZER_NAME) == b"identity"
            is_verbatim = is_named and options.get(_REMOVE_EXTRA_WHITESPACES, 1) == 0
        elif number == _TRAINER and isinstance(value, bytes):
            has_bytes = bool(dict(_fields(value)).get(_BYTE_FALLBACK, 0))
    if not {_PIECES, _TRAINER, _NORMALIZER} <= seen:
        raise ValueError("the model is incomplete")
    return ModelFacts(special, dummy_prefix, is_verbatim and has_bytes)


def with_added(proto: bytes, added: Mapping[int, Piece]) -> bytes:
    """A model with more pieces, or some of its pieces under another name or of another type.

    Args:
        proto: A serialized ModelProto.
        added: What stands at an id. The unknown piece and bytes stay what they are, and a name that another piece has
            is passed over; ids between the vocabulary's end and the highest are filled with pieces that are not used.

    Raises:
        ValueError: It is no ModelProto, or far more ids would have to be filled than there are pieces.
    """
    rest, pieces = bytearray(), list[bytes]()
    for number, value, raw in _raw_fields(proto):
        if number == _PIECES and isinstance(value, bytes):
            pieces.append(value)
        else:
            rest += raw
    if added and max(added) > 2 * len(pieces) + _MOST_FILLED:
        raise ValueError("an added token has an impossible id")
    heads = [_piece_head(piece) for piece in pieces]
    used = {text: token_id for token_id, (text, _) in enumerate(heads)}
    fixed = (PieceType.UNKNOWN, PieceType.BYTE)
    for token_id in range(max(added, default=-1) + 1):
        piece = added.get(token_id)
        if token_id >= len(pieces):
            is_new = piece is not None and piece.text not in used
            pieces.append(_piece(piece if piece and is_new else Piece(f"<unused {token_id}>", 0.0, PieceType.UNUSED)))
        elif piece is not None and heads[token_id][1] not in fixed and used.get(piece.text, token_id) == token_id:
            pieces[token_id] = _piece(piece)
        if piece is not None:
            used.setdefault(piece.text, token_id)
    return b"".join(_message(_PIECES, piece) for piece in pieces) + bytes(rest)


def build_bpe_model(pieces: Iterable[Piece], *, add_dummy_prefix: bool) -> bytes:
    """A serialized BPE ModelProto without normalisation, as Llama's vocabularies are."""
    listed = list(pieces)
    unknown = next(piece.text for piece in listed if piece.type is PieceType.UNKNOWN)
    byte_pieces = sum(piece.type is PieceType.BYTE for piece in listed)
    trainer = (
        _number(_MODEL_TYPE, _BPE)
        + _number(_VOCAB_SIZE, len(listed))
        + _number(_BYTE_FALLBACK, int(byte_pieces == 256))
        + _message(_UNK_PIECE, unknown.encode())
    )
    normalizer = (
        _message(_NORMALIZER_NAME, b"identity")
        + _number(_ADD_DUMMY_PREFIX, int(add_dummy_prefix))
        + _number(_REMOVE_EXTRA_WHITESPACES, 0)
    )
    body = b"".join(_message(_PIECES, _piece(piece)) for piece in listed)
    return body + _message(_TRAINER, trainer) + _message(_NORMALIZER, normalizer)


def _piece_head(data: bytes) -> tuple[str, int]:
    fields = dict(_fields(data))
    text, kind = fields.get(_PIECE_TEXT, b""), fields.get(_PIECE_TYPE, PieceType.NORMAL)
    if not isinstance(text, bytes) or not isinstance(kind, int):
        raise ValueError("a piece is malformed")
    return text.decode(), kind


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and value as a number or as bytes."""
    return ((number, value) for number, value, _ in _raw_fields(data))


def _raw_fields(data: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """The same with all bytes of each field."""
    position = 0
    while position < len(data):
        start = position
        tag, position = _read_varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield tag >> 3, value, data[start:position]
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            size, position = _read_varint(data, position)
        if size is None or position + size > len(data):
            raise ValueError("the message is cut off or malformed")
        yield tag >> 3, data[position : position + size], data[start : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise ValueError("a number is cut off")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _message(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _piece(piece: Piece) -> bytes:
    score = _varint(_PIECE_SCORE << 3 | _FIXED32) + struct.pack("<f", piece.score)
    return _message(_PIECE_TEXT, piece.text.encode()) + score + _number(_PIECE_TYPE, piece.type)
