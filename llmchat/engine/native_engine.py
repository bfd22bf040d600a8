"""The engine on the native decode step: the same contract as on torch, without torch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from llmchat.chat.model import ModelInfo
from llmchat.engine.engine import Logits
from llmchat.engine.native.cache import NativeCache
from llmchat.engine.native.library import WIDTH
from llmchat.engine.native.model import NativeModel
from llmchat.engine.prefix_engine import PrefixEngine
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.tokenizers.tokenizer import Tokenizer

_SECONDS_BETWEEN_LOOKS = 0.4
_FEWEST = 24
"""Tokens: fewer would read the weights of a large model too often."""


class NativeEngine(PrefixEngine):
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    chunk = _FEWEST

    def __init__(
        self,
        model: NativeModel,
        tokenizer: Tokenizer,
        info: ModelInfo,
        *,
        end_ids: tuple[int, ...],
        prompt_style: PromptStyle | None,
    ) -> None:
        super().__init__(tokenizer, info, model.plan, end_ids=end_ids, prompt_style=prompt_style)
        self.model = model
        self.cache = NativeCache(model)
        self._window_cache: NativeCache | None = None

    def streamed_bytes(self, context: int) -> int:
        """Bytes that a token behind this many others must read from memory."""
        of_layer = self.model.position_bytes // len(self.model.plan.layers)
        return self.model.weight_bytes + self.model.plan.keys_seen(context) * of_layer

    def fork(self, lanes: int) -> NativeFork:
        """Begin `lanes` continuations of the text read so far; the engine's own stays as it is."""
        return NativeFork(self, lanes)

    def window_logits(self, token_ids: Sequence[int], cache: NativeCache) -> Logits:
        """Logits over the last `context_length` tokens with positions from 0; the cache is written over."""
        window = token_ids[-self.info.context_length :]
        cache.reserve(0, len(window))
        return self.masked(self.model.step(window, range(len(window)), [cache] * len(window)))

    def use_scale(self, scale: float) -> None:
        """Let this much of the adapter count in the next steps."""
        self.model.set_lora_scale(scale)

    def _extend(self, token_ids: list[int], start: int, *, wants_logits: bool) -> Logits | None:
        self.cache.reserve(start, start + len(token_ids))
        places, caches = range(start, start + len(token_ids)), [self.cache] * len(token_ids)
        if wants_logits:
            return self.masked(self.model.step(token_ids, places, caches))
        began = time.perf_counter()
        self.model.read(token_ids, places, caches)
        self.chunk = _chunk_for(len(token_ids) / (time.perf_counter() - began))
        return None

    def _rewind(self, length: int) -> int:
        return self.cache.rewind(length)

    def _mark(self, length: int) -> None:
        self.cache.mark(length)

    def _set_length(self, length: int) -> None:
        self.model.set_length(length)

    def _window_logits(self) -> Logits:
        if self._window_cache is None:
            self._window_cache = NativeCache(self.model)
        return self.window_logits(self._ids, self._window_cache)


def _chunk_for(rate: float) -> int:
    """How many tokens to read at once, in whole tiles, that a stop is obeyed soon.

    Args:
        rate: Tokens a second.
    """
    return max(_FEWEST, min(int(rate * _SECONDS_BETWEEN_LOOKS) // _FEWEST * _FEWEST, WIDTH))


class NativeFork:
    """Lanes that begin with what the engine has read, each in a KV cache of its own."""

    def __init__(self, engine: NativeEngine, lanes: int) -> None:
        self._engine, self._scale = engine, engine.lora_scale
        self._texts = [engine.text for _ in range(lanes)]
        length = min(len(engine.text), engine.info.context_length)
        self._caches = [engine.cache.copy(length) for _ in range(lanes)]

    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""
        engine = self._engine
        engine.use_scale(self._scale)
        for text, token_id in zip(self._texts, token_ids, strict=True):
            text.append(token_id)
        length = len(self._texts[0])
        if length > engine.info.context_length:
            return [engine.window_logits(text, cache) for text, cache in zip(self._texts, self._caches, strict=True)]
        for cache in self._caches:
            cache.reserve(length - 1, length)
        rows = engine.model.step_lanes(token_ids, [length - 1] * len(token_ids), self._caches)
        return [engine.masked(row) for row in rows]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with some of the lanes, by their present places; one that is named twice becomes two."""
        length = min(len(self._texts[0]), self._engine.info.context_length)
        self._texts = [list(self._texts[lane]) for lane in lanes]
        self._caches = [
            self._caches[lane] if lane not in lanes[:place] else self._caches[lane].copy(length)
            for place, lane in enumerate(lanes)
        ]
