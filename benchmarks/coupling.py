"""How often the same dice draw the same token under two settings, by three ways to use random numbers.

Moving a slider should show what the slider does, and nothing else. Each row draws
with the same random numbers under plain softmax and under one other setting:

    Gumbel    llmchat's draw: noise for each token, a function of (seed, index, token id)
    sorted    one uniform number against the sum of the probabilities, the likeliest token first
    by id     one uniform number against the sum of the probabilities, in the vocabulary's order
    most      the most that any way can reach: 1 - total variation
    other     other random numbers for the second draw

Run with: python -m benchmarks.coupling [--draws N]
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.chain import Position, run_chain
from llmchat.sampling.draw import draw
from llmchat.sampling.history import TokenHistory

TOKENS = 500
DISTRIBUTIONS = 40
REQUIRED = 0.9
"""The share of equal tokens that temperature 1 → 0.9 must reach in the mean over its rows."""

PLAIN = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
ROWS: tuple[tuple[float, str, GenerationConfig], ...] = (
    (3.0, "temperature 1 → 0.9", PLAIN.changed(temperature=0.9)),
    (3.0, "temperature 1 → 0.7", PLAIN.changed(temperature=0.7)),
    (3.0, "temperature 1 → 1.3", PLAIN.changed(temperature=1.3)),
    (3.0, "top-p 1 → 0.9", PLAIN.changed(top_p=0.9)),
    (6.0, "temperature 1 → 0.9", PLAIN.changed(temperature=0.9)),
    (1.0, "temperature 1 → 0.9", PLAIN.changed(temperature=0.9)),
)
COLUMNS = ("Gumbel", "sorted", "by id", "most", "other")

FloatArray = NDArray[np.float64]


def main() -> int:
    """Measure, print, and return 0 if the temperature rows reach what is required."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    print(f"{TOKENS} tokens, {DISTRIBUTIONS} distributions, {draws} draws")
    print(f"{'logits':9} {'change':20}" + "".join(f"{column:>9}" for column in COLUMNS))
    reached = []
    for scale, words, config in ROWS:
        shares = compare(scale, config, draws)
        print(f"randn·{scale:<3g} {words:20}" + "".join(f"{share:9.1%}" for share in shares))
        if words == ROWS[0][1]:
            reached.append(shares[0])
    return 0 if min(reached) > REQUIRED else 1


def compare(scale: float, config: GenerationConfig, draws: int) -> FloatArray:
    """The share of equal tokens for each of COLUMNS, under plain softmax and `config`."""
    rng = np.random.default_rng(8417)
    found = []
    for number in range(DISTRIBUTIONS):
        logits = rng.standard_normal(TOKENS) * scale
        found.append(_compare_one(logits, config, number, max(draws // DISTRIBUTIONS, 1), rng))
    shares: FloatArray = np.mean(found, axis=0)
    return shares


def _compare_one(
    logits: FloatArray, config: GenerationConfig, number: int, draws: int, rng: np.random.Generator
) -> FloatArray:
    position = Position(0, TokenHistory(TOKENS))
    plain, other = (run_chain(logits, setting, position)[0].candidates for setting in (PLAIN, config))
    before, after = (_spread(candidates) for candidates in (plain, other))
    by_rank = np.argsort(-logits, kind="stable")
    uniform = rng.random(draws)
    same_gumbel = [draw(plain, number, index) == draw(other, number, index) for index in range(draws)]
    others = [draw(plain, number, index) == draw(other, number + DISTRIBUTIONS, index) for index in range(draws)]
    sorted_way = _places(before[by_rank], uniform) == _places(after[by_rank], uniform)
    vocabulary_way = _places(before, uniform) == _places(after, uniform)
    most = float(np.minimum(before, after).sum())
    return np.array([np.mean(same_gumbel), sorted_way.mean(), vocabulary_way.mean(), most, np.mean(others)])


def _spread(candidates: Candidates) -> FloatArray:
    """Probabilities over the whole vocabulary, shape (TOKENS,)."""
    spread = np.zeros(TOKENS)
    spread[candidates.ids] = candidates.probabilities()
    return spread


def _places(probabilities: FloatArray, uniform: FloatArray) -> NDArray[np.int64]:
    """Where the running sum passes each uniform number."""
    return np.searchsorted(np.cumsum(probabilities), uniform).clip(max=TOKENS - 1)


if __name__ == "__main__":
    raise SystemExit(main())
