"""A conversation: a tree of turns, and the path through it that is on the screen.

Turns with the same parent are alternatives. Nothing is ever written over: an
edited or regenerated turn is a new alternative beside the old one, and a deleted
one can be brought back. The path runs from a first turn down to the selected
turn, the leaf; it is what the window shows and what the model is given. The log
has all that happened, in order; from it the same conversation comes about again.
No input or output happens here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from llmchat.chat.history import Mark, Step
from llmchat.chat.standing_state import StandingState
from llmchat.chat.turn import Role, Turn, new_id, now, under_system
from llmchat.errors import TranscriptError

TITLE_LENGTH = 60
"""A title made from the first question is cut to this many characters."""


class Transcript:
    """A tree of turns with a selected path, and the facts of its header."""

    def __init__(
        self,
        turns: Iterable[Turn] = (),
        *,
        transcript_id: str | None = None,
        created: datetime | None = None,
        title: str = "",
        model: str = "",
        model_path: str = "",
        tokenizer_path: str = "",
    ) -> None:
        self.id = transcript_id or new_id()
        self.created = created or now()
        self.model = model
        """The short name of the model that the conversation began with."""
        self.model_path = model_path
        self.tokenizer_path = tokenizer_path
        self.state: StandingState | None = None
        """What was in force where the conversation was left, if it is not what its last reply says."""
        self._title = title
        self._turns: dict[str, Turn] = {}
        self._children: dict[str | None, list[str]] = {}
        self._visited: dict[str | None, str] = {}  # parent → the child that was last on the path
        self._leaf: str | None = None
        self._order: dict[str, int] = {}  # when each turn was added, deleted ones too
        self._steps: list[Step] = []
        self._undone: list[Step] = []
        self._retracted: set[str] = set()
        self._log: list[Turn | Mark] = []
        self._logged_leaf: str | None = None
        for turn in turns:
            self.add(turn)

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[Turn]:
        """Every turn of every branch, in the order in which they were added."""
        return iter(tuple(self._turns.values()))

    def __contains__(self, turn_id: object) -> bool:
        return turn_id in self._turns

    @property
    def title(self) -> str:
        """The title that was given, or the beginning of the first question."""
        return self._title or derived_title(self)

    @title.setter
    def title(self, title: str) -> None:
        self._title = " ".join(title.split())

    @property
    def title_without_deleted(self) -> str:
        """The title, but for one that was made from a question that is deleted."""
        gone = (derived_title([turn]) for step in self._steps if step.is_deletion for turn in step.turns)
        return derived_title(self) if self.title in gone else self.title

    @property
    def leaf(self) -> Turn | None:
        """The selected turn, the last of the path; None while nothing was said."""
        return None if self._leaf is None else self._turns[self._leaf]

    @property
    def leaf_id(self) -> str | None:
        """The id of the selected turn: the parent of whatever is said next."""
        return self._leaf

    @property
    def log(self) -> tuple[Turn | Mark, ...]:
        """All that happened, in order; a selection only where something was built on it, or it was noted."""
        return tuple(self._log)

    @property
    def deleted(self) -> frozenset[str]:
        """The ids of the turns that were deleted and can be brought back."""
        return frozenset(turn.id for step in self._steps if step.is_deletion for turn in step.turns)

    @property
    def retracted(self) -> frozenset[str]:
        """The ids of the turns that were taken out for good, but are still in the log."""
        return frozenset(self._retracted)

    def has_had(self, turn_id: str) -> bool:
        """Whether a turn was ever added, even if it is deleted now."""
        return turn_id in self._order

    def turn(self, turn_id: str) -> Turn:
        """The turn with this id.

        Raises:
            TranscriptError: There is none.
        """
        try:
            return self._turns[turn_id]
        except KeyError:
            raise TranscriptError(f"The conversation has no turn {turn_id!r}.") from None

    def path(self, turn_id: str | None = None) -> tuple[Turn, ...]:
        """The turns from the first down to this one, by default to the selected one."""
        current = self._leaf if turn_id is None else self.turn(turn_id).id
        turns: list[Turn] = []
        while current is not None:
            turns.append(self._turns[current])
            current = turns[-1].parent
        return tuple(reversed(turns))

    def asked(self, turn_id: str) -> tuple[Turn, ...]:
        """The turns that a reply answers, as the model was given them: under the system prompt of then."""
        turn = self.turn(turn_id)
        turns = () if turn.parent is None else self.path(turn.parent)
        system = None if turn.reply is None else turn.reply.system
        return turns if system is None else under_system(turns, system)

    def add(self, turn: Turn) -> None:
        """Take in a turn and select it.

        Raises:
            TranscriptError: Its id is taken, or its parent is not here.
        """
        if turn.id in self._turns:
            raise TranscriptError(f"The conversation has a turn {turn.id!r} already.")
        if turn.parent is not None and turn.parent not in self._turns:
            raise TranscriptError(f"Turn {turn.id!r} follows {turn.parent!r}, which the conversation does not have.")
        self.note_selection()
        if turn.reply is not None:
            self.state = None
        before = self._leaf
        self._put(turn)
        # Marking the parent alone suffices: those above are marked when the path moves.
        self._visited[turn.parent] = turn.id
        if turn.parent == self._leaf:
            self._leaf = turn.id
        else:
            self.stop_at(turn.id)
        if self._steps and self._steps[-1].takes_in(turn):
            self._steps[-1] = self._steps[-1].with_turn(turn)
        else:
            self._steps.append(Step(turn.id, before, (turn,)))
        self._undone.clear()
        self._log.append(turn)
        self._logged_leaf = self._leaf

    def _put(self, turn: Turn) -> None:
        self._turns[turn.id] = turn
        self._order.setdefault(turn.id, len(self._order))
        self._children.setdefault(turn.parent, []).append(turn.id)

    def say(self, role: Role, text: str) -> Turn:
        """Add what a person wrote after the selected turn, and return it."""
        turn = Turn(role, text, parent=self._leaf)
        self.add(turn)
        return turn

    def alternatives(self, turn_id: str) -> tuple[Turn, ...]:
        """The turn and those beside it with the same parent, oldest first."""
        return tuple(self._turns[other] for other in self._children[self.turn(turn_id).parent])

    def children(self, turn_id: str | None) -> tuple[Turn, ...]:
        """The turns that follow this one (None: the first turns), oldest first."""
        return tuple(self._turns[child] for child in self._children.get(turn_id, ()))

    def select(self, turn_id: str) -> None:
        """Put the path through this turn and on to where its branch was last left."""
        current = self.turn(turn_id).id
        while (child := self._visited.get(current)) is not None:
            current = child
        self.stop_at(current)

    def stop_at(self, turn_id: str | None) -> None:
        """End the path at this turn, so that what is said next branches off here; None: before the first."""
        self._leaf = None if turn_id is None else self.turn(turn_id).id
        for turn in self.path():
            self._visited[turn.parent] = turn.id

    def edit(self, turn_id: str, text: str) -> Turn:
        """Add an alternative of the turn with another text, select it and return it.

        The turn itself, and all that follows it, stays on its own branch.
        """
        old = self.turn(turn_id)
        turn = Turn(old.role, text, parent=old.parent)
        self.add(turn)
        return turn

    def delete(self, turn_id: str, step_id: str | None = None) -> tuple[Turn, ...]:
        """Take a turn out with everything that follows it, and return what was taken out; `undo` brings it back.

        If the path ran through it, it goes on through the alternative before it
        (or else the one after), or ends at its parent.

        Args:
            turn_id: The turn.
            step_id: The name of this deletion; by default a new one.
        """
        self.note_selection()
        step = Step(step_id or new_id(), self._leaf, self._take_out(turn_id), is_deletion=True)
        self._steps.append(step)
        self._undone.clear()
        self._note(Mark("deletions", self._leaf, step.id, turn_id))
        return step.turns

    def retract(self, turn_id: str) -> None:
        """Take out a turn that was never said, with everything that follows it: no step leads back to it."""
        self.note_selection()
        gone = {turn.id for turn in self._take_out(turn_id)}
        self._retracted |= gone
        left = (step if step.is_deletion else step.without(gone) for step in self._steps)
        self._steps = [step for step in left if step is not None]
        self._undone.clear()
        self._note(Mark("deletions", self._leaf, turn_id=turn_id, is_final=True))

    def size_from(self, turn_id: str) -> int:
        """How many turns go with one that is deleted, itself among them."""
        return sum(1 for _ in self._subtree(self.turn(turn_id).id))

    def _take_out(self, turn_id: str) -> tuple[Turn, ...]:
        turn = self.turn(turn_id)
        beside = self._children[turn.parent]
        place = beside.index(turn_id)
        was_on_path = turn in self.path()
        removed = tuple(self._subtree(turn_id))
        beside.remove(turn_id)
        for gone in removed:
            del self._turns[gone.id]
            self._children.pop(gone.id, None)
            self._visited.pop(gone.id, None)
        if self._visited.get(turn.parent) == turn_id:
            del self._visited[turn.parent]
            if beside:
                self._visited[turn.parent] = beside[max(place - 1, 0)]
        if was_on_path:
            self._leaf = turn.parent
            if beside:
                self.select(self._visited[turn.parent])
        return removed

    def undo(self, step_id: str | None = None) -> Step | None:
        """Take back the last change: bring back what was deleted, or step back before what was said.

        What was said stays as an alternative; of that, what is not on the path is passed over.

        Args:
            step_id: The change to take back; by default the last.

        Returns:
            The change; None if there is none.
        """
        on_path = {turn.id for turn in self.path()}
        wanted = (
            step
            for step in reversed(self._steps)
            if (step.id == step_id if step_id else step.is_deletion or step.id in on_path)
        )
        step = next(wanted, None)
        if step is None:
            return None
        self._steps.remove(step)
        self._undone.append(step)
        if step.is_deletion:
            self._bring_back(step.turns)
        self._stop_near(step.before, step.turns[0])
        self._note(Mark("undos", self._leaf, step.id))
        return step

    def redo(self, step_id: str | None = None) -> Step | None:
        """Make the change again that was taken back last, if nothing was said or deleted since.

        Args:
            step_id: The change; by default the one that was taken back last.

        Returns:
            The change; None if there is none.
        """
        wanted = (step for step in reversed(self._undone) if step_id in (None, step.id))
        step = next((step for step in wanted if all(turn.id in self._turns for turn in step.turns)), None)
        if step is None:
            return None
        self._undone.remove(step)
        self._steps.append(step)
        if step.is_deletion:
            self._take_out(step.turns[0].id)
        else:
            self.select(step.turns[-1].id)
        self._note(Mark("redos", self._leaf, step.id))
        return step

    def forget_deleted(self) -> None:
        """Let go of what was deleted, for good; what was said can still be taken back."""
        self._title = self.title_without_deleted
        said = (step for step in self._steps if not step.is_deletion and step.turns[0].id in self._turns)
        kept = ((step, tuple(turn for turn in step.turns if turn.id in self._turns)) for step in said)
        self._steps = [replace(step, turns=turns) for step, turns in kept]
        self._undone.clear()
        self._retracted.clear()
        self._log = list(self._turns.values())
        self._logged_leaf = next(reversed(self._turns), None)
        self.note_selection()

    def note_selection(self) -> None:
        """Put into the log where the path ends, if it ends elsewhere than the log says."""
        if self._leaf != self._logged_leaf:
            self._note(Mark("selections", self._leaf))

    def _note(self, mark: Mark) -> None:
        self._log.append(mark)
        self._logged_leaf = mark.leaf

    def _bring_back(self, turns: tuple[Turn, ...]) -> None:
        for turn in turns:
            if turn.id not in self._turns and (turn.parent is None or turn.parent in self._turns):
                self._put(turn)
                self._children[turn.parent].sort(key=self._order.__getitem__)
                self._visited[turn.parent] = turn.id
        self._turns = dict(sorted(self._turns.items(), key=lambda item: self._order[item[0]]))

    def _stop_near(self, turn_id: str | None, turn: Turn) -> None:
        """End the path at a turn, or else, where that is gone, before another."""
        if turn_id is None or turn_id in self._turns:
            self.stop_at(turn_id)
        else:
            self.stop_at(turn.parent if turn.parent in self._turns else None)

    def _subtree(self, turn_id: str) -> Iterator[Turn]:
        waiting = [turn_id]
        while waiting:
            current = waiting.pop()
            yield self._turns[current]
            waiting.extend(reversed(self._children.get(current, ())))


def derived_title(turns: Iterable[Turn]) -> str:
    """The beginning of the first question among these turns, on one line; "" if there is none."""
    first = next((turn.text for turn in turns if turn.role == "user" and turn.text.strip()), "")
    title = " ".join(first[: TITLE_LENGTH * 10].split())
    return title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 1].rstrip() + "…"
