"""The sampling chain: logits in, the tokens that may be drawn out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling import processors
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.draw import draw
from llmchat.sampling.history import TokenHistory


@dataclass(frozen=True, slots=True)
class Position:
    """What the stages may know of the place in the reply."""

    index: int
    """Which token of the reply is drawn, from 0."""
    history: TokenHistory
    """Prompt and reply so far."""
    end_ids: tuple[int, ...] = ()
    """The tokens that end a reply."""


Stage = Callable[[Candidates, GenerationConfig, Position], Candidates]


def _bans(candidates: Candidates, config: GenerationConfig, position: Position) -> Candidates:
    too_early = position.index < config.min_new_tokens
    return candidates.without(position.end_ids) if too_early else candidates


def _penalties(candidates: Candidates, config: GenerationConfig, position: Position) -> Candidates:
    return processors.penalize_repetition(candidates, position.history, config.repetition_penalty)


STAGES: Mapping[str, Stage] = {
    "bans": _bans,
    "penalties": _penalties,
    "temperature": lambda candidates, config, _: processors.scale_temperature(candidates, config.temperature),
    "top_k": lambda candidates, config, _: processors.keep_top_k(candidates, config.top_k),
    "top_p": lambda candidates, config, _: processors.keep_top_p(candidates, config.top_p),
    "min_p": lambda candidates, config, _: processors.keep_min_p(candidates, config.min_p),
}
"""Every stage by name, in the default order."""

_BEFORE_GREEDY = ("bans", "penalties")


def run_chain(logits: NDArray[np.floating], config: GenerationConfig, position: Position) -> Candidates:
    """The tokens that may be drawn, with their final logits.

    Greedy settings (no sampling, temperature 0 or top-k 1) leave the likeliest
    token after bans and penalties.

    Args:
        logits: Shape (vocab_size,); -inf for tokens that must not be drawn.
        config: The settings for this token.
        position: The place in the reply.

    Raises:
        GenerationError: The logits are not finite.
    """
    candidates = Candidates.from_logits(logits)
    for name, stage in STAGES.items():
        if config.is_greedy and name not in _BEFORE_GREEDY:
            return processors.keep_likeliest(candidates)
        candidates = stage(candidates, config, position)
    return candidates


@dataclass(frozen=True, slots=True)
class Draw:
    """A token, and how likely it was."""

    token_id: int
    raw_logprob: float
    """Natural logarithm of its probability by the model alone."""
    final_logprob: float
    """The same after the chain; -inf for a chosen token that the chain removed."""
    rank: int
    """How many tokens the model found likelier."""
    entropy: float
    """Entropy of the model's distribution, in nats."""


def sample(
    logits: NDArray[np.floating],
    config: GenerationConfig,
    position: Position,
    seed: int,
    *,
    chosen: int | None = None,
) -> Draw:
    """Draw the next token.

    Args:
        logits: Shape (vocab_size,).
        config: The settings for this token.
        position: The place in the reply.
        seed: The dice.
        chosen: A token that the person took, in place of the dice.

    Raises:
        GenerationError: The logits are not finite.
    """
    candidates = run_chain(logits, config, position)
    token_id = draw(candidates, seed, position.index) if chosen is None else chosen
    return measured(token_id, logits, candidates)


def measured(token_id: int, logits: NDArray[np.floating], candidates: Candidates) -> Draw:
    """A token with its probabilities.

    Args:
        token_id: The token.
        logits: The model's own, shape (vocab_size,).
        candidates: What the chain left of them.
    """
    peak = float(logits.max())
    weights = np.exp(logits - np.float32(peak))
    total = float(weights.sum(dtype=np.float64))
    # With l the shifted logit, -Σ p ln p is ln Σ e^l - Σ l e^l / Σ e^l.
    shifted = np.where(weights > 0, logits - np.float32(peak), np.float32(0))
    entropy = math.log(total) - float(np.dot(shifted, weights)) / total
    own = float(logits[token_id])
    place = np.searchsorted(candidates.ids, token_id)
    survives = place < len(candidates) and candidates.ids[place] == token_id
    return Draw(
        token_id=token_id,
        raw_logprob=own - peak - math.log(total),
        final_logprob=float(candidates.log_probabilities()[place]) if survives else -math.inf,
        rank=int(np.count_nonzero(logits > own)),
        entropy=entropy,
    )
