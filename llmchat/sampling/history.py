"""The tokens so far: in order, counted, and where they repeat themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.arrays import IntArray
from llmchat.sampling.mirostat import next_limit
from llmchat.sampling.repeats import repeat_lengths, repeat_lengths_after

_ROOM = 1024


class TokenHistory:
    """What the stages of the chain know of prompt and reply.

    Repetition and DRY look at both; frequency and presence count the reply alone.
    End tokens are never counted: a chat prompt is full of them, and a penalty
    on them would only keep replies from ending.
    """

    def __init__(
        self,
        vocab_size: int,
        token_ids: Iterable[int] = (),
        exempt: Iterable[int] = (),
        reply_length: int = 0,
        mirostat_limit: float | None = None,
    ) -> None:
        """A history that goes on from some tokens.

        Args:
            vocab_size: All ids are below it.
            token_ids: The prompt, and what there already is of the reply.
            exempt: The ids that are not counted.
            reply_length: How many of the last tokens are the reply's.
            mirostat_limit: Mirostat's limit after them; see `mirostat.limit_after`.
        """
        ids = np.fromiter(token_ids, dtype=np.int64)
        self.exempt = frozenset(exempt)
        """The ids that no penalty counts."""
        self._buffer: IntArray = np.concatenate([ids, np.zeros(_ROOM, dtype=np.int64)])
        self._length = ids.size
        self._reply_start = ids.size - reply_length
        self._counts = self._counted(ids, vocab_size)
        self._reply_counts = self._counted(ids[self._reply_start :], vocab_size)
        self._distinct: IntArray = np.flatnonzero(self._counts > 0)
        self._repeats: dict[int, IntArray] = {}
        self._limits = [mirostat_limit]

    def _counted(self, ids: IntArray, vocab_size: int) -> NDArray[np.int32]:
        counts = np.bincount(ids, minlength=vocab_size).astype(np.int32)
        counts[[token_id for token_id in self.exempt if token_id < counts.size]] = 0
        return counts

    def __len__(self) -> int:
        return self._length

    @property
    def ids(self) -> IntArray:
        """Every token in order, shape (n,); a view that the next token makes stale."""
        return self._buffer[: self._length]

    @property
    def mirostat_limit(self) -> float | None:
        """Mirostat's limit for the next token, in bits; None while it is off."""
        return self._limits[-1]

    def add(self, token_id: int) -> None:
        """Append one more token of the reply that teaches Mirostat nothing."""
        self._append(token_id, self.mirostat_limit)

    def _append(self, token_id: int, limit: float | None) -> None:
        if self._length == self._buffer.size:
            self._buffer = np.concatenate([self._buffer, np.zeros_like(self._buffer)])
        self._buffer[self._length] = token_id
        self._length += 1
        self._limits.append(limit)
        self._count(token_id, 1)

    def add_drawn(self, token_id: int, final_logprob: float, config: GenerationConfig) -> None:
        """Append a token, with what Mirostat learns from it.

        Args:
            token_id: The token.
            final_logprob: Natural logarithm of its probability after the chain.
            config: The settings under which it was drawn.
        """
        tau, eta = config.mirostat_tau, config.mirostat_eta
        self._append(token_id, next_limit(self.mirostat_limit, final_logprob, tau, eta))

    def _count(self, token_id: int, by: int) -> None:
        if token_id not in self.exempt:
            self._counts[token_id] += by
            self._note_use(token_id)
            self._reply_counts[token_id] += by

    def _note_use(self, token_id: int) -> None:
        """Keep the distinct ids as the counts have them."""
        place = int(np.searchsorted(self._distinct, token_id))
        was_there = place < self._distinct.size and self._distinct[place] == token_id
        if was_there and not self._counts[token_id]:
            self._distinct = np.delete(self._distinct, place)
        elif not was_there and self._counts[token_id]:
            self._distinct = np.insert(self._distinct, place, token_id)

    @contextmanager
    def rewound(self, count: int) -> Iterator[None]:
        """Be, for a while, as before the last `count` tokens of the reply."""
        length, limits = self._length, self._limits
        taken = self.ids[length - count :].tolist()
        self._length, self._limits = length - count, limits[: len(limits) - count]
        for token_id in taken:
            self._count(token_id, -1)
        try:
            yield
        finally:
            self._length, self._limits = length, limits
            for token_id in taken:
                self._count(token_id, 1)

    def distinct(self, window: int = 0) -> IntArray:
        """Every counted id among the last `window` tokens, ascending; 0 looks at all."""
        if not 0 < window < self._length:
            return self._distinct
        return self._without_exempt(np.unique(self.ids[-window:]))

    def reply_counts(self, window: int = 0) -> tuple[IntArray, IntArray]:
        """How often the reply has each id, as far as it lies in the last `window` tokens.

        Returns:
            The ids, ascending, and for each how often it is there.
        """
        if not 0 < window < self._length - self._reply_start:
            ids = np.flatnonzero(self._reply_counts > 0)
            return ids, self._reply_counts[ids].astype(np.int64)
        ids, counts = np.unique(self.ids[-window:], return_counts=True)
        kept = np.isin(ids, self._without_exempt(ids), assume_unique=True)
        return ids[kept], counts[kept]

    def _without_exempt(self, ids: IntArray) -> IntArray:
        return ids[~np.isin(ids, list(self.exempt))] if self.exempt else ids

    def repeats(self) -> IntArray:
        """For each token, how many up to it are the same as the last ones of all; see `repeat_lengths`."""
        length = self._length
        if length not in self._repeats:
            before = self._repeats.get(length - 1)
            now = repeat_lengths(self.ids) if before is None else repeat_lengths_after(before, self.ids)
            # The ones before are kept for a look back by a token.
            self._repeats = {length: now} if before is None else {length - 1: before, length: now}
        return self._repeats[length]
