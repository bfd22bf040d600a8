"""The engine on transformers: the same contract, on a network and a cache of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from llmchat.chat.model import ModelInfo
from llmchat.engine.engine import Logits
from llmchat.engine.extras.transformers_model import TransformersModel
from llmchat.engine.prefix_engine import PrefixEngine
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.tokenizers.tokenizer import Tokenizer

_COPY_EVERY = 256
"""Tokens of a prompt between two lengths that a cache which cannot be cropped may go back to."""


class TransformersEngine(PrefixEngine):
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    chunk = 256

    def __init__(
        self,
        model: TransformersModel,
        tokenizer: Tokenizer,
        info: ModelInfo,
        *,
        end_ids: tuple[int, ...],
        prompt_style: PromptStyle | None,
        stretched_from: int = 0,
    ) -> None:
        """An engine that has read nothing.

        Args:
            model: What runs.
            tokenizer: The model's.
            info: What was opened.
            end_ids: The tokens that end a reply.
            prompt_style: How a chat becomes a prompt.
            stretched_from: The length beyond which all positions are stretched; 0 for none.
        """
        super().__init__(tokenizer, info, None, end_ids=end_ids, prompt_style=prompt_style)
        self._long_from = stretched_from
        self.model = model
        self.cache = model.make_cache() if model.reading != "anew" else None
        self._forgets = self.cache is not None and self.cache.forgets

    def streamed_bytes(self, context: int) -> int:
        """Bytes that a token behind this many others must read from memory, about."""
        return self.model.weight_bytes + context * self.model.position_bytes

    def fork(self, lanes: int) -> TransformersFork:
        """Begin `lanes` continuations of the text read so far; the engine's own stays as it is."""
        return TransformersFork(self, lanes)

    def rows(self, logits: Tensor) -> list[Logits]:
        """Logits of shape (texts, vocab_size) as a masked numpy array for each row."""
        return [self.masked(row) for row in logits.cpu().numpy()]

    def windows(self, texts: Sequence[Sequence[int]]) -> list[Logits]:
        """Logits behind the last `context_length` tokens of each text, read anew."""
        return self.rows(self.model.logits([text[-self.info.context_length :] for text in texts]))

    def _chunks(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        if self.model.reading != "tokens":
            yield from super()._chunks(start, end)
            return
        if start == 0 and end > 1:
            yield 0, end - 1
            start = end - 1
        yield from pairwise(range(start, end + 1))

    def _rewind(self, length: int) -> int:
        return 0 if self.cache is None else self.cache.go_back(length)

    def _mark(self, length: int) -> None:
        if self.cache is not None:
            self.cache.copy_state()

    def _extend(self, token_ids: list[int], start: int, *, wants_logits: bool) -> Logits | None:
        if self.cache is None:
            return self.windows([self._ids])[0] if wants_logits else None
        if self.cache.length != start:
            # It failed in the middle.
            self.cache.clear()
            self.model.logits([self._ids[:start]], self.cache)
        logits = self.model.logits([token_ids], self.cache)
        if wants_logits:
            return self.rows(logits)[0]
        if self.cache.length - self.cache.copied_length >= _COPY_EVERY:
            self.cache.copy_state()
        return None

    def _window_logits(self) -> Logits:
        return self.windows([self._ids])[0]


class TransformersFork:
    """Lanes that share what the engine has read, in a batched cache of their own."""

    def __init__(self, engine: TransformersEngine, lanes: int) -> None:
        self._engine = engine
        self._texts = [engine.text for _ in range(lanes)]
        self._cache: Any = engine.cache and engine.cache.branches([0] * lanes)

    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""
        engine = self._engine
        for text, token_id in zip(self._texts, token_ids, strict=True):
            text.append(token_id)
        if self._cache is None or len(self._texts[0]) > engine.info.context_length:
            return engine.windows(self._texts)
        return engine.rows(engine.model.logits([[token_id] for token_id in token_ids], self._cache))

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with some of the lanes, by their present places; one that is named twice becomes two."""
        self._texts = [list(self._texts[lane]) for lane in lanes]
        self._cache = self._cache and self._cache.branches(lanes)
