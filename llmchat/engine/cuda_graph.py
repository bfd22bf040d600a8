"""Decoding at fixed addresses, so that a GPU can record one step and replay it for every token.

    token ids ─▶ static ids ─┐
    position ─▶ static place ┴─▶ model.step on the whole KV cache ─▶ static logits ─▶ a copy
                                 └ run, and once it pays recorded; then replayed ┘

A decode step is some hundreds of small kernels, and to launch each can take longer than to run
it; a CUDA graph launches all at once. It repeats what was recorded with the same shapes and
addresses, so whatever differs between tokens must be numbers in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llmchat.engine.architectures.network import Network
from llmchat.engine.kv_cache import KVCache

Step = Callable[[], Tensor]
"""Work on memory that stays where it is; its result may be overwritten when it is called again."""

Capture = Callable[[Step], Step]
"""Records a step and gives one that replays it; RuntimeError if that is refused."""

_WARM_UPS = 3
"""Runs before a recording, in which libraries take memory and make their choices."""

_WORTH_CAPTURING = 2 * (_WARM_UPS + 1)
"""Steps that a cache serves before its step is recorded: many lanes of a batch end, or part, sooner."""


class StaticDecoder:
    """Decodes on one KV cache, a token for each of its sequences at a time."""

    def __init__(self, model: Network, cache: KVCache, capture: Capture) -> None:
        """Nothing is recorded yet.

        Args:
            model: Stands beside the cache.
            cache: May be read into and truncated by others between steps; there is room when `decode` is called.
            capture: What records the step; it must not raise.
        """
        self._cache, self._capture = cache, capture
        device = cache.device
        ids = torch.zeros(cache.batch, 1, dtype=torch.int64, device=device)
        position = torch.zeros(1, dtype=torch.int64, device=device)
        view = cache.at(position)
        self._ids, self._position = ids, position
        # Kept for good: what it refers to is the memory that a replay reads.
        self._work: Step = lambda: model.step(ids, view)
        self._step = self._work
        self._steps = 0

    def decode(self, token_ids: Sequence[int]) -> Tensor:
        """Append one token to each sequence.

        Returns:
            float32 logits for the next ones, shape (batch, vocab_size), in memory of their own.
        """
        self._ids.copy_(torch.tensor(token_ids)[:, None])
        self._steps += 1
        if self._steps == _WORTH_CAPTURING:
            self.capture()
        self._place()
        logits = self._step().clone()
        self._cache.advance(1)
        return logits

    def capture(self) -> None:
        """Record the step now. A warm-up writes where the next token stands, for which there must be room."""
        self._steps = max(self._steps, _WORTH_CAPTURING)
        self._place()
        self._step = self._capture(self._work)

    def _place(self) -> None:
        """Make the step the one at the cache's end."""
        self._cache.clear_rest()
        self._position.fill_(self._cache.length)


def capture_cuda_graph(step: Step) -> Step:
    """Record a step of the current CUDA device as a graph (CUDA semantics, "CUDA Graphs", in torch's documentation).

    Raises:
        RuntimeError: torch or the driver refuses. Steps run as before; but until it was mended (pytorch pull request
            180395) torch kept the memory of a recording that broke off.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    # The outer block also leads back to the stream of before if the recording breaks off.
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            step()
        graph = torch.cuda.CUDAGraph()
        # Other threads of the program may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            result = step()
    torch.cuda.current_stream().wait_stream(stream)

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
