"""What the engines share: reading a prompt in chunks, and keeping of the KV cache what the next one begins with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llmchat.chat.model import ModelInfo
from llmchat.engine.engine import KeepsSnapshots, Lanes, Logits, Prefill, PrefillProgress, StopSignal
from llmchat.engine.kv_snapshot import common_prefix
from llmchat.models.plan import ModelPlan
from llmchat.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmchat.tokenizers.prompt_style import PromptStyle


class PrefixEngine(ABC):
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    chunk: int
    """Tokens read between two looks at the stop signal."""

    most_drafted = 0
    """How many tokens of a draft `decode` looks at."""

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
        self._long_from = 0 if plan is None else plan.long_from
        self._forgets = plan is not None and plan.forgets
        self._lora_scale = 1.0
        self._ids: list[int] = []
        self._scales: list[float] = []
        self._cached_ids: list[int] = []
        self._cached_scales: list[float] = []
        self._ahead: deque[Logits] = deque()  # behind the tokens of a draft that stand in the KV cache behind the text

    @property
    def snapshots(self) -> KeepsSnapshots | None:
        """What it has read is not kept."""
        return None

    @property
    def text(self) -> list[int]:
        """The ids that were read and drawn so far."""
        return list(self._ids)

    @property
    def context_tokens(self) -> int:
        """How many tokens the model has before it now."""
        return min(len(self._ids), self.info.context_length)

    @property
    def lora_scale(self) -> float:
        """How much of the adapter counts in what is read from here on; without one, assigning does nothing."""
        return self._lora_scale

    @lora_scale.setter
    def lora_scale(self, scale: float) -> None:
        if self.info.lora:
            self._lora_scale = scale

    def prefill(
        self,
        token_ids: Sequence[int],
        should_stop: StopSignal,
        on_progress: PrefillProgress | None = None,
        lora_scales: Sequence[float] | None = None,
    ) -> Prefill:
        """Read a prompt, reusing the longest prefix that is in the KV cache and was read under the same scales."""
        self._ahead.clear()
        self._ids = list(token_ids)
        self._scales = [self.lora_scale] * len(self._ids) if lora_scales is None else list(lora_scales)
        if len(token_ids) > self.info.context_length:
            return Prefill(self._slid_logits(), 0)
        self._choose_cache()
        self._forget_other_lengths(len(token_ids))
        # The last token is always read again: its logits are wanted.
        cached = self._rewind(min(self._shared_prefix(), len(self._ids) - 1))
        del self._cached_ids[cached:], self._cached_scales[cached:]
        self._reserve(len(self._ids))
        logits: Logits | None = None
        for start, end in self._chunks(cached, len(self._ids)):
            if should_stop():
                return Prefill(None, cached)
            is_last = end == len(self._ids)
            if is_last and self._forgets:
                self._mark(start)
            logits = self._append(start, end, wants_logits=is_last)
            if on_progress is not None:
                on_progress(end, len(self._ids))
        return Prefill(logits, cached)

    def pass_cost(self, positions: int) -> float:
        """How long one pass over so many positions takes, in passes over one."""
        return float(positions)

    def decode(self, token_id: int, draft: Sequence[int] = ()) -> Logits:
        """Append one token and return the logits for the next, from a pass over a draft if it stood there."""
        self._ids.append(token_id)
        self._scales.append(self._lora_scale)
        if self._ahead:
            if self._stands_ahead():
                return self._ahead.popleft()
            self._take_back()
        length = len(self._ids)
        if length > self.info.context_length:
            return self._slid_logits()
        if self._long_from and self._is_long(length) != self._is_long(len(self._cached_ids)):
            # Every position is stretched anew from here on.
            read = self.prefill(self._ids, lambda: False, lora_scales=self._scales).logits
            assert read is not None
            return read
        if draft and (drafted := self._drafted(draft)):
            self._ahead = deque(self._append_ahead(drafted))
            return self._ahead.popleft()
        self._reserve(length)
        logits = self._append(length - 1, length, wants_logits=True)
        assert logits is not None
        return logits

    def _stands_ahead(self) -> bool:
        """Whether the text's last token is the one of the draft that follows in the KV cache, under the same scale."""
        last = len(self._ids) - 1
        return self._cached_ids[last] == self._ids[last] and self._cached_scales[last] == self._scales[last]

    def _take_back(self) -> None:
        """Let go of what is left of a draft."""
        length = len(self._ids) - 1
        self._ahead.clear()
        self._rewind(length)
        del self._cached_ids[length:], self._cached_scales[length:]

    def _drafted(self, draft: Sequence[int]) -> Sequence[int]:
        """As much of a draft as the model can run over with the text's last token."""
        length = len(self._ids)
        room = min(self.most_drafted, self.info.context_length - length)
        if self._is_long(length + room) != self._is_long(length):
            return ()
        return draft[:room]

    def _append_ahead(self, draft: Sequence[int]) -> list[Logits]:
        """Read the text's last token and a draft behind it; the logits behind each."""
        start, ids = len(self._ids) - 1, [self._ids[-1], *draft]
        self._cached_ids += ids
        self._cached_scales += [self.lora_scale] * len(ids)
        self.use_scale(self.lora_scale)
        return self._extend_ahead(ids, start)

    def lanes(self) -> Lanes | None:
        """Texts of different lengths that are advanced together: here there are none."""
        return None

    def masked(self, logits: Logits) -> Logits:
        """The logits, those of ids that the tokenizer lacks set to -inf."""
        if self._vocab_size < len(logits):
            logits[self._vocab_size :] = -np.inf
        return logits

    @cached_property
    def _vocab_size(self) -> int:
        """How many ids the tokenizer has: it is asked once, not for every token."""
        return self.tokenizer.vocab_size

    def _forget_other_lengths(self, length: int) -> None:
        """Let go of keys whose positions were stretched for texts of another length."""
        if self._is_long(len(self._cached_ids)) != self._is_long(length):
            self._cached_ids, self._cached_scales = [], []
        self._set_length(length)

    def _is_long(self, length: int) -> bool:
        """Whether the positions of a text of this length are stretched as in long ones."""
        return 0 < self._long_from < length

    def _shared_prefix(self) -> int:
        """How much of the text is in the KV cache."""
        return min(common_prefix(self._cached_ids, self._ids), common_prefix(self._cached_scales, self._scales))

    def _chunks(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What is read between two looks at the stop signal, each under one scale."""
        # Where not every length can be gone back to, that before the last token must be: it is wanted the most.
        apart = end - int(self._forgets)
        while start < end:
            last = min(start + self.chunk, apart if start < apart else end)
            scale = self._scales[start]
            last = next((place for place in range(start, last) if self._scales[place] != scale), last)
            yield start, last
            start = last

    def _append(self, start: int, end: int, *, wants_logits: bool) -> Logits | None:
        """Read part of the text, which follows what is in the KV cache."""
        token_ids, scales = self._ids[start:end], self._scales[start:end]
        self._cached_ids += token_ids
        self._cached_scales += scales
        self.use_scale(scales[0])
        return self._extend(token_ids, start, wants_logits=wants_logits)

    def _slid_logits(self) -> Logits:
        self.use_scale(self.lora_scale)
        return self._window_logits()

    def use_scale(self, scale: float) -> None:  # noqa: B027
        """Let this much of the adapter count in the next steps, where there is one."""

    @abstractmethod
    def _extend(self, token_ids: list[int], start: int, *, wants_logits: bool) -> Logits | None:
        """Run new tokens, which follow the first `start` positions of the KV cache; logits of the last, if wanted."""

    def _extend_ahead(self, token_ids: list[int], start: int) -> list[Logits]:
        """As `_extend`, with the logits behind each of them; for engines that look at drafts."""
        raise NotImplementedError

    @abstractmethod
    def _rewind(self, length: int) -> int:
        """Go back to the first `length` positions of the KV cache, or to as many as it still can; returns how many."""

    def _choose_cache(self) -> None:  # noqa: B027
        """Told that another text is to be read, for engines that keep several."""

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
