"""Token heat: how expected each token was. What was expected stays as it is; five classes are coloured."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Literal, get_args

from llmchat.chat.turn import TokenFacts
from llmchat.ui.rendering.line import Line, Span

HeatMode = Literal["off", "probability", "entropy", "rank"]
HEAT_MODES: tuple[HeatMode, ...] = get_args(HeatMode)
"""In the order in which a key goes through them."""

_PROBABILITIES = (0.01, 0.03, 0.10, 0.25, 0.50)
_CHOICES = (2, 4, 8, 20, 50)
_RANKS = (1, 3, 10, 30, 100)

_LEGENDS: dict[HeatMode, tuple[str, ...]] = {
    "probability": ("≥50 %", "≥25", "≥10", "≥3", "≥1", "<1 %"),
    "entropy": ("<2 choices", "<4", "<8", "<20", "<50", "≥50"),
    "rank": ("1st", "2–3", "4–10", "11–30", "31–100", "beyond"),
}
"""The classes from expected to surprising."""


def next_mode(mode: HeatMode) -> HeatMode:
    """The mode after this one, and off after the last."""
    return HEAT_MODES[(HEAT_MODES.index(mode) + 1) % len(HEAT_MODES)]


def heat_level(facts: TokenFacts, mode: HeatMode) -> int:
    """The class of a token, from 0, expected, to 5, a surprise.

    Probability and rank are the model's own, before the sampling chain; entropy
    tells how open the choice was, as a number of equally likely tokens.
    """
    if mode == "probability":
        return 5 - bisect_right(_PROBABILITIES, math.exp(facts.logprob))
    if mode == "entropy":
        return bisect_right(_CHOICES, math.exp(facts.entropy))
    return bisect_right(_RANKS, facts.rank)


def legend(mode: HeatMode) -> Line:
    """The line that says which colour means what."""
    spans = [Span(f"{mode}  ", ("muted", "gutter"))]
    for level, words in enumerate(_LEGENDS[mode]):
        spans.append(Span(f" {words} ", ("gutter", f"heat-{level}")))
    return Line(tuple(spans), body=False)
