"""The sampling chain once more, as plainly as its definitions read: arrays over the whole vocabulary, one loop a rule.

It shares no code with the package, so that what both say is the definition's doing. Slow, and meant to be.
Sources: the papers and programs that the package's docstrings name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmchat.chat.generation_config import GenerationConfig

GONE = -np.inf
ROUNDING = 1e-9
"""A sum that reaches a limit up to this counts as reaching it."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """What is known of a place in a reply."""

    index: int
    prompt: Sequence[int]
    reply: Sequence[int]
    ends: frozenset[int] = frozenset()
    breakers: frozenset[int] = frozenset()
    newlines: frozenset[int] = frozenset()
    limit: float | None = None
    """Mirostat's limit in bits; None at the first token."""


@dataclass
class Way:
    """One way through the chain."""

    share: float
    scores: Scores
    removed: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """The ids that each stage removed, by its name."""


def softmax(scores: Scores) -> Scores:
    """Probabilities; what is gone has 0."""
    weights: Scores = np.exp(scores - scores.max())
    weights /= weights.sum()
    return weights


def falling(scores: Scores) -> NDArray[np.int64]:
    """The ids that are there, likeliest first, of equals the lower first."""
    there = np.flatnonzero(scores > GONE)
    return there[np.lexsort((there, -scores[there]))]


def only(scores: Scores, kept: NDArray[np.int64]) -> Scores:
    """The scores of some ids, the others gone; all if none would be left."""
    if not kept.size:
        return scores
    out = np.full_like(scores, GONE)
    out[kept] = scores[kept]
    return out


def ways(logits: NDArray[np.floating], config: GenerationConfig, place: Place) -> list[Way]:
    """What may be drawn: one way, or two where XTC may or may not act."""
    found = [Way(1.0, logits.astype(np.float64))]
    for stage in stages(config):
        if stage == "xtc":
            found = xtc(found[0], config, place)
            continue
        for way in found:
            before = way.scores > GONE
            way.scores = apply(stage, way.scores, config, place)
            way.removed[stage] = np.flatnonzero(before & (way.scores == GONE))
    return found


def stages(config: GenerationConfig) -> list[str]:
    """The stages in the order in which they act."""
    order = list(config.sampler_order)
    if config.temperature_last:
        order.remove("temperature")
        order.append("temperature")
    if not config.do_sample or config.temperature == 0:
        return ["bans", *(stage for stage in order if stage in ("penalties", "dry")), "greedy"]
    if config.mirostat_tau:
        return ["bans", *(stage for stage in order if stage in ("penalties", "dry", "temperature")), "mirostat"]
    return ["bans", *order]


def apply(stage: str, scores: Scores, config: GenerationConfig, place: Place) -> Scores:
    """The scores after one stage."""
    match stage:
        case "bans":
            return bans(scores, config, place)
        case "penalties":
            return penalties(scores, config, place)
        case "dry":
            return dry(scores, config, place)
        case "temperature":
            return temperature(scores, config)
        case "top_k":
            return only(scores, falling(scores)[: config.top_k]) if config.top_k else scores
        case "top_p":
            return nucleus(scores, softmax(scores), falling(scores), config.top_p)
        case "min_p":
            least = softmax(scores).max() * config.min_p
            return (
                only(scores, np.flatnonzero(softmax(scores) >= least * (1 - 2 * ROUNDING))) if config.min_p else scores
            )
        case "top_n_sigma":
            if not config.top_n_sigma:
                return scores
            there = scores[scores > GONE]
            return only(scores, np.flatnonzero(scores >= there.max() - config.top_n_sigma * there.std() - ROUNDING))
        case "typical_p":
            return typical(scores, config.typical_p)
        case "greedy":
            return only(scores, falling(scores)[:1])
        case "mirostat":
            limit = 2 * config.mirostat_tau if place.limit is None else place.limit
            surprise = -np.log2(np.maximum(softmax(scores), 1e-300))
            fitting = np.flatnonzero((surprise <= limit) & (scores > GONE))
            return only(scores, fitting if fitting.size else falling(scores)[:1])
    raise AssertionError(stage)


def bans(scores: Scores, config: GenerationConfig, place: Place) -> Scores:
    """Banned ids go, and ends while the reply is too short."""
    gone = set(config.banned_tokens)
    if place.index < config.min_new_tokens:
        gone |= place.ends
    kept = [token for token in np.flatnonzero(scores > GONE).tolist() if token not in gone] if gone else []
    return only(scores, np.array(kept, dtype=np.int64)) if gone else scores


def penalties(scores: Scores, config: GenerationConfig, place: Place) -> Scores:
    """Repetition (Keskar et al. 2019) over prompt and reply; frequency and presence over the reply."""
    window = config.penalty_window
    said = [*place.prompt, *place.reply]
    reply = list(place.reply)
    if window:
        said, reply = said[-window:], reply[-window:]
    out = scores.copy()
    for token in set(said) - place.ends:
        out[token] = (
            out[token] / config.repetition_penalty if out[token] > 0 else out[token] * config.repetition_penalty
        )
    for token in set(reply) - place.ends:
        out[token] -= config.frequency_penalty * reply.count(token) + config.presence_penalty
    return out


