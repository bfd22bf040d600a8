"""What goes wrong with young models: replies that repeat themselves.

A reply loops when it ends in one block of tokens over and over: the ids of its last
`period × repeats` tokens are `repeats` times the same `period` ids. Ordinary texts
repeat words too, and tables and rules repeat signs, so a loop counts from
`LEAST_REPEATS` times and `LEAST_TOKENS` tokens on, and one without a single letter
from `LEAST_SIGNS` tokens on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST_PERIOD = 96
"""Tokens. Longer blocks, a few paragraphs, are not looked for."""

LEAST_REPEATS = 3
"""How often a block must stand in a row."""

LEAST_TOKENS = 12
"""How many tokens the repeated blocks must have together: "ha ha ha" is no loop."""

LEAST_SIGNS = 64
"""How many, if there is no letter among them: a table's "| --- | --- |" is no loop."""

IN_A_LOOP = "repeating itself"
"""What the cause of a reply's end is followed by if it was in a loop then."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A block of tokens that stands several times in a row at the end of a text."""

    period: int
    """Tokens of the block."""
    repeats: int
    """How often it stands there, whole."""
    begun: int = 0
    """How many tokens of one more follow."""


class LoopDetector:
    """Watches the tokens of one reply as they come.

    Each token costs a comparison for every period, a few microseconds, however
    long the reply is.
    """

    __slots__ = ("_recent", "_runs")

    def __init__(self, token_ids: Iterable[int] = ()) -> None:
        """A detector that has seen these tokens."""
        self._recent: deque[int] = deque(maxlen=LONGEST_PERIOD)  # newest first
        self._runs = [0] * LONGEST_PERIOD  # at p - 1: how many of the last tokens equal the one p places before
        for token_id in token_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """Take in the next token."""
        runs = self._runs
        for place, before in enumerate(self._recent):
            runs[place] = runs[place] + 1 if before == token_id else 0
        self._recent.appendleft(token_id)

    @property
    def loop(self) -> Loop | None:
        """The shortest block that the tokens end in often enough; None if there is none."""
        for period, run in enumerate(self._runs, 1):
            repeats = run // period + 1
            if repeats >= LEAST_REPEATS and repeats * period >= LEAST_TOKENS:
                return Loop(period, repeats, run % period)
        return None


@dataclass(frozen=True, slots=True)
class Repetition:
    """A loop that a person should hear of."""

    text: str
    """What is repeated."""
    repeats: int


def repetition(detector: LoopDetector, text: str, starts: Sequence[int]) -> Repetition | None:
    """What a reply repeats over and over at its end; None if it does not.

    Args:
        detector: What has seen the reply's tokens.
        text: The reply so far.
        starts: Where each token's bytes begin in the text as UTF-8; the last ones are enough.
    """
    loop = detector.loop
    if loop is None or len(starts) < loop.period + loop.begun:
        return None
    # Cut where the first one began, so that it reads as it was written.
    first = starts[len(starts) - loop.period - loop.begun]
    behind = starts[-loop.begun] if loop.begun else None
    block = text.encode()[first:behind].decode(errors="ignore")
    if not any(map(str.isalpha, block)) and loop.period * loop.repeats < LEAST_SIGNS:
        return None
    return Repetition(block, loop.repeats)
