"""The generation loop: from a prompt to a reply, token by token.

    prefill → logits ─ sampling chain ─ draw ─ token ─ detokenizer ─ text
                 └────────────── decode ◀──────┘

The settings are read anew for every token. Where a draft of what follows pays, decode runs over it in the same pass,
and tokens that are drawn as drafted have their logits already: none of the above depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply
from llmchat.engine.engine import Engine, Logits, PrefillProgress, StopSignal
from llmchat.engine.prompt import Prompt
from llmchat.engine.prompt_lookup import PromptLookup
from llmchat.engine.reply_writer import Explained, ReplyPiece, ReplyWriter


class ReplyStream:
    """One reply in the making, on an engine of its own.

    Call `prefill`, then iterate; `reply` gives what there is so far at any time,
    and the whole once the iteration has ended.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Prompt,
        config_for: Callable[[int], GenerationConfig],
        seed: int,
        should_stop: StopSignal = lambda: False,
        forced: Sequence[tuple[int, int]] = (),
        earlier: Reply | None = None,
    ) -> None:
        """A reply that has not begun; arguments as for `ReplyWriter`."""
        self._engine = engine
        self._prompt = prompt
        self._should_stop = should_stop
        self._logits: Logits | None = None
        self._lookup: PromptLookup | None = None
        self._writer = ReplyWriter(engine, prompt, config_for, seed, should_stop, forced, earlier)

    def prefill(self, on_progress: PrefillProgress | None = None) -> int:
        """Read the prompt.

        Returns:
            How many of its tokens were already in the KV cache.
        """
        began = time.perf_counter()
        self._engine.lora_scale = self._writer.lora_scale
        result = self._engine.prefill(self._prompt.token_ids, self._should_stop, on_progress)
        self._logits = result.logits
        self._writer.cached_tokens = result.cached_tokens
        self._writer.prefill_seconds = time.perf_counter() - began
        return result.cached_tokens

    def __iter__(self) -> Iterator[ReplyPiece]:
        """Draw tokens until something ends the reply.

        Raises:
            GenerationError: The model's numbers are not finite.
        """
        writer = self._writer
        if self._engine.most_drafted and writer.config.prompt_lookup:
            self._lookup = PromptLookup(self._prompt.token_ids, self._engine.most_drafted, self._engine.pass_cost)
        if beginning := writer.begin():
            yield beginning
        while self._logits is not None and not writer.is_over():
            piece = writer.write(self._logits)
            if piece is None or piece.token_id is None:
                break
            yield piece
            if writer.is_over():
                break
            self._engine.lora_scale = writer.read_lora_scale()
            draft = self._lookup.after(piece.token_id) if self._lookup else ()
            self._logits = self._engine.decode(piece.token_id, draft)
        if held := writer.end():
            yield held

    def explain(self, count: int, config: GenerationConfig | None = None) -> Explained | None:
        """The candidates of the latest position; see `ReplyWriter.explain`."""
        return self._writer.explain(count, config)

    def reply(self) -> Reply:
        """The reply so far."""
        reply, lookup = self._writer.reply(), self._lookup
        return (
            reply if lookup is None else replace(reply, drafted_tokens=lookup.drafted, accepted_tokens=lookup.accepted)
        )
