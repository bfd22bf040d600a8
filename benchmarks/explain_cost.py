"""What a draw and the next-token panel cost on a large vocabulary, in milliseconds on one thread.

    draw      the whole chain and the dice: what every token costs
    panel     what the panel adds to a token of a running reply, where the chain has run already
    slider    what a slider costs while nothing is generated: chain and panel from the stored logits

The logits are once those of a model that knows what it wants, and once nearly all equal, as of
a model that has just begun to learn: there, filters leave most of the vocabulary. The minimum of
many calls is given: what they cost when nothing else runs, measured as an engine runs them, in a
process that has freed large arrays before, so that the allocator keeps what it is given back.

In a real reply the caches are cold: what that adds, `python -m benchmarks.reply_cost` measures.

Run with: python -m benchmarks.explain_cost [--calls N] [--vocabulary N]
"""

from __future__ import annotations

import os

# numpy must not spread small work over threads; it reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.chain import Position, Prospect
from llmchat.sampling.explain import explain
from llmchat.sampling.history import TokenHistory

HISTORY = 2_000
ROWS = 12
SEED = 7
DRAW_BUDGET = 0.6
"""For the default settings and 151,936 tokens."""
PANEL_BUDGET = 1.0
"""For every single setting."""

DEFAULT = GenerationConfig()
NEUTRAL = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
SETTINGS = {
    "default": DEFAULT,
    "greedy": DEFAULT.changed(do_sample=False),
    "temperature last": DEFAULT.changed(temperature_last=True),
    "XTC": DEFAULT.changed(xtc_probability=0.5),
    "DRY": DEFAULT.changed(dry_multiplier=0.8),
    "Mirostat": DEFAULT.changed(mirostat_tau=5.0),
    "no filter at all": NEUTRAL,
    "only top-k 20,000": NEUTRAL.changed(top_k=20_000),
    "only top-p 0.9": NEUTRAL.changed(top_p=0.9),
    "only min-p 0.001": NEUTRAL.changed(min_p=0.001),
    "only typical 0.9": NEUTRAL.changed(typical_p=0.9),
    "only top-nσ 1": NEUTRAL.changed(top_n_sigma=1.0),
    "only XTC": NEUTRAL.changed(xtc_probability=0.5),
    "only DRY": NEUTRAL.changed(dry_multiplier=0.8),
    "only penalties": NEUTRAL.changed(
        repetition_penalty=1.1, frequency_penalty=0.5, presence_penalty=0.5, penalty_window=512
    ),
    "only dynamic temp.": NEUTRAL.changed(dynatemp_range=0.3),
    "only Mirostat 14": NEUTRAL.changed(mirostat_tau=14.0),
}
"""Every stage behind the default filters and alone; 14 bits is more than most tokens' surprise."""
EVERYTHING = NEUTRAL.changed(
    top_p=0.99, typical_p=0.99, min_p=1e-5, top_n_sigma=5.0, xtc_probability=0.5, xtc_threshold=1e-3,
    dry_multiplier=0.8, frequency_penalty=0.5, repetition_penalty=1.1, dynatemp_range=0.3,
)  # fmt: skip
"""All stages at once, set so that they remove little: no budget, but it should be seen."""

Logits = NDArray[np.float32]


def main() -> int:
    """Measure, print, and return 0 if the budgets are kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    options = parser.parse_args()
    calls, size = options.calls, options.vocabulary
    rng = np.random.default_rng(8417)
    normal = rng.standard_normal(size).astype(np.float32)
    position = Position(3, TokenHistory(size, rng.zipf(1.3, HISTORY) % size, reply_length=HISTORY // 4))
    large = np.ones(30 * 2**20 // 8)
    del large
    print(f"{'':20}{'sharp: draw   panel  slider':>32}{'flat: draw   panel  slider':>32}")
    worst = 0.0
    for name, config in {**SETTINGS, "all of them": EVERYTHING}.items():
        costs = [_costs(logits, config, position, calls) for logits in (normal * 3, normal * np.float32(0.05))]
        print(f"{name:20}" + "".join(f"{drawn:16.3f}{panel:8.3f}{slider:8.3f}" for drawn, panel, slider in costs))
        if name == "default":
            default = costs[0][0]
        if name in SETTINGS:
            worst = max(worst, *(panel for _, panel, _ in costs))
    print(f"default draw {default:.3f}, required: below {DRAW_BUDGET}")
    print(f"dearest panel of a single setting {worst:.3f}, required: below {PANEL_BUDGET}")
    return 0 if default < DRAW_BUDGET and worst < PANEL_BUDGET else 1


def _costs(logits: Logits, config: GenerationConfig, position: Position, calls: int) -> tuple[float, float, float]:
    """Draw, panel and slider."""
    prospect = Prospect.of(logits, config, position)
    return (
        _milliseconds(lambda: Prospect.of(logits, config, position).draw(SEED), calls),
        _milliseconds(lambda: explain(prospect, ROWS, SEED), calls),
        _milliseconds(lambda: explain(Prospect.of(logits, config, position), ROWS, SEED), calls),
    )


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
