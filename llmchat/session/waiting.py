"""What is said while the model is busy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reply to be made when the one before is done: to a new prompt, or to a turn once more."""

    text: str | None = None
    turn_id: str | None = None
    seed: int | None = None
    is_new: bool = False
    """Whether the turn was edited for this reply."""
