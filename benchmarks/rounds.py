"""Measurements by turns: in each round everyone does the same work, so that a busy machine slows all of them.

What counts are the ratios, round by round, as median and range: absolute figures
vary with whatever else the machine does. They are printed as a Markdown table.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to reach."""

    bound: float
    at_most: bool = False

    def is_reached(self, value: float) -> bool:
        """Whether a figure reaches it."""
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{self.bound:g} or {'less' if self.at_most else 'more'}"


class Rounds:
    """What each contender reached in each round. The first one added is llmchat, which the others are compared with."""

    def __init__(self, unit: str) -> None:
        """A table without rows; `unit` is that of every value."""
        self._unit = unit
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, figure: str, contender: str, value: float) -> None:
        """Note one measurement."""
        self._values.setdefault(figure, {}).setdefault(contender, []).append(value)

    def ratios(self, figure: str, peer: str) -> list[float]:
        """Our figure as a multiple of the peer's, round by round."""
        ours = next(iter(self._values[figure].values()))
        return [one / other for one, other in zip(ours, self._values[figure][peer], strict=True)]

    def print(self, goals: Mapping[tuple[str, str], Goal]) -> bool:
        """Print a row for each figure and peer; returns whether every goal was reached.

        Args:
            goals: What the median ratio is to reach, by figure and peer.
        """
        rows, reached = [], True
        for figure, values in self._values.items():
            (name, ours), *others = values.items()
            if not others:
                rows.append([figure, self._spread(ours), name, "", "", ""])
            for peer, theirs in others:
                ratios, goal = self.ratios(figure, peer), goals.get((figure, peer))
                is_reached = goal is None or goal.is_reached(statistics.median(ratios))
                reached = reached and is_reached
                wanted = "" if goal is None else f"{goal}{'' if is_reached else ': MISSED'}"
                rows.append([figure, self._spread(ours), peer, self._spread(theirs), spread(ratios, 2), wanted])
        unit = self._unit
        print_table(["figure", f"llmchat, {unit}", "peer", f"peer, {unit}", "llmchat ÷ peer", "to reach"], rows)
        return reached

    def _spread(self, values: Sequence[float]) -> str:
        return spread(values, 0 if statistics.median(values) >= 100 else 1 if statistics.median(values) >= 10 else 2)


def spread(values: Sequence[float], digits: int) -> str:
    """The median of several values, their least and their most."""
    median, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} [{least}–{most}]"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
