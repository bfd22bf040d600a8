"""What changed a conversation, step by step, so that any step can be taken back and made again. Plain values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from llmchat.chat.turn import Turn

MarkKind = Literal["selections", "deletions", "undos", "redos"]


class Mark(NamedTuple):
    """What happened to a conversation without a turn being added."""

    kind: MarkKind
    leaf: str | None
    """The turn that is selected from then on; None: before the first."""
    step_id: str = ""
    """The step that was made, taken back, or made again; "" for a selection."""
    turn_id: str = ""
    """The turn that was deleted, with all that follows it; "" for the others."""
    is_final: bool = False
    """Whether no step back brings it back: what was never said, as it was too long for the model."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change: something was said, with its first reply; or turns were deleted."""

    id: str
    """That of the first turn that was added, or the deletion's own."""
    before: str | None
    """The turn that was selected before."""
    turns: tuple[Turn, ...]
    """What was said, or what was deleted, the uppermost first."""
    is_deletion: bool = False

    def takes_in(self, turn: Turn) -> bool:
        """Whether a turn that is added belongs to this step: a first reply, or the message after a system prompt."""
        last = self.turns[-1]
        if self.is_deletion or turn.parent != last.id:
            return False
        return last.role == "system" or (last.role == "user" and turn.role == "assistant")

    def without(self, gone: Collection[str]) -> Step | None:
        """The step without some turns; None if nothing is left of it."""
        turns = tuple(turn for turn in self.turns if turn.id not in gone)
        return replace(self, turns=turns) if turns else None

    def with_turn(self, turn: Turn) -> Step:
        """The step with one more turn."""
        return replace(self, turns=(*self.turns, turn))

    @property
    def message(self) -> str | None:
        """The text that a person said with it; None for a reply alone or a deletion."""
        if self.is_deletion:
            return None
        return next((turn.text for turn in self.turns if turn.role == "user"), None)


def turn_count(count: int) -> str:
    """A number of turns in words, such as "1 turn" or "2 turns"."""
    return "1 turn" if count == 1 else f"{count} turns"
