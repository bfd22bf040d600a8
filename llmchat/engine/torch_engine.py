"""The engine on torch: one module, one KV cache, the ids that are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from llmchat.chat.model import ModelInfo
from llmchat.engine.architectures.network import Network
from llmchat.engine.cuda_graph import Capture, StaticDecoder, Step
from llmchat.engine.engine import Logits
from llmchat.engine.kv_cache import KVCache
from llmchat.engine.prefix_engine import PrefixEngine
from llmchat.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmchat.tokenizers.prompt_style import PromptStyle

_FIRST_CAPACITY = 256


class TorchEngine(PrefixEngine):
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    chunk = 256

    def __init__(
        self,
        model: Network,
        tokenizer: Tokenizer,
        info: ModelInfo,
        *,
        end_ids: tuple[int, ...],
        prompt_style: PromptStyle | None,
        device: torch.device,
        capture: Capture | None = None,
    ) -> None:
        """An engine that has read nothing.

        Args:
            model: Its weights are on the device.
            tokenizer: The model's.
            info: What was opened; `cuda_graph` is set here.
            end_ids: The tokens that end a reply.
            prompt_style: How a chat becomes a prompt.
            device: Where the model runs.
            capture: Records decode steps for replay; None decodes on views of the cache, which suits a CPU.
        """
        super().__init__(tokenizer, info, model.plan, end_ids=end_ids, prompt_style=prompt_style)
        self.model = model
        self.device = device
        # A recorded step is tried before it counts, which states of fixed size would remember.
        self._is_static = capture is not None and model.plan.goes_back
        self._capture = capture
        self.cache = self.make_cache(1)
        self._decoder = self.make_decoder(self.cache)
        if isinstance(self._decoder, StaticDecoder):
            self.info = replace(info, cuda_graph=True)
            # At once, so that a refusal is known when the model is.
            with torch.inference_mode():
                self._decoder.capture()

    def streamed_bytes(self, context: int) -> int:
        """Bytes that a token behind this many others must read from memory."""
        seen = self.model.plan.keys_seen(context)
        numbers = sum(2 * attention.kv_dim * count for attention, count in seen)
        return _weight_bytes(self.model) + numbers * self.cache.dtype.itemsize

    def fork(self, lanes: int) -> TorchFork:
        """Begin `lanes` continuations of the text read so far; the engine's own stays as it is."""
        return TorchFork(self, lanes)

    def make_cache(self, positions: int, batch: int = 1) -> KVCache:
        """An empty KV cache with room for at least as many positions of `batch` sequences."""
        # At least doubled, so that growth costs little in all.
        wanted = 1 << (max(positions, _FIRST_CAPACITY) - 1).bit_length()
        return self.model.make_cache(min(wanted, self.info.context_length), batch)

    def make_decoder(self, cache: KVCache) -> Decoder:
        """What decodes on a KV cache, for as long as there is room in it."""
        if self._is_static:
            return StaticDecoder(self.model, cache, self._captured)
        return ViewDecoder(self.model, cache)

    def window_logits(self, texts: Sequence[Sequence[int]]) -> list[Logits]:
        """Logits over the last `context_length` tokens of each text with positions from 0."""
        windows = [text[-self.info.context_length :] for text in texts]
        return self.rows(self.model.window_logits(torch.tensor(windows, device=self.device)))

    def rows(self, logits: Tensor) -> list[Logits]:
        """Logits of shape (batch, vocab_size) as a masked numpy array for each row."""
        return [self.masked(row.float().cpu().numpy()) for row in logits]

    def use_scale(self, scale: float) -> None:
        """Let this much of the adapter count in the next steps."""
        if self.info.lora:
            self.model.set_lora_scale(scale)

    def _captured(self, step: Step) -> Step:
        """The step recorded; if that was ever refused, the step itself."""
        if self._capture is None:
            return step
        try:
            return self._capture(step)
        except RuntimeError as error:
            self._capture = None
            reason = (str(error).splitlines() or ["no reason given"])[0]
            note = f"The GPU is given each step kernel by kernel, because a CUDA graph was refused: {reason}"
            self.info = replace(self.info, cuda_graph=False, notes=(*self.info.notes, note))
            return step

    @torch.inference_mode()
    def _extend(self, token_ids: list[int], start: int, *, wants_logits: bool) -> Logits | None:
        if len(token_ids) == 1:
            logits = self._decoder.decode(token_ids)
        else:
            logits = self.model(torch.tensor([token_ids], device=self.device), self.cache)
        return self.rows(logits)[0] if wants_logits else None

    @torch.inference_mode()
    def _window_logits(self) -> Logits:
        return self.window_logits([self._ids])[0]

    @torch.inference_mode()
    def _rewind(self, length: int) -> int:
        return self.cache.rewind(length)

    def _set_length(self, length: int) -> None:
        self.cache.text_length = length

    @torch.inference_mode()
    def _mark(self, length: int) -> None:
        self.cache.mark()

    @torch.inference_mode()
    def _reserve(self, positions: int) -> None:
        if positions > self.cache.capacity:
            larger = self.make_cache(positions)
            larger.copy_from(self.cache, [0])
            self.cache, self._decoder = larger, self.make_decoder(larger)


