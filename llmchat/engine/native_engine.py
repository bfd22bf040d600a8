"""The engine on the native decode step: the same contract as on torch, without torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmchat.chat.model import ModelInfo
from llmchat.chat.prompt_facts import digest
from llmchat.checkpoints.fingerprint import fingerprint
from llmchat.engine.cache_pool import WORTH, CachePool, PooledText
from llmchat.engine.engine import KeepsSnapshots, Logits
from llmchat.engine.free_memory import free_memory
from llmchat.engine.kv_snapshot import KVSnapshot, common_prefix
from llmchat.engine.native.cache import NativeCache
from llmchat.engine.native.library import WIDTH
from llmchat.engine.native.model import NativeModel
from llmchat.engine.pass_costs import PassCosts
from llmchat.engine.prefix_engine import PrefixEngine
from llmchat.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmchat.tokenizers.prompt_style import PromptStyle

_SECONDS_BETWEEN_LOOKS = 0.4
_FEWEST = 24
"""Tokens: fewer would read the weights of a large model too often."""

_MOST_DRAFTED = 7
"""Tokens: in a pass over more, the model computes for longer than it reads its weights."""

_COPY_SHARE = 4
"""A copy of the KV cache takes this part of the free memory at most."""

_POOL_SHARE, _POOL_BYTES = 8, 2**30
"""The KV caches of texts that were left take this part of the free memory at most, and so many bytes."""


_LEFT = 4
"""A text is left where so many times as much of it would be lost as the next one shares; else that one takes its place,
as another reply to the same prompt does."""


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
        self.most_drafted = _MOST_DRAFTED if model.plan.goes_back else 0
        self._costs = PassCosts()
        free = free_memory()
        self._pool = CachePool(_POOL_BYTES if free is None else min(free // _POOL_SHARE, _POOL_BYTES))
        self.snapshot_kind = _kind_of_snapshots(model, info)

    @property
    def snapshots(self) -> KeepsSnapshots | None:
        """For what it has read, where that can be gone back to."""
        return self if self.model.plan.goes_back and self.snapshot_kind else None

    def known(self, token_ids: Sequence[int]) -> int:
        """How many leading tokens of a prompt are in memory, under the present scale."""
        scales = [self.lora_scale] * len(token_ids)
        return max(self._present.shared_with(token_ids, scales), self._pool.shared_with(token_ids, scales))

    def snapshot(self, most_bytes: int) -> KVSnapshot | None:
        """A copy of what has been read; None where it is larger, or cannot be gone on from."""
        length = common_prefix(self._cached_ids, self._ids)
        free = free_memory()
        most_bytes = most_bytes if free is None else min(most_bytes, free // _COPY_SHARE)
        if len(self._ids) > self.info.context_length or length * self.model.position_bytes > most_bytes:
            return None
        ids, scales = self._cached_ids[:length], self._cached_scales[:length]
        return KVSnapshot(np.array(ids, np.int32), np.array(scales, np.float64), self.cache.image(length))

    def take_up(self, snapshot: KVSnapshot) -> None:
        """Go on from a snapshot of this kind; what was read before may be gone on from still."""
        ids, scales, cache = snapshot.token_ids.tolist(), snapshot.scales.tolist(), NativeCache(self.model)
        if cache.take_up(snapshot.image, len(ids)):
            self._pool.put(self._present)
            self._go_on_from(PooledText(ids, scales, cache))

    def pass_cost(self, positions: int) -> float:
        """How long one pass over so many positions takes, in passes over one."""
        return self._costs.of(positions)

    def streamed_bytes(self, context: int) -> int:
        """Bytes that a token behind this many others must read from memory."""
        plan = self.model.plan
        held = sum(layer.attention.kv_dim for layer in plan.layers if layer.attention.keys_of is None)
        seen = sum(attention.kv_dim * count for attention, count in plan.keys_seen(context))
        return self.model.weight_bytes + self.model.position_bytes * seen // held

    def fork(self, lanes: int) -> NativeFork:
        """Begin `lanes` continuations of the text read so far; the engine's own stays as it is."""
        return NativeFork(self, lanes)

    def lanes(self) -> NativeFork | None:
        """No texts yet, to be advanced together; None where the positions of one depend on how long it is."""
        return None if self._is_long(self.info.context_length) else NativeFork(self, 0)

    def window_logits(self, token_ids: Sequence[int], cache: NativeCache) -> Logits:
        """Logits over the last `context_length` tokens with positions from 0; the cache is written over."""
        window = token_ids[-self.info.context_length :]
        cache.reserve(0, len(window))
        return self.masked(self.model.step(window, range(len(window)), [cache] * len(window)))

    def use_scale(self, scale: float) -> None:
        """Let this much of the adapter count in the next steps."""
        if self.info.lora:
            self.model.set_lora_scale(scale)

    def _extend(self, token_ids: list[int], start: int, *, wants_logits: bool) -> Logits | None:
        self.cache.reserve(start, start + len(token_ids))
        places, caches = range(start, start + len(token_ids)), [self.cache] * len(token_ids)
        began = time.perf_counter()
        if wants_logits:
            logits = self.model.step(token_ids, places, caches)
            self._costs.note(len(token_ids), time.perf_counter() - began)
            return self.masked(logits)
        self.model.read(token_ids, places, caches)
        self.chunk = _chunk_for(len(token_ids) / (time.perf_counter() - began))
        return None

    def _extend_ahead(self, token_ids: list[int], start: int) -> list[Logits]:
        end = start + len(token_ids)
        self.cache.reserve(start, end)
        began = time.perf_counter()
        rows = self.model.step_all(token_ids, range(start, end), [self.cache] * len(token_ids))
        self._costs.note(len(token_ids), time.perf_counter() - began)
        return [self.masked(row) for row in rows]

    def _rewind(self, length: int) -> int:
        return self.cache.rewind(length)

    @property
    def _present(self) -> PooledText:
        return PooledText(self._cached_ids, self._cached_scales, self.cache)

    def _go_on_from(self, text: PooledText) -> None:
        self._cached_ids, self._cached_scales, self.cache = text.token_ids, text.scales, text.cache

    def _choose_cache(self) -> None:
        """Go on from the text in memory that shares the most with the one to be read, and lose none that is left."""
        present, shared = self._present, self._shared_prefix()
        if (better := self._pool.take(self._ids, self._scales, shared + WORTH)) is not None:
            self._pool.put(present)
            self._go_on_from(better)
        elif len(present.token_ids) - shared >= max(WORTH, _LEFT * shared):
            self._pool.put(present)
            kept = 0 if self._forgets or not self.model.plan.goes_back else shared
            cache = present.cache.copy(kept) if kept else NativeCache(self.model)
            self._go_on_from(PooledText(present.token_ids[:kept], present.scales[:kept], cache))

    def _mark(self, length: int) -> None:
        self.cache.mark(length)

    def _set_length(self, length: int) -> None:
        self.model.set_length(length)

    def _window_logits(self) -> Logits:
        if self._window_cache is None:
            self._window_cache = NativeCache(self.model)
        return self.window_logits(self._ids, self._window_cache)


