"""The engine on the native decode step: the same contract as on torch, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmchat.chat.model import ModelInfo
from llmchat.engine.engine import Logits, Prefill, PrefillProgress, StopSignal, common_prefix
from llmchat.engine.native.model import NativeCache, NativeModel
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.tokenizers.tokenizer import Tokenizer

PREFILL_CHUNK = 32
"""Tokens read between two looks at the stop signal."""

_FIRST_CAPACITY = 256


class NativeEngine:
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    def __init__(
        self,
        model: NativeModel,
        tokenizer: Tokenizer,
        info: ModelInfo,
        *,
        end_ids: tuple[int, ...],
        prompt_style: PromptStyle | None,
        slides: bool,
    ) -> None:
        self.info = info
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.prompt_style = prompt_style
        self.slides = slides
        self.model = model
        self.cache = self._make_cache(1)
        self._window_cache: NativeCache | None = None
        self._cached_ids: list[int] = []
        self._ids: list[int] = []

    @property
    def context_tokens(self) -> int:
        """How many tokens the model has before it now."""
        return min(len(self._ids), self.info.context_length)

    def streamed_bytes(self, context: int) -> int:
        """Bytes that a token behind this many others must read from memory."""
        return self.model.weight_bytes + context * self.model.position_bytes

    def prefill(
        self, token_ids: Sequence[int], should_stop: StopSignal, on_progress: PrefillProgress | None = None
    ) -> Prefill:
        """Read a prompt, reusing the longest prefix that is in the KV cache."""
        self._ids = list(token_ids)
        if len(token_ids) > self.info.context_length:
            return Prefill(self._window_logits(), 0)
        # The last token is always read again: its logits are wanted.
        cached = min(common_prefix(self._cached_ids, self._ids), len(self._ids) - 1)
        del self._cached_ids[cached:]
        self._reserve(len(self._ids))
        logits: Logits | None = None
        for start in range(cached, len(self._ids), PREFILL_CHUNK):
            if should_stop():
                return Prefill(None, cached)
            chunk = self._ids[start : start + PREFILL_CHUNK]
            logits = self._extend(chunk)
            if on_progress is not None:
                on_progress(start + len(chunk), len(self._ids))
        return Prefill(logits, cached)

    def decode(self, token_id: int) -> Logits:
        """Append one token and return the logits for the next."""
        self._ids.append(token_id)
        if len(self._ids) > self.info.context_length:
            return self._window_logits()
        self._reserve(len(self._ids))
        return self._extend([token_id])

    def fork(self, lanes: int) -> NativeFork:
        """Begin `lanes` continuations of the text read so far; the engine's own stays as it is."""
        return NativeFork(self, lanes)

    def masked(self, logits: Logits) -> Logits:
        """The logits with ids that the tokenizer lacks at -inf."""
        logits[self.tokenizer.vocab_size :] = -np.inf
        return logits

    def window_logits(self, token_ids: Sequence[int], cache: NativeCache) -> Logits:
        """Logits over the last `context_length` tokens with positions from 0; the cache is written over."""
        window = token_ids[-self.info.context_length :]
        return self.masked(self.model.step(window, range(len(window)), [cache] * len(window)))

    def _extend(self, token_ids: list[int]) -> Logits:
        start = len(self._cached_ids)
        self._cached_ids += token_ids
        count = len(token_ids)
        return self.masked(self.model.step(token_ids, range(start, start + count), [self.cache] * count))

    def _window_logits(self) -> Logits:
        # Every position moves at every token: the KV cache is of no use, and stays for later prompts.
        if self._window_cache is None:
            self._window_cache = self._make_cache(self.info.context_length)
        return self.window_logits(self._ids, self._window_cache)

    def _make_cache(self, positions: int) -> NativeCache:
        capacity = max(positions, _FIRST_CAPACITY)
        return NativeCache(self.model, min(1 << (capacity - 1).bit_length(), self.info.context_length))

    def _reserve(self, positions: int) -> None:
        """Make room, at least doubling, so that growth costs little in all."""
        if positions > self.cache.capacity:
            self.cache = self.grown(self.cache, positions, len(self._cached_ids))

    def grown(self, cache: NativeCache, positions: int, length: int) -> NativeCache:
        """A cache with room for more positions that holds the first `length` of another."""
        larger = self._make_cache(positions)
        self.model.library.llmchat_cache_copy(self.model.handle, cache.handle, larger.handle, length)
        return larger

    @property
    def text(self) -> list[int]:
        """The ids that were read and drawn so far."""
        return list(self._ids)


class NativeFork:
    """Lanes that begin with what the engine has read, each in a KV cache of its own."""

    def __init__(self, engine: NativeEngine, lanes: int) -> None:
        self._engine = engine
        self._texts = [engine.text for _ in range(lanes)]
        length = min(len(engine.text), engine.info.context_length)
        self._caches = [engine.grown(engine.cache, length + 1, length) for _ in range(lanes)]

    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""
        engine = self._engine
        for text, token_id in zip(self._texts, token_ids, strict=True):
            text.append(token_id)
        length = len(self._texts[0])
        if length > engine.info.context_length:
            return [engine.window_logits(text, cache) for text, cache in zip(self._texts, self._caches, strict=True)]
        if length > self._caches[0].capacity:
            self._caches = [engine.grown(cache, length, length - 1) for cache in self._caches]
        rows = engine.model.step_lanes(token_ids, [length - 1] * len(token_ids), self._caches)
        return [engine.masked(row) for row in rows]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with some of the lanes, by their present places; one that is named twice becomes two."""
        length = min(len(self._texts[0]), self._engine.info.context_length)
        self._texts = [list(self._texts[lane]) for lane in lanes]
        self._caches = [
            self._caches[lane] if lane not in lanes[:place] else self._engine.grown(self._caches[lane], length, length)
            for place, lane in enumerate(lanes)
        ]
