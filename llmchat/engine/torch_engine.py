"""The engine on torch: one module, one KV cache, the ids that are in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from llmchat.chat.model import ModelInfo
from llmchat.engine.architectures.gpt import GPT
from llmchat.engine.architectures.llama import Llama
from llmchat.engine.engine import Logits, Prefill, PrefillProgress, StopSignal, common_prefix
from llmchat.engine.kv_cache import KVCache
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.tokenizers.tokenizer import Tokenizer

PREFILL_CHUNK = 256
"""Tokens read between two looks at the stop signal."""

_FIRST_CAPACITY = 2048


class TorchEngine:
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    def __init__(
        self,
        model: GPT | Llama,
        tokenizer: Tokenizer,
        info: ModelInfo,
        *,
        end_ids: tuple[int, ...],
        prompt_style: PromptStyle | None,
        device: torch.device,
    ) -> None:
        self.info = info
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.prompt_style = prompt_style
        self._model = model
        self._device = device
        self._cache = self._make_cache(1)
        self._cached_ids: list[int] = []
        self._ids: list[int] = []

    @property
    def slides(self) -> bool:
        """Learned positions restart at 0 over the last tokens, as llmbuilder does it."""
        return isinstance(self._model, GPT)

    @property
    def context_tokens(self) -> int:
        """How many tokens the model has before it now."""
        return min(len(self._ids), self.info.context_length)

    def streamed_bytes(self, context: int) -> int:
        """Bytes that a token behind this many others must read from memory."""
        return _weight_bytes(self._model) + context * self._cache.position_bytes

    @torch.inference_mode()
    def prefill(
        self, token_ids: Sequence[int], should_stop: StopSignal, on_progress: PrefillProgress | None = None
    ) -> Prefill:
        """Read a prompt, reusing the longest prefix that is in the KV cache."""
        self._ids = list(token_ids)
        if len(token_ids) > self.info.context_length:
            return Prefill(self._window_logits(), 0)
        # The last token is always read again: its logits are wanted.
        cached = min(common_prefix(self._cached_ids, self._ids), len(self._ids) - 1)
        self._forget_after(cached)
        self._reserve(len(self._ids))
        logits: Tensor | None = None
        for start in range(cached, len(self._ids), PREFILL_CHUNK):
            if should_stop():
                return Prefill(None, cached)
            chunk = self._ids[start : start + PREFILL_CHUNK]
            logits = self._step(chunk)
            if on_progress is not None:
                on_progress(start + len(chunk), len(self._ids))
        assert logits is not None
        return Prefill(self._finished(logits), cached)

    @torch.inference_mode()
    def decode(self, token_id: int) -> Logits:
        """Append one token and return the logits for the next."""
        self._ids.append(token_id)
        if len(self._ids) > self.info.context_length:
            return self._window_logits()
        self._reserve(len(self._ids))
        return self._finished(self._step([token_id]))

    def fork(self, lanes: int) -> TorchFork:
        """Begin `lanes` continuations of the text read so far; the engine's own stays as it is."""
        return TorchFork(self, lanes)

    def _step(self, token_ids: list[int]) -> Tensor:
        """Run the model over new tokens; the KV cache grows by them. Shape (1, vocab_size)."""
        logits: Tensor = self._model(torch.tensor([token_ids], device=self._device), self._cache)
        self._cached_ids += token_ids
        return logits

    def _window_logits(self) -> Logits:
        """Logits over the last `context_length` tokens with positions from 0.

        Every position moves at every token, so nothing of the KV cache holds.
        """
        assert isinstance(self._model, GPT)
        window = self._ids[-self.info.context_length :]
        return self._finished(self._model.window_logits(torch.tensor([window], device=self._device)))

    def _finished(self, logits: Tensor) -> Logits:
        """One row as numpy, with ids that the tokenizer lacks masked."""
        row: Logits = logits[0].float().cpu().numpy()
        row[self.tokenizer.vocab_size :] = -np.inf
        return row

    def _make_cache(self, positions: int, batch: int = 1) -> KVCache:
        capacity = max(positions, _FIRST_CAPACITY)
        return self._model.make_cache(min(1 << (capacity - 1).bit_length(), self.info.context_length), batch)

    def _reserve(self, positions: int) -> None:
        """Make room, at least doubling, so that growth costs little in all."""
        if positions > self._cache.capacity:
            larger = self._make_cache(positions)
            larger.copy_from(self._cache)
            self._cache = larger

    def _forget_after(self, length: int) -> None:
        self._cache.truncate(length)
        del self._cached_ids[length:]


class TorchFork:
    """Lanes that share what the engine has read, in a batched KV cache of their own."""

    def __init__(self, engine: TorchEngine, lanes: int) -> None:
        self._engine = engine
        self._texts = [list(engine._ids) for _ in range(lanes)]
        self._cache = engine._make_cache(engine._cache.length + 1, lanes)
        self._cache.copy_from(engine._cache)

    @torch.inference_mode()
    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""
        engine = self._engine
        for text, token_id in zip(self._texts, token_ids, strict=True):
            text.append(token_id)
        length = len(self._texts[0])
        if length > engine.info.context_length:
            assert isinstance(engine._model, GPT)
            windows = [text[-engine.info.context_length :] for text in self._texts]
            logits = engine._model.window_logits(torch.tensor(windows, device=engine._device))
        else:
            if length > self._cache.capacity:
                larger = engine._make_cache(length, len(self._texts))
                larger.copy_from(self._cache)
                self._cache = larger
            logits = engine._model(torch.tensor(token_ids, device=engine._device)[:, None], self._cache)
        return [engine._finished(row[None]) for row in logits]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with some of the lanes, by their present places; one that is named twice becomes two."""
        self._texts = [list(self._texts[lane]) for lane in lanes]
        self._cache.keep(lanes)


def _weight_bytes(model: GPT | Llama) -> int:
    """Bytes of weights that every token reads; of an embedding that is not the output layer too, it reads one row."""
    read_whole: list[nn.Module] = [module for module in model.modules() if not isinstance(module, nn.Embedding)]
    if isinstance(model, GPT):
        read_whole += [model.token_embedding] if model.lm_head is None else []
    else:
        read_whole += [model.embedding] if model.head is None else []
    return sum(weights.nbytes for module in read_whole for weights in module.parameters(recurse=False))
