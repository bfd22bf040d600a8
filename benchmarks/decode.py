"""Decode and prefill of one GGUF file: the native step, torch, and llama.cpp, interleaved in one run.

    python -m benchmarks.decode MODEL.gguf [--threads N] [--rounds N]

llama.cpp takes part if llama-cpp-python can be imported (`pip install llama-cpp-python`).
Every figure is a rate in tokens per second; what counts are the ratios, per round,
as median and range: absolute rates vary with whatever else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from llmchat.chat.model import ModelSpec
from llmchat.engine.engine import Engine
from llmchat.engine.opening import open_engine

CONTEXTS = (64, 512, 1500)
PREFILL = 512
STEPS = 24


class Peer(Protocol):
    """Something that can read and decode token ids."""

    name: str

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt from its beginning."""

    def decode(self, token_id: int) -> None:
        """Append one token and compute the logits for the next."""


@dataclass
class OurEngine:
    """llmchat on one of its engines."""

    name: str
    engine: Engine

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt; the KV cache is emptied first by another one."""
        self.engine.prefill([token_ids[0] + 1], lambda: False)
        self.engine.prefill(token_ids, lambda: False)

    def decode(self, token_id: int) -> None:
        """One step."""
        self.engine.decode(token_id)


class LlamaCpp:
    """llama.cpp through its Python bindings."""

    name = "llama.cpp"

    def __init__(self, path: str, threads: int) -> None:
        import llama_cpp

        self._model: Any = llama_cpp.Llama(
            path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False, logits_all=False
        )

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt with an empty KV cache."""
        self._model.reset()
        self._model.eval(list(token_ids))

    def decode(self, token_id: int) -> None:
        """One step."""
        self._model.eval([token_id])


def rate(act: Callable[[], None], tokens: int) -> float:
    """Tokens per second of one run."""
    began = time.perf_counter()
    act()
    return tokens / (time.perf_counter() - began)


def decode_rate(peer: Peer, ids: list[int]) -> float:
    """Decode speed behind a context: the upper quartile of single steps, which a busy moment does not touch."""
    peer.read(ids)
    rates = sorted(rate(lambda: peer.decode(100), 1) for _ in range(STEPS))
    return rates[STEPS * 3 // 4]


def peers(path: str, threads: int) -> list[Peer]:
    """Who takes part."""

    def opened(dtype: str) -> Engine:
        return open_engine(ModelSpec(path, dtype=dtype, threads=threads), lambda stage, fraction: None)

    native = opened("auto")
    found: list[Peer] = [OurEngine(native.info.dtype, native), OurEngine("torch float32", opened("float32"))]
    try:
        found.append(LlamaCpp(path, threads))
    except ImportError:
        print("llama.cpp does not take part: pip install llama-cpp-python")
    return found


def main() -> None:
    """Run the rounds and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ids = [int(token) for token in np.random.default_rng(0).integers(100, 30_000, max(*CONTEXTS, PREFILL))]
    table: dict[str, dict[str, list[float]]] = {}
    found = peers(options.model, options.threads)
    for _ in range(options.rounds):
        for context in CONTEXTS:
            for peer in found:
                row = table.setdefault(f"decode at {context}", {})
                row.setdefault(peer.name, []).append(decode_rate(peer, ids[:context]))
        for peer in found:
            row = table.setdefault(f"prefill of {PREFILL}", {})
            row.setdefault(peer.name, []).append(rate(lambda one=peer: one.read(ids[:PREFILL]), PREFILL))  # type: ignore[misc]
    for title, rows in table.items():
        ours = next(iter(rows.values()))
        print(f"{title} ({options.threads} threads)")
        for name, rates in rows.items():
            ratios = [a / b for a, b in zip(ours, rates, strict=True)]
            spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
            print(f"  {name:<16} {statistics.median(rates):8.1f} tok/s   native is {spread} times as fast")


if __name__ == "__main__":
    main()
