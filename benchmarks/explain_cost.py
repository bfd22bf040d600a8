"""What a draw and its explanation cost on 49,152 logits, in milliseconds on one thread.

The minimum of many calls: what they cost when nothing else runs. The budget is what
the default settings may take, measured as an engine runs them: in a process that has
freed large arrays before, so that the memory allocator keeps what it is given back.

Run with: python -m benchmarks.explain_cost [--calls N]
"""

from __future__ import annotations

import os

# numpy must not spread small work over threads; it reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.chain import Position, sample
from llmchat.sampling.explain import explain
from llmchat.sampling.history import TokenHistory

VOCABULARY = 49_152
HISTORY = 2_000
ROWS = 12
DRAW_BUDGET = 0.35
EXPLAIN_BUDGET = 1.0

NEUTRAL = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
SETTINGS = {
    "default": GenerationConfig(),
    "greedy": GenerationConfig(do_sample=False),
    "all neutral": NEUTRAL,
    "XTC": GenerationConfig(xtc_probability=0.5),
    "DRY": GenerationConfig(dry_multiplier=0.8),
    "penalties in a window": GenerationConfig(frequency_penalty=0.5, presence_penalty=0.5, penalty_window=512),
    "top-nσ 1, no top-k": NEUTRAL.changed(top_n_sigma=1.0),
    "typical 0.9, no top-k": NEUTRAL.changed(typical_p=0.9),
    "dynamic temperature": GenerationConfig(dynatemp_range=0.3),
    "Mirostat": GenerationConfig(mirostat_tau=5.0),
    "temperature last": GenerationConfig(temperature_last=True),
}


def main() -> int:
    """Measure, print, and return 0 if the default settings keep to their budgets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000)
    calls = parser.parse_args().calls
    rng = np.random.default_rng(8417)
    logits = (rng.standard_normal(VOCABULARY) * 3).astype(np.float32)
    position = Position(3, TokenHistory(VOCABULARY, rng.zipf(1.3, HISTORY) % VOCABULARY))
    large = np.ones(30 * 2**20 // 8)
    del large
    print(f"{'':24}{'draw':>8}{'explain':>9}")
    costs = {}
    for name, config in SETTINGS.items():
        drawing = _milliseconds(partial(sample, logits, config, position, 7), calls)
        explaining = _milliseconds(partial(explain, logits, config, position, ROWS, 7), calls)
        costs[name] = drawing, explaining
        print(f"{name:24}{drawing:8.3f}{explaining:9.3f}")
    drawing, explaining = costs["default"]
    return 0 if drawing < DRAW_BUDGET and explaining < EXPLAIN_BUDGET else 1


def _milliseconds(call: Callable[[], object], calls: int) -> float:
    """The least time that a call took."""
    best = float("inf")
    for _ in range(calls):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best * 1000


if __name__ == "__main__":
    raise SystemExit(main())
