"""What every engine offers: ids in, logits out, with the prefix kept between calls.

An engine knows nothing of sampling or of text; it owns the model and its KV cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.model import ModelInfo
from llmchat.engine.kv_snapshot import KVSnapshot
from llmchat.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmchat.tokenizers.prompt_style import PromptStyle

Logits = NDArray[np.float32]
"""Shape (vocab_size,); -inf for ids that must never be drawn."""

StopSignal = Callable[[], bool]
"""Asked between steps whether to give up; true once the person has stopped the reply."""

PrefillProgress = Callable[[int, int], None]
"""Told how many of how many prompt tokens are done."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """The result of reading a prompt."""

    logits: Logits | None
    """For the token after the prompt; None if the reading was stopped."""
    cached_tokens: int
    """How many tokens of the prompt were already in the KV cache."""


class Fork(Protocol):
    """Several continuations of the text that an engine has read, advanced together."""

    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with some of the lanes, by their present places, in this order; one that is named twice becomes two."""


class Lanes(Fork, Protocol):
    """Texts of different lengths, read one after the other and advanced together."""

    def join(self) -> None:
        """Take up the text that the engine has read, under its scale, as one more lane: the last."""


class KeepsSnapshots(Protocol):
    """What an engine has read can be kept, and gone on from later or by another process."""

    @property
    def snapshot_kind(self) -> str:
        """What a snapshot is of use to: the same weights and adapter, run by the same kernels of the same build."""

    @property
    def text(self) -> list[int]:
        """The ids that were read and drawn so far."""

    def known(self, token_ids: Sequence[int]) -> int:
        """How many leading tokens of a prompt are in memory, under the present scale."""

    def snapshot(self, most_bytes: int) -> KVSnapshot | None:
        """A copy of what has been read; None where it is larger, or cannot be gone on from."""

    def take_up(self, snapshot: KVSnapshot) -> None:
        """Go on from a snapshot of this kind; what was read before may be gone on from still."""


class Engine(Protocol):
    """A model that is open, with its tokenizer. Used by one thread only."""

    @property
    def info(self) -> ModelInfo:
        """What was opened."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""

    @property
    def prompt_style(self) -> PromptStyle | None:
        """How a chat becomes a prompt; None for models that only continue text."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a reply."""

    @property
    def slides(self) -> bool:
        """Whether a text longer than the context goes on over its last tokens."""

    @property
    def context_tokens(self) -> int:
        """How many tokens the model has before it now."""

    @property
    def lora_scale(self) -> float:
        """How much of the adapter counts in what is read from here on; without one, assigning does nothing."""

    @lora_scale.setter
    def lora_scale(self, scale: float) -> None: ...

    @property
    def snapshots(self) -> KeepsSnapshots | None:
        """For what it has read; None where that cannot be kept."""

    def streamed_bytes(self, context: int) -> int:
        """Bytes that a token behind this many others must read from memory: weights as kept, and their KV cache."""

    def prefill(
        self,
        token_ids: Sequence[int],
        should_stop: StopSignal,
        on_progress: PrefillProgress | None = None,
        lora_scales: Sequence[float] | None = None,
    ) -> Prefill:
        """Read a prompt, reusing the longest prefix that is in the KV cache and was read under the same scales.

        Args:
            token_ids: The whole prompt, at least one id, each below the model's vocabulary size.
            should_stop: Asked between chunks.
            on_progress: Told after each chunk.
            lora_scales: How much of the adapter counts at each id; by default `lora_scale` at all of them.
        """

    @property
    def most_drafted(self) -> int:
        """How many tokens of a draft `decode` looks at; 0 where that is of no use or changes what is computed."""

    def pass_cost(self, positions: int) -> float:
        """How long one pass over so many positions takes, in passes over one."""

    def decode(self, token_id: int, draft: Sequence[int] = ()) -> Logits:
        """Append one token and return the logits for the next.

        Args:
            token_id: Below the model's vocabulary size.
            draft: What may follow. The model runs over it in the same pass: where just these tokens are appended next,
                their logits are there already, and others take it back. No logits depend on it.
        """

    def fork(self, lanes: int) -> Fork:
        """Begin `lanes` continuations of the text read so far, under its scale; the engine's own stays as it is."""

    def lanes(self) -> Lanes | None:
        """No texts yet, under the present scale; None where texts of different lengths cannot be advanced together."""
