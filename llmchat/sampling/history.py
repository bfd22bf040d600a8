"""Which tokens the penalties count as used."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from llmchat.sampling.candidates import IntArray


class TokenHistory:
    """How often each token stands in the prompt and the reply so far.

    End tokens are never counted: a chat prompt is full of them, and a penalty
    on them would only keep replies from ending.
    """

    def __init__(self, vocab_size: int, token_ids: Iterable[int] = (), exempt: Iterable[int] = ()) -> None:
        self.counts: NDArray[np.int32] = np.zeros(vocab_size, dtype=np.int32)
        self._exempt = frozenset(exempt)
        self._order: list[int] = []
        for token_id in token_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """Count one more token."""
        self._order.append(token_id)
        if token_id not in self._exempt:
            self.counts[token_id] += 1

    def drop_last(self) -> None:
        """Take the last token out again."""
        token_id = self._order.pop()
        if token_id not in self._exempt:
            self.counts[token_id] -= 1

    def distinct(self) -> IntArray:
        """Every counted id, ascending."""
        return np.flatnonzero(self.counts > 0)