class TorchFork:
    """Lanes that share what the engine has read, in a batched KV cache of their own."""

    @torch.inference_mode()
    def __init__(self, engine: TorchEngine, lanes: int) -> None:
        self._engine, self._scale = engine, engine.lora_scale
        self._texts = [engine.text for _ in range(lanes)]
        self._move(engine.cache, engine.cache.length + 1, [0] * lanes)

    @torch.inference_mode()
    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""
        engine = self._engine
        engine.use_scale(self._scale)
        for text, token_id in zip(self._texts, token_ids, strict=True):
            text.append(token_id)
        length = len(self._texts[0])
        if length > engine.info.context_length:
            return engine.window_logits(self._texts)
        if length > self._cache.capacity:
            self._move(self._cache, length, range(len(self._texts)))
        return engine.rows(self._decoder.decode(token_ids))

    @torch.inference_mode()
    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with some of the lanes, by their present places; one that is named twice becomes two."""
        self._texts = [list(self._texts[lane]) for lane in lanes]
        self._move(self._cache, self._cache.capacity, lanes)

    def _move(self, source: KVCache, positions: int, lanes: Sequence[int]) -> None:
        """Go on in a new cache, each lane from the one of the source that is named for it."""
        self._cache = self._engine.make_cache(positions, len(lanes))
        self._cache.copy_from(source, lanes)
        self._decoder = self._engine.make_decoder(self._cache)


class Decoder(Protocol):
    """Decodes on one KV cache."""

    def decode(self, token_ids: Sequence[int]) -> Tensor:
        """Append one token to each sequence and give the logits for the next, shape (batch, vocab_size)."""


class ViewDecoder:
    """Decodes on what the cache holds and no more, which its length tells."""

    def __init__(self, model: Network, cache: KVCache) -> None:
        self._model, self._cache = model, cache

    def decode(self, token_ids: Sequence[int]) -> Tensor:
        """Append one token to each sequence and give the logits for the next, shape (batch, vocab_size)."""
        ids = torch.tensor(token_ids, device=self._cache.device)[:, None]
        logits: Tensor = self._model(ids, self._cache)
        return logits


def _weight_bytes(model: Network) -> int:
    """Bytes of weights that every token reads; of an embedding that is not the output layer too, it reads one row."""
    read_whole: list[nn.Module] = [module for module in model.modules() if not isinstance(module, nn.Embedding)]
    read_whole += [model.embedding] if model.head is None else []
    return sum(weights.nbytes for module in read_whole for weights in module.parameters(recurse=False))
