"""What is said while the model is busy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reply to be made when the one before is done: to a new prompt, or to a turn once more."""

    text: str | None = None
    turn_id: str | None = None
    seed: int | None = None
    edited: str | None = None
    """The turn beside which this one was put by an edit, for this reply."""
