"""The sampling chain: logits in, the tokens that may be drawn out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig
from llmchat.sampling import mirostat, penalties, processors
from llmchat.sampling.arrays import IntArray
from llmchat.sampling.candidates import Candidates
from llmchat.sampling.distribution import Distribution
from llmchat.sampling.draw import draw, xtc_number
from llmchat.sampling.history import TokenHistory
from llmchat.sampling.preselection import preselect


@dataclass(frozen=True, slots=True)
class Position:
    """What the stages may know of the place in the reply."""

    index: int
    """Which token of the reply is drawn, from 0."""
    history: TokenHistory
    """Prompt and reply so far."""
    end_ids: tuple[int, ...] = ()
    """The tokens that end a reply."""
    breaker_ids: frozenset[int] = frozenset()
    """The tokens whose text contains one of `dry_breakers`. What the history exempts breaks a repetition too."""
    newline_ids: frozenset[int] = frozenset()
    """The tokens whose text is a newline and nothing else."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One way through the chain. There are two where XTC has something to exclude: it does, or it does not."""

    share: float
    """How likely the dice take it, above 0 to 1."""
    candidates: Candidates
    """What is left, with the final logits."""
    steps: tuple[tuple[str, Candidates], ...] = ()
    """What each stage left, by its name."""

    def after(self, stage: str, candidates: Candidates, share: float = 1.0) -> Branch:
        """The branch after one more stage."""
        return Branch(self.share * share, candidates, (*self.steps, (stage, candidates)))


Stage = Callable[[Candidates, GenerationConfig, Position], Candidates]


def _bans(candidates: Candidates, config: GenerationConfig, position: Position) -> Candidates:
    return candidates.without(_banned(config, position))


def _banned(config: GenerationConfig, position: Position) -> tuple[int, ...]:
    too_early = position.index < config.min_new_tokens
    return config.banned_tokens + (position.end_ids if too_early else ())


def _penalties(candidates: Candidates, config: GenerationConfig, position: Position) -> Candidates:
    return penalties.penalize_use(
        candidates,
        position.history,
        config.repetition_penalty,
        config.frequency_penalty,
        config.presence_penalty,
        config.penalty_window,
    )


def _dry(candidates: Candidates, config: GenerationConfig, position: Position) -> Candidates:
    if not config.dry_multiplier:
        return candidates
    return penalties.penalize_repeats(
        candidates,
        position.history,
        config.dry_multiplier,
        config.dry_base,
        config.dry_allowed_length,
        position.breaker_ids,
        config.penalty_window,
    )


def _temperature(candidates: Candidates, config: GenerationConfig, position: Position) -> Candidates:
    return processors.scale_temperature(candidates, config.temperature, config.dynatemp_range, config.dynatemp_exponent)


def _mirostat(candidates: Candidates, config: GenerationConfig, position: Position) -> Candidates:
    limit = position.history.mirostat_limit
    return mirostat.keep_mirostat(candidates, mirostat.first_limit(config.mirostat_tau) if limit is None else limit)


STAGES: Mapping[str, Stage] = {
    "bans": _bans,
    "penalties": _penalties,
    "dry": _dry,
    "top_n_sigma": lambda candidates, config, _: processors.keep_top_n_sigma(candidates, config.top_n_sigma),
    "temperature": _temperature,
    "top_k": lambda candidates, config, _: processors.keep_top_k(candidates, config.top_k),
    "top_p": lambda candidates, config, _: processors.keep_top_p(candidates, config.top_p),
    "min_p": lambda candidates, config, _: processors.keep_min_p(candidates, config.min_p),
    "typical_p": lambda candidates, config, _: processors.keep_typical(candidates, config.typical_p),
    "greedy": lambda candidates, config, _: processors.keep_likeliest(candidates),
    "mirostat": _mirostat,
}
"""Every stage but XTC, which branches, by the name it has in `GenerationConfig.stages`."""


