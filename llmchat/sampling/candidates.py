"""The tokens that may still be drawn, and their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmchat.errors import GenerationError
from llmchat.sampling.arrays import BoolArray, FloatArray, IntArray, holds, log_total_and_entropy


@dataclass(frozen=True, slots=True)
class Candidates:
    """Token ids with their logits: what a stage of the chain takes and gives.

    Ids ascend, so that the first of equal logits is the lowest id everywhere.
    Only the survivors are held: after a top-k of 50, fifty pairs.
    """

    ids: IntArray
    """Shape (n,), ascending, n ≥ 1."""
    logits: FloatArray
    """Shape (n,), finite. Log-probabilities up to a constant."""

    @classmethod
    def from_logits(cls, logits: NDArray[np.floating], ids: IntArray | None = None) -> Self:
        """Every token whose logit is not -inf, or those of some.

        Args:
            logits: Shape (vocab_size,).
            ids: Ascending ids, one of them at least with a finite logit; None means all.

        Raises:
            GenerationError: A logit is NaN or +inf, or all are -inf.
        """
        peak = float(np.max(logits)) if logits.size else -np.inf
        if not np.isfinite(peak):
            raise GenerationError(
                "The model gave numbers that are not finite. The weights may be damaged, "
                "or the precision too low: try --dtype float32."
            )
        values = (logits if ids is None else logits[ids]).astype(np.float64)
        if ids is None:
            ids = _all_ids(values.size)
        if np.isfinite(values.min()):
            return cls(ids, values)
        finite = np.flatnonzero(values > -np.inf)
        return cls(ids[finite], values[finite])

    def __len__(self) -> int:
        return self.ids.size

    def keep(self, mask: BoolArray) -> Self:
        """The candidates where `mask` is true; all of them if it is true nowhere."""
        return self.take(np.flatnonzero(mask))

    def take(self, positions: IntArray) -> Self:
        """The candidates at some ascending positions; all of them if there are none."""
        if not 0 < positions.size < self.ids.size:
            return self
        return type(self)(self.ids[positions], self.logits[positions])

    def positions(self, token_ids: IntArray) -> IntArray:
        """Where those of some ascending ids stand that are candidates."""
        if self.ids[-1] == self.ids.size - 1:  # Nothing has been removed.
            return token_ids[token_ids < self.ids.size]
        found = np.searchsorted(self.ids, token_ids)
        found[found == self.ids.size] = 0
        places: IntArray = found[self.ids[found] == token_ids]
        return places

    def holds(self, token_ids: IntArray) -> BoolArray:
        """Which of some ids are candidates, shape as `token_ids`."""
        return holds(self.ids, token_ids)

    def logprob(self, token_id: int) -> float:
        """Natural logarithm of a token's probability; -inf if it is no candidate."""
        place = int(np.searchsorted(self.ids, token_id))
        held = place < self.ids.size and self.ids[place] == token_id
        return float(self.logits[place]) - log_total_and_entropy(self.logits)[0] if held else -np.inf

    def lower(self, amounts: Mapping[int, float]) -> Self:
        """The candidates with something taken from the logits of some ids.

        Args:
            amounts: How much to take, by id.
        """
        places = self.positions(np.array(sorted(amounts), dtype=np.int64))
        logits = self.logits.copy()
        logits[places] -= [amounts[token_id] for token_id in self.ids[places].tolist()]
        return self.with_logits(logits)

    def without(self, token_ids: Sequence[int]) -> Self:
        """The candidates less some ids; all of them if none would be left."""
        if not token_ids:
            return self
        mask = np.ones(self.ids.size, dtype=bool)
        mask[self.positions(np.unique(np.array(token_ids)))] = False
        return self.keep(mask)

    def only(self, position: int) -> Self:
        """The one candidate at a position of the arrays."""
        return type(self)(self.ids[position : position + 1], self.logits[position : position + 1])

    def with_logits(self, logits: FloatArray) -> Self:
        """The same ids with other logits."""
        return type(self)(self.ids, logits)

    def ranked(self) -> IntArray:
        """Positions by falling logit, equal ones by rising id."""
        return np.argsort(-self.logits, kind="stable")

    def log_probabilities(self) -> FloatArray:
        """Natural logarithms of the softmax, shape (n,)."""
        shifted: FloatArray = self.logits - self.logits.max()
        shifted -= float(np.log(np.exp(shifted).sum()))
        return shifted

    def probabilities(self) -> FloatArray:
        """The softmax, shape (n,), summing to 1."""
        return np.exp(self.log_probabilities())


@lru_cache(maxsize=4)
def _all_ids(size: int) -> IntArray:
    """The ids of a whole vocabulary, which is too large to be listed anew for every token."""
    ids = np.arange(size)
    ids.flags.writeable = False
    return ids