def dry(scores: Scores, config: GenerationConfig, place: Place) -> Scores:
    """What would make a repetition longer loses multiplier * base ** (length - allowed)."""
    if not config.dry_multiplier:
        return scores
    said = [*place.prompt, *place.reply]
    said = said[-config.penalty_window :] if config.penalty_window else said
    stops = place.breakers | place.ends
    # No repetition reaches back over a breaker, nor grows beyond what a 32-bit number holds.
    most = next((steps for steps, token in enumerate(reversed(said)) if token in stops), len(said))
    if config.dry_base > 1.000001:
        most = min(most, config.dry_allowed_length + int(88.7228391 / math.log(config.dry_base)))
    else:
        most = min(most, config.dry_allowed_length)
    longest: dict[int, int] = {}
    for end in range(len(said) - 1):
        length = 0
        while length < most and length <= end and said[end - length] == said[-1 - length]:
            length += 1
        follower = said[end + 1]
        if length >= config.dry_allowed_length and follower not in stops:
            longest[follower] = max(longest.get(follower, 0), length)
    out = scores.copy()
    for token, length in longest.items():
        out[token] -= config.dry_multiplier * config.dry_base ** (length - config.dry_allowed_length)
    return out


def temperature(scores: Scores, config: GenerationConfig) -> Scores:
    """Division by a temperature that may follow the entropy, as llama.cpp's dynamic temperature does."""
    value, count = config.temperature, int(np.count_nonzero(scores > GONE))
    if config.dynatemp_range and count > 1:
        chances = softmax(scores)
        chances = chances[chances > 0]
        entropy = -float((chances * np.log(chances)).sum())
        low, high = max(value - config.dynatemp_range, 0.0), value + config.dynatemp_range
        value = low + (high - low) * min(max(entropy / math.log(count), 0.0), 1.0) ** config.dynatemp_exponent
    return only(scores, falling(scores)[:1]) if value == 0 else scores / max(value, 1e-9)


def nucleus(scores: Scores, weights: Scores, order: NDArray[np.int64], goal: float) -> Scores:
    """The first ids of an order that hold a goal of the weights."""
    if goal >= 1:
        return scores
    reached = np.cumsum(weights[order])
    return only(scores, order[: int(np.count_nonzero(reached < goal - ROUNDING)) + 1])


def typical(scores: Scores, goal: float) -> Scores:
    """The ids whose surprise is nearest to the entropy (Meister et al. 2022)."""
    if goal >= 1:
        return scores
    there = np.flatnonzero(scores > GONE)
    chances = softmax(scores)
    logs = scores[there] - scores.max() - math.log(np.exp(scores[there] - scores.max()).sum())
    strangeness = np.round(np.abs(logs - float((chances[there] * logs).sum())), 9)
    return nucleus(scores, chances, there[np.lexsort((there, strangeness))], goal)


def xtc(way: Way, config: GenerationConfig, place: Place) -> list[Way]:
    """With a probability, all that reach the threshold but the least likely go."""
    if not config.xtc_probability:
        return [way]
    chances = softmax(way.scores)
    top = [token for token in falling(way.scores).tolist() if chances[token] >= config.xtc_threshold - ROUNDING]
    gone = top[:-1]
    if config.xtc_spares_ends and (place.ends | place.newlines).intersection(gone):
        gone = []
    if not gone:
        return [way]
    scores = way.scores.copy()
    scores[gone] = GONE
    acting = Way(way.share * config.xtc_probability, scores, {**way.removed, "xtc": np.array(sorted(gone))})
    if config.xtc_probability == 1:
        return [acting]
    return [acting, Way(way.share * (1 - config.xtc_probability), way.scores, dict(way.removed))]


GOLDEN = 0x9E3779B97F4A7C15


def mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), modulo 2**64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def word(number: int) -> NDArray[np.uint64]:
    """A whole number modulo 2**64."""
    return np.array([number % 2**64], dtype=np.uint64)


def uniform(hashed: NDArray[np.uint64]) -> Scores:
    """Numbers in (0, 1): the top 53 bits of hashes, at the middle of their interval."""
    return ((hashed >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53


def drawn(found: list[Way], seed: int, index: int) -> int:
    """The token that the dice take: the highest score plus Gumbel noise, which is hashed from seed, index and id."""
    tokens, choices = (mixed(mixed(word(seed * GOLDEN + domain)) + word(index * GOLDEN)) for domain in (1, 2))
    way = found[0] if len(found) == 1 or uniform(mixed(choices))[0] < found[0].share else found[1]
    ids = np.flatnonzero(way.scores > GONE)
    noise = uniform(mixed(mixed(ids.astype(np.uint64) * np.uint64(GOLDEN) + tokens) + tokens))
    return int(ids[np.argmax(way.scores[ids] - np.log(-np.log(noise)))])