def _kind_of_snapshots(model: NativeModel, info: ModelInfo) -> str:
    """What snapshots are of use to: these files as they are now, this plan, these kernels, this build; "" for none."""
    files = [fingerprint(Path(path)) for path in (info.path, info.lora) if path]
    if not all(files):
        return ""
    return digest(repr((files, model.plan, info.dtype, model.library.llmchat_sources())))


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
        self._texts: list[list[int]] = []
        self._caches: list[NativeCache] = []
        for _ in range(lanes):
            self.join()

    def join(self) -> None:
        """Take up the text that the engine has read, under its scale, as one more lane: the last."""
        text = self._engine.text
        self._caches.append(self._engine.cache.copy(self._positions(text)))
        self._texts.append(text)

    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""
        engine = self._engine
        engine.use_scale(self._scale)
        for text, token_id in zip(self._texts, token_ids, strict=True):
            text.append(token_id)
        fits = [len(text) <= engine.info.context_length for text in self._texts]
        stepped = iter(self._stepped([lane for lane, fit in enumerate(fits) if fit]))
        return [
            engine.masked(next(stepped)) if fit else engine.window_logits(text, cache)
            for fit, text, cache in zip(fits, self._texts, self._caches, strict=True)
        ]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with some of the lanes, by their present places; one that is named twice becomes two."""
        self._caches = [
            self._caches[lane]
            if lane not in lanes[:place]
            else self._caches[lane].copy(self._positions(self._texts[lane]))
            for place, lane in enumerate(lanes)
        ]
        self._texts = [list(self._texts[lane]) for lane in lanes]

    def _stepped(self, lanes: Sequence[int]) -> Sequence[Logits]:
        """Run the model over the last token of some lanes."""
        if not lanes:
            return ()
        texts, caches = [self._texts[lane] for lane in lanes], [self._caches[lane] for lane in lanes]
        places = [len(text) - 1 for text in texts]
        for place, cache in zip(places, caches, strict=True):
            cache.reserve(place, place + 1)
        return list(self._engine.model.step_all([text[-1] for text in texts], places, caches))

    def _positions(self, text: Sequence[int]) -> int:
        """How many positions of a text are in its KV cache."""
        return min(len(text), self._engine.info.context_length)
