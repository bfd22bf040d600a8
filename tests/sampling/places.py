"""Logits and positions that the sampling tests share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import SAMPLER_ORDER, GenerationConfig
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.chain import Draw, Position, Prospect, run_chain
from llmchat.sampling.explain import Explanation, explain
from llmchat.sampling.history import TokenHistory

NEUTRAL = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
VOCABULARY = 40
END = 39
NEWLINE = 38


def logits_of(seed: int, size: int = VOCABULARY) -> NDArray[np.float32]:
    """Random logits that are the same on every run."""
    return (np.random.default_rng(seed).standard_normal(size) * 2).astype(np.float32)


def at(index: int = 0, history: tuple[int, ...] = (), end_ids: tuple[int, ...] = ()) -> Position:
    """A place in a reply over the small vocabulary; the history is the reply's."""
    known = TokenHistory(VOCABULARY, history, exempt=end_ids, reply_length=len(history))
    return Position(index, known, end_ids)


def left(logits: NDArray[np.float32], config: GenerationConfig, position: Position) -> Candidates:
    """What the chain leaves where XTC does not act."""
    (branch,) = run_chain(logits, config, position)
    return branch.candidates


def sample(
    logits: NDArray[np.floating], config: GenerationConfig, position: Position, seed: int, chosen: int | None = None
) -> Draw:
    """The next token."""
    return Prospect.of(logits, config, position).draw(seed, chosen)


def explain_place(
    logits: NDArray[np.floating],
    config: GenerationConfig,
    position: Position,
    count: int,
    seed: int | None = None,
    also: tuple[int, ...] = (),
) -> Explanation:
    """What the panel says of a place."""
    return explain(Prospect.of(logits, config, position), count, seed, also)


def random_config(seed: int) -> GenerationConfig:
    """Settings of every kind, each of them neutral about half of the time."""
    rng = np.random.default_rng(seed)

    def maybe(low: float, high: float, neutral: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < 0.5 else neutral

    return GenerationConfig(
        temperature=maybe(0.2, 2.0, 1.0),
        top_k=int(maybe(1, VOCABULARY, 0)),
        top_p=maybe(0.1, 1.0, 1.0),
        min_p=maybe(0.0, 0.3, 0.0),
        repetition_penalty=maybe(0.8, 1.5, 1.0),
        min_new_tokens=int(maybe(0, 4, 0)),
        typical_p=maybe(0.1, 1.0, 1.0),
        top_n_sigma=maybe(0.3, 3.0, 0.0),
        xtc_probability=maybe(0.0, 1.0, 0.0),
        xtc_threshold=float(rng.uniform(0.0, 0.4)),
        dry_multiplier=maybe(0.0, 2.0, 0.0),
        dry_base=float(rng.uniform(1.0, 3.0)),
        dry_allowed_length=int(rng.integers(1, 4)),
        frequency_penalty=maybe(-1.0, 1.0, 0.0),
        presence_penalty=maybe(-1.0, 1.0, 0.0),
        penalty_window=int(maybe(0, 20, 0)),
        dynatemp_range=maybe(0.0, 1.0, 0.0),
        dynatemp_exponent=float(rng.uniform(0.0, 3.0)),
        mirostat_tau=float(rng.uniform(0.1, 5.0)) if rng.random() < 0.2 else 0.0,
        mirostat_eta=float(rng.uniform(0.0, 0.5)),
        banned_tokens=tuple(rng.integers(0, VOCABULARY, rng.integers(0, 4)).tolist()),
        temperature_last=bool(rng.random() < 0.3),
        sampler_order=tuple(rng.permutation(SAMPLER_ORDER).tolist()),
        do_sample=bool(rng.random() < 0.9),
    )


def random_position(seed: int) -> Position:
    """A place after a few tokens of prompt and reply, which repeat themselves."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 6, 30).tolist()
    history = TokenHistory(VOCABULARY, tokens, exempt=(END,), reply_length=int(rng.integers(0, 30)))
    return Position(int(rng.integers(0, 50)), history, (END,), frozenset({3}), frozenset({NEWLINE}))
