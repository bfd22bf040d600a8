"""The engine on llama.cpp: the same contract, on a network and contexts of its own."""

from __future__ import annotations

from collections.abc import Sequence

from llmchat.chat.model import ModelInfo
from llmchat.engine.engine import Logits
from llmchat.engine.extras.copies import Copies
from llmchat.engine.extras.llama_cpp_model import LlamaCppContext, LlamaCppModel, Placed, State
from llmchat.engine.prefix_engine import PrefixEngine
from llmchat.errors import GenerationError
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.tokenizers.tokenizer import Tokenizer

_FIRST_ROOM = 2048
"""Positions."""


class LlamaCppEngine(PrefixEngine):
    """Prefill and decode with prefix reuse. Every call must come from the same thread."""

    chunk = 256

    def __init__(
        self,
        model: LlamaCppModel,
        tokenizer: Tokenizer,
        info: ModelInfo,
        *,
        end_ids: tuple[int, ...],
        prompt_style: PromptStyle | None,
    ) -> None:
        super().__init__(tokenizer, info, None, end_ids=end_ids, prompt_style=prompt_style)
        self.model = model
        self._forgets = model.is_recurrent
        self.context = LlamaCppContext(model, self.room_for(1))
        self._copies = Copies[State]()
        """Of a network that cannot take back single tokens."""

    def streamed_bytes(self, context: int) -> int:
        """Bytes of weights that a token behind this many others must read from memory."""
        return self.model.weight_bytes

    def fork(self, lanes: int) -> LlamaCppFork:
        """Begin `lanes` continuations of the text read so far; the engine's own stays as it is."""
        return LlamaCppFork(self, lanes)

    def windows(self, texts: Sequence[Sequence[int]]) -> list[Logits]:
        """Logits behind the last `context_length` tokens of each text, read anew."""
        context, rows = LlamaCppContext(self.model, self.info.context_length), list[Logits]()
        for text in texts:
            context.clear()
            rows.append(self._logits(context, list(text[-self.info.context_length :]), 0))
        context.close()
        return rows

    def room_for(self, positions: int) -> int:
        """How many positions to take memory for: at least doubling, so that growth costs little in all."""
        return min(max(_FIRST_ROOM, 1 << (positions - 1).bit_length()), self.info.context_length)

    def _rewind(self, length: int) -> int:
        copy = self._copies.back_to(length)
        if length == len(self._cached_ids) or self.context.cut(length):
            return length
        self.context.clear()
        if copy is None:
            return 0
        self.context.restore(copy[1])
        return copy[0]

    def _mark(self, length: int) -> None:
        if length > self._copies.longest:
            state = self.context.state()
            self._copies.keep(length, state, len(state))

    def _extend(self, token_ids: list[int], start: int, *, wants_logits: bool) -> Logits | None:
        try:
            if wants_logits:
                return self._logits(self.context, token_ids, start)
            self.context.read(_in_a_row(token_ids, start))
            return None
        except GenerationError:
            # What was read of it is not known: the next prompt begins anew.
            self.context.clear()
            self._copies.clear()
            self._cached_ids, self._cached_scales = [], []
            raise

    def _logits(self, context: LlamaCppContext, token_ids: list[int], start: int) -> Logits:
        for at in range(0, len(token_ids), self.chunk):
            piece = _in_a_row(token_ids[at : at + self.chunk], start + at)
            piece[-1] = piece[-1]._replace(wants_logits=at + self.chunk >= len(token_ids))
            rows = context.read(piece)
        return self.masked(rows[0])

    def _window_logits(self) -> Logits:
        return self.windows([self._ids])[0]

    def _reserve(self, positions: int) -> None:
        if positions > self.context.positions:
            larger = LlamaCppContext(self.model, self.room_for(positions))
            if self._cached_ids:
                larger.restore(self.context.state())
            self.context.close()
            self.context = larger


class LlamaCppFork:
    """Lanes that begin with what the engine has read, computed together in a context of their own."""

    def __init__(self, engine: LlamaCppEngine, lanes: int) -> None:
        self._engine = engine
        self._texts = [engine.text for _ in range(lanes)]
        self._context = self._moved(engine.context, [0] * lanes)

    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Append one token to each lane and return each lane's logits for the next."""
        engine = self._engine
        for text, token_id in zip(self._texts, token_ids, strict=True):
            text.append(token_id)
        length = len(self._texts[0])
        if length > engine.info.context_length:
            return engine.windows(self._texts)
        if length > self._context.positions:
            self._replace(range(len(self._texts)))
        rows = self._context.read([Placed(token_id, length - 1, lane, True) for lane, token_id in enumerate(token_ids)])
        return [engine.masked(row) for row in rows]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with some of the lanes, by their present places; one that is named twice becomes two."""
        self._texts = [list(self._texts[lane]) for lane in lanes]
        self._replace(lanes)

    def _replace(self, lanes: Sequence[int]) -> None:
        before = self._context
        self._context = self._moved(before, lanes)
        before.close()

    def _moved(self, source: LlamaCppContext, lanes: Sequence[int]) -> LlamaCppContext:
        """A context with room for more, each lane from the text of the source that is named for it."""
        positions = self._engine.room_for(len(self._texts[0]) + 1)
        moved = LlamaCppContext(self._engine.model, positions, len(lanes))
        states = {lane: source.state(lane) for lane in set(lanes)}
        for place, lane in enumerate(lanes):
            moved.restore(states[lane], place)
        return moved


def _in_a_row(token_ids: Sequence[int], start: int) -> list[Placed]:
    """Tokens of the first text, whose logits nobody wants."""
    return [Placed(token_id, start + at, 0, False) for at, token_id in enumerate(token_ids)]
