"""Where each candidate went: its probability before and after the chain, and the stage that removed it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.chain import STAGES, Position, run_chain
from llmchat.sampling.draw import draw
from llmchat.sampling.processors import keep_top_k


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """One candidate."""

    token_id: int
    probability: float
    """By the model alone."""
    final_probability: float
    """After the chain; 0 if it was removed."""
    removed_by: str | None
    """The stage that removed it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The candidates of one position, and what the chain leaves of them."""

    rows: tuple[ExplainedToken, ...]
    survivors: int
    mass: float
    entropy: float
    effective_choices: float
    drawn: int | None


def explain(
    logits: NDArray[np.floating], config: GenerationConfig, position: Position, count: int, seed: int | None = None
) -> Explanation:
    """Say what the chain does with the likeliest candidates of one position."""
    raw = Candidates.from_logits(logits)
    shown = keep_top_k(raw, count)
    shown_ids = shown.ids[shown.ranked()]
    total = float(np.exp(raw.logits - raw.logits.max()).sum())
    probabilities = np.exp(logits[shown_ids].astype(np.float64) - raw.logits.max()) / total
    removed: dict[int, str] = {}
    candidates = raw
    for name, stage in STAGES.items():
        if config.is_greedy and name not in ("bans", "penalties"):
            break
        after = stage(candidates, config, position)
        for token_id in shown_ids:
            if int(token_id) not in removed and token_id in candidates.ids and token_id not in after.ids:
                removed[int(token_id)] = name
        candidates = after
    final = run_chain(logits, config, position)
    if config.is_greedy:
        removed |= {int(token): "greedy" for token in shown_ids if token not in final.ids and int(token) not in removed}
    final_probabilities = dict(zip(final.ids.tolist(), final.probabilities().tolist(), strict=True))
    spread = final.probabilities()
    entropy = float(-(spread * final.log_probabilities()).sum())
    mass = float(np.exp(logits[final.ids].astype(np.float64) - raw.logits.max()).sum() / total)
    rows = tuple(
        ExplainedToken(int(token), float(p), final_probabilities.get(int(token), 0.0), removed.get(int(token)))
        for token, p in zip(shown_ids, probabilities, strict=True)
    )
    drawn = None if seed is None else draw(final, seed, position.index)
    return Explanation(rows, len(final), mass, entropy, float(np.exp(entropy)), drawn)
