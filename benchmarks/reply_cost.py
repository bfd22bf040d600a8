"""What chain, draw and text cost a token in a real reply, in milliseconds of the worker's processor time.

Between two tokens the model's weights pass through the caches, so the logits, the arrays of the
chain and the vocabulary are cold, unlike in a loop that repeats one call (`benchmarks.explain_cost`).

Run with: python -m benchmarks.reply_cost --model FILE [--tokens N] [--rounds N]
"""

from __future__ import annotations

import os

# numpy must not spread small work over threads; it reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time

import llmchat
from llmchat import GenerationConfig
from llmchat.engine.engine import Logits
from llmchat.engine.reply_writer import ReplyPiece, ReplyWriter

PROMPT = "Write a long story about the sea and a man who fears it."
NEUTRAL = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
SETTINGS = {
    "default": GenerationConfig(),
    "no filter at all": NEUTRAL,
    "only top-p 0.95": NEUTRAL.changed(top_p=0.95),
    "greedy": GenerationConfig(do_sample=False),
}
BUDGETS = {"default": 1.0, "no filter at all": 2.0}
"""In milliseconds, at 151,936 tokens."""


def main() -> int:
    """Measure, print, and return 0 if the budgets are kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    costs: list[float] = []
    _time_writing(costs)
    model = llmchat.load(options.model)
    print(f"{model.info.name}, {model.info.vocab_size} tokens of vocabulary")
    kept = True
    for name, config in SETTINGS.items():
        medians = []
        for _ in range(options.rounds):
            costs.clear()
            model.generate(PROMPT, config.changed(seed=3, max_new_tokens=options.tokens))
            medians.append(statistics.median(costs) * 1000)
        budget = BUDGETS.get(name, float("inf"))
        kept &= statistics.median(medians) <= budget
        print(f"{name:20}{statistics.median(medians):8.3f}   {min(medians):.3f} to {max(medians):.3f}")
    return 0 if kept else 1


def _time_writing(costs: list[float]) -> None:
    write = ReplyWriter.write

    def timed(self: ReplyWriter, logits: Logits) -> ReplyPiece | None:
        began = time.thread_time()
        piece = write(self, logits)
        costs.append(time.thread_time() - began)
        return piece

    ReplyWriter.write = timed  # type: ignore[method-assign]


if __name__ == "__main__":
    raise SystemExit(main())
