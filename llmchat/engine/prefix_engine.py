"""What the engines share: reading a prompt in chunks, and keeping of the KV cache what the next one begins with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np

from llmchat.chat.model import ModelInfo
from llmchat.engine.engine import Logits, Prefill, PrefillProgress, StopSignal, common_prefix
from llmchat.models.plan import ModelPlan
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.tokenizers.tokenizer import Tokenizer


class PrefixEngine(ABC):
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    CHUNK: ClassVar[int]
    """Tokens read between two looks at the stop signal."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        info: ModelInfo,
        plan: ModelPlan | None,
        *,
        end_ids: tuple[int, ...],
        prompt_style: PromptStyle | None,
    ) -> None:
        self.info = info
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.prompt_style = prompt_style
        self.slides = plan is not None and plan.slides
        """Whether a longer text goes on over its last tokens with positions from 0, as llmbuilder does it."""
        self._rope_length: Callable[[int], int] = (lambda length: 0) if plan is None else plan.rope_length
        self._forgets = plan is not None and plan.forgets
        self._ids: list[int] = []
        self._cached_ids: list[int] = []

    @property
    def text(self) -> list[int]:
        """The ids that were read and drawn so far."""
        return list(self._ids)

    @property
    def context_tokens(self) -> int:
        """How many tokens the model has before it now."""
        return min(len(self._ids), self.info.context_length)

    def prefill(
        self, token_ids: Sequence[int], should_stop: StopSignal, on_progress: PrefillProgress | None = None
    ) -> Prefill:
        """Read a prompt, reusing the longest prefix that is in the KV cache."""
        self._ids = list(token_ids)
        if len(token_ids) > self.info.context_length:
            return Prefill(self._window_logits(), 0)
        self._forget_other_lengths(len(token_ids))
        # The last token is always read again: its logits are wanted.
        cached = self._rewind(min(common_prefix(self._cached_ids, self._ids), len(self._ids) - 1))
        del self._cached_ids[cached:]
        self._reserve(len(self._ids))
        logits: Logits | None = None
        for start, end in self._chunks(cached, len(self._ids)):
            if should_stop():
                return Prefill(None, cached)
            is_last = end == len(self._ids)
            if is_last and self._forgets:
                self._mark(start)
            logits = self._append(self._ids[start:end], wants_logits=is_last)
            if on_progress is not None:
                on_progress(end, len(self._ids))
        return Prefill(logits, cached)

    def decode(self, token_id: int) -> Logits:
        """Append one token and return the logits for the next."""
        self._ids.append(token_id)
        if len(self._ids) > self.info.context_length:
            return self._window_logits()
        if self._rope_length(len(self._ids)) != self._rope_length(len(self._cached_ids)):
            # Every position is stretched anew from here on.
            read = self.prefill(self._ids, lambda: False).logits
            assert read is not None
            return read
        self._reserve(len(self._ids))
        logits = self._append([token_id], wants_logits=True)
        assert logits is not None
        return logits

    def masked(self, logits: Logits) -> Logits:
        """The logits, those of ids that the tokenizer lacks set to -inf."""
        logits[self.tokenizer.vocab_size :] = -np.inf
        return logits

    def _chunks(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What is read between two looks at the stop signal."""
        # Where not every length can be gone back to, that before the last token must be: it is wanted the most.
        apart = int(self._forgets)
        for first in range(start, end - apart, self.CHUNK):
            yield first, min(first + self.CHUNK, end - apart)
        if apart:
            yield end - 1, end

    def _forget_other_lengths(self, length: int) -> None:
        """Let go of keys whose positions were stretched for texts of another length."""
        if self._rope_length(len(self._cached_ids)) != self._rope_length(length):
            self._cached_ids = []
        self._set_length(length)

    def _append(self, token_ids: list[int], *, wants_logits: bool) -> Logits | None:
        start = len(self._cached_ids)
        self._cached_ids += token_ids
        return self._extend(token_ids, start, wants_logits=wants_logits)

    @abstractmethod
    def _extend(self, token_ids: list[int], start: int, *, wants_logits: bool) -> Logits | None:
        """Run new tokens, which follow the first `start` positions of the KV cache; logits of the last, if wanted."""

    @abstractmethod
    def _rewind(self, length: int) -> int:
        """Go back to the first `length` positions of the KV cache, or to as many as it still can; returns how many."""

    def _mark(self, length: int) -> None:  # noqa: B027
        """Told a length to which a text will probably go back, for caches that let go of positions."""

    def _set_length(self, length: int) -> None:  # noqa: B027
        """Told how long a text is before it is read, for models whose positions depend on it."""

    def _reserve(self, positions: int) -> None:  # noqa: B027
        """Told how many positions there will be in all, for caches that do not grow by themselves."""

    @abstractmethod
    def _window_logits(self) -> Logits:
        """Logits over the last `context_length` tokens with positions from 0.

        Every position moves at every token, so nothing of the KV cache holds; it stays for later prompts.
        """