def run_chain(logits: NDArray[np.floating], config: GenerationConfig, position: Position) -> tuple[Branch, ...]:
    """What may be drawn: one branch, or two whose shares sum to 1, the one in which XTC acts first.

    Args:
        logits: Shape (vocab_size,); -inf for tokens that must not be drawn.
        config: The settings for this token.
        position: The place in the reply.

    Raises:
        GenerationError: The logits are not finite.
    """
    branches: tuple[Branch, ...] = (_start(logits, config, position),)
    for name in config.stages:
        if name == "xtc":
            branches = _branch(branches[0], config, position)
        else:
            stage = STAGES[name]
            branches = tuple(branch.after(name, stage(branch.candidates, config, position)) for branch in branches)
    return branches


def _start(logits: NDArray[np.floating], config: GenerationConfig, position: Position) -> Branch:
    """Every token, or those that top-k does not remove for certain: it is the first step too then."""
    ids = preselect(logits, config, lambda: _known_ids(config, position))
    if ids is None:
        return Branch(1.0, Candidates.from_logits(logits))
    some = Candidates.from_logits(logits, ids)
    return Branch(1.0, some, (("top_k", some),))


def _known_ids(config: GenerationConfig, position: Position) -> IntArray:
    """The ids, ascending, that bans and penalties may act upon."""
    used = position.history.distinct() if config.penalizes else _NO_IDS
    banned = _banned(config, position)
    return np.union1d(np.array(banned, dtype=np.int64), used) if banned else used


_NO_IDS: IntArray = np.empty(0, dtype=np.int64)


def _branch(branch: Branch, config: GenerationConfig, position: Position) -> tuple[Branch, ...]:
    """XTC: with its probability the top choices are excluded."""
    chance, whole = config.xtc_probability, branch.candidates
    if not chance:
        return (branch,)
    stops = sorted(position.newline_ids.union(position.end_ids)) if config.xtc_spares_ends else []
    rest = processors.exclude_top_choices(whole, config.xtc_threshold, np.array(stops, dtype=np.int64))
    if rest is whole:
        return (branch,)
    acting = branch.after("xtc", rest, chance)
    return (acting,) if chance == 1.0 else (acting, branch.after("xtc", whole, 1.0 - chance))


def take_branch(branches: tuple[Branch, ...], seed: int, index: int) -> Branch:
    """The branch that the dice take; a pure function of (seed, index) and the shares."""
    acts = len(branches) == 1 or xtc_number(seed, index) < branches[0].share
    return branches[0] if acts else branches[1]


@dataclass(frozen=True, slots=True)
class Draw:
    """A token, and how likely it was."""

    token_id: int
    raw_logprob: float
    """Natural logarithm of its probability by the model alone."""
    final_logprob: float
    """The same after the chain, XTC's dice left open; -inf for a chosen token that the chain removed."""
    rank: int
    """How many tokens the model found likelier."""
    entropy: float
    """Entropy of the model's distribution, in nats."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What may come at one place: all that a draw needs, and its explanation."""

    index: int
    """Which token of the reply it is, from 0."""
    raw: Distribution
    """What the model says, before any stage."""
    branches: tuple[Branch, ...]
    """What the chain leaves."""
    _thrown: dict[int, int] = field(default_factory=dict, compare=False, repr=False)
    """The tokens that dice have taken: the panel asks for the one that was drawn."""

    @classmethod
    def of(cls, logits: NDArray[np.floating], config: GenerationConfig, position: Position) -> Self:
        """Run the chain; arguments and errors as for `run_chain`."""
        branches = run_chain(logits, config, position)
        return cls(position.index, Distribution.of(logits), branches)

    def throw(self, seed: int) -> int:
        """The token that the dice take."""
        if seed not in self._thrown:
            self._thrown[seed] = draw(take_branch(self.branches, seed, self.index).candidates, seed, self.index)
        return self._thrown[seed]

    def draw(self, seed: int, chosen: int | None = None) -> Draw:
        """Draw the token.

        Args:
            seed: The dice.
            chosen: A token that the person took, in place of the dice.
        """
        token_id = self.throw(seed) if chosen is None else chosen
        raw = self.raw
        return Draw(token_id, raw.logprob(token_id), self.final_logprob(token_id), raw.rank(token_id), raw.entropy)

    def final_logprob(self, token_id: int) -> float:
        """Natural logarithm of a token's probability after the chain, whatever XTC's dice; -inf if it was removed."""
        logprobs = [math.log(branch.share) + branch.candidates.logprob(token_id) for branch in self.branches]
        return float(np.logaddexp.reduce(logprobs))
