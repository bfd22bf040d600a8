"""From drawn tokens to text as it becomes certain: whole characters, and nothing that may be a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from llmchat.tokenizers.stop_strings import StopStrings
from llmchat.tokenizers.tokenizer import Tokenizer


class StreamingDetokenizer:
    """Gives out the text of a reply token by token.

    A character that is still incomplete is held back, and so is the longest
    ending that could become a stop string. Bytes that can be no UTF-8 become
    U+FFFD at once. The text does not depend on how it is split into tokens.

    Args:
        tokenizer: The model's tokenizer.
        stop: Strings that end the reply. The one completed first wins; of several
            completed by the same character, the first listed.
        strip_leading_space: Whether the reply's first space, which belongs to
            the vocabulary and not to the text, is dropped.
    """

    def __init__(self, tokenizer: Tokenizer, *, stop: Sequence[str] = (), strip_leading_space: bool = False) -> None:
        self._tokenizer = tokenizer
        self._stops = StopStrings(stop)
        self._strips = strip_leading_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._finished = False
        self.offsets: list[int] = []
        """Where each token's bytes begin in the reply's text as UTF-8, the part held back included. Token i
        reaches from offsets[i] to offsets[i + 1], the last one to `byte_count`."""
        self.byte_count = 0
        """Bytes of all tokens so far, as UTF-8 text: a partial character counts its bytes."""
        self.char_count = 0
        """Whole characters of all tokens so far, the part held back included."""
        self._decoded_bytes = 0

    @property
    def stop(self) -> str | None:
        """The stop string that ended the reply, once one has."""
        return self._stops.found

    def add(self, token_id: int, name: str = "") -> str:
        """Take one token; the text that became certain with it, often "".

        Args:
            token_id: The token.
            name: What a control token is to be shown as, in place of nothing.
        """
        if self.stop is not None or self._finished:
            return ""
        self.offsets.append(self.byte_count)
        text = self._count(self._decoder.decode(name.encode() or self._tokenizer.token_bytes(token_id)))
        self.byte_count = self._decoded_bytes + len(self._decoder.getstate()[0])
        return self._stops.add(text)

    def finish(self) -> str:
        """The text still held back, at the end of a reply; "" after a stop string. Nothing follows it."""
        if self.stop is not None or self._finished:
            return ""
        self._finished = True
        text = self._count(self._decoder.decode(b"", final=True))
        self.byte_count = self._decoded_bytes
        return self._stops.add(text) + self._stops.finish()

    def _count(self, text: str) -> str:
        """Drop the leading space where it is not wanted, and keep the counts."""
        if self._strips and text:
            text = text.removeprefix(" ")
            self._strips = False
        self.char_count += len(text)
        self._decoded_bytes += len(text.encode())
        return text
