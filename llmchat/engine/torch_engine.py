"""The engine on torch: one module, one KV cache, the ids that are in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llmchat.chat.model import ModelInfo
from llmchat.engine.architectures.gpt import GPT
from llmchat.engine.architectures.llama import Llama
from llmchat.engine.engine import Logits
from llmchat.engine.kv_cache import KVCache
from llmchat.engine.prefix_engine import PrefixEngine
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.tokenizers.tokenizer import Tokenizer


class TorchEngine(PrefixEngine):
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    CHUNK = 256

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
        slides = isinstance(model, GPT)
        super().__init__(tokenizer, info, end_ids=end_ids, prompt_style=prompt_style, slides=slides)
        self.model = model
        self.device = device
        self.cache = self.make_cache(1)

    def streamed_bytes(self, context: int) -> int:
        """Bytes that a token behind this many others must read from memory."""
        return _weight_bytes(self.model) + context * self.cache.position_bytes

    def fork(self, lanes: int) -> TorchFork:
        """Begin `lanes` continuations of the text read so far; the engine's own stays as it is."""
        return TorchFork(self, lanes)

    def make_cache(self, positions: int, batch: int = 1) -> KVCache:
        """An empty KV cache with room for at least as many positions of `batch` sequences."""
        return self.model.make_cache(self.capacity_for(positions), batch)

    def window_logits(self, texts: Sequence[Sequence[int]]) -> list[Logits]:
        """Logits over the last `context_length` tokens of each text with positions from 0."""
        assert isinstance(self.model, GPT)
        windows = [text[-self.info.context_length :] for text in texts]
        return self.rows(self.model.window_logits(torch.tensor(windows, device=self.device)))

    def rows(self, logits: Tensor) -> list[Logits]:
        """Logits of shape (batch, vocab_size) as a masked numpy array for each row."""
        return [self.masked(row.float().cpu().numpy()) for row in logits]

    @torch.inference_mode()
    def _extend(self, token_ids: list[int], start: int, *, wants_logits: bool) -> Logits | None:
        self.cache.truncate(start)
        logits = self.model(torch.tensor([token_ids], device=self.device), self.cache)
        return self.rows(logits)[0] if wants_logits else None

    @torch.inference_mode()
    def _window_logits(self) -> Logits:
        return self.window_logits([self._ids])[0]

    @torch.inference_mode()
    def _reserve(self, positions: int) -> None:
        if positions > self.cache.capacity:
            larger = self.make_cache(positions)
            larger.copy_from(self.cache)
            self.cache = larger


class TorchFork:
    """Lanes that share what the engine has read, in a batched KV cache of their own."""

    @torch.inference_mode()
    def __init__(self, engine: TorchEngine, lanes: int) -> None:
        self._engine = engine
        self._texts = [engine.text for _ in range(lanes)]
        self._cache = engine.make_cache(engine.cache.length + 1, lanes)
        self._cache.copy_from(engine.cache)

    @torch.inference_mode()
    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""
        engine = self._engine
        for text, token_id in zip(self._texts, token_ids, strict=True):
            text.append(token_id)
        length = len(self._texts[0])
        if length > engine.info.context_length:
            return engine.window_logits(self._texts)
        if length > self._cache.capacity:
            larger = engine.make_cache(length, len(self._texts))
            larger.copy_from(self._cache)
            self._cache = larger
        return engine.rows(engine.model(torch.tensor(token_ids, device=engine.device)[:, None], self._cache))

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
