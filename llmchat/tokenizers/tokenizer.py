"""What every tokenizer offers, whatever file it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Text to ids and ids to bytes. Ids are whole numbers from 0 to `vocab_size` - 1."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text, if the model has one."""

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text, if the model has one."""

    @property
    def unk_id(self) -> int | None:
        """The token for what cannot be written otherwise, if there is one."""

    @property
    def adds_bos(self) -> bool:
        """Whether a plain text, without template, is meant to begin with `bos_id`."""

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text, without begin or end token.

        Args:
            text: Any text; what the vocabulary lacks becomes `unk_id` or bytes.
            parse_special: Whether "<|im_end|>" and the like mean their tokens, as
                in a rendered template, or are plain characters.
        """

    @property
    def control_names(self) -> Sequence[str]:
        """What `parse_special` reads as control tokens."""

    @property
    def longest_token(self) -> int | None:
        """How many characters of a text a token stands for at most; None where some may stand for any number."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences a person should see once."""

    def encode_apart(self, text: str, joint: str) -> list[int]:
        """The ids of a text in which only the control tokens without a joint are meant.

        Args:
            text: As for `encode`.
            joint: A character that stands in names which are only said; it is no part of the text.
        """

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to a text, as UTF-8 bytes; b"" for control tokens.

        The bytes of several tokens, joined, are their text; one token may hold
        part of a character. A leading space, where the vocabulary has one, is kept.
        """

    def token_text(self, token_id: int) -> str:
        """The token for a person to read: its piece, control tokens by name."""

    def is_control(self, token_id: int) -> bool:
        """Whether the token stands for no text: begin, end, padding, roles."""

    def find(self, piece: str) -> int | None:
        """The id of a control token by its name, such as "<|im_end|>"."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some ids; bytes that are no valid UTF-8 become U+FFFD."""
