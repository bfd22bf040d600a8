"""Deleting turns and taking changes back, as the window tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmchat.chat.history import Step, turn_count
from llmchat.chat.turn import Turn

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

_SECONDS = 8.0
"""How long a toast says how to get something back."""


class Changes:
    """Changes the conversation, and says how to change it back."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._session = screen.session
        self._given_back = ""  # the message that the last step back put into the prompt

    def delete(self, turn: Turn, *, again: bool) -> None:
        """Delete a turn with what follows it, if that is asked for twice.

        Raises:
            UsageError: A reply is being made.
        """
        self._session.require_rest()
        if not again:
            count = turn_count(self._session.transcript.size_from(turn.id))
            self._screen.notify(f"Press d again to delete {count}.", timeout=5)
            return
        removed = self._session.delete(turn.id)
        self._screen.refresh_turns()
        leaf = self._session.transcript.leaf_id
        # With the cursor on a turn, u is at hand.
        self._screen.view.selected_turn = leaf
        keys, them = "^Z" if leaf is None else "u or ^Z", "it" if len(removed) == 1 else "them"
        self._screen.notify(f"{turn_count(len(removed))} deleted · {keys} brings {them} back", timeout=_SECONDS)

    def undo(self) -> None:
        """Take back the last change; a message goes back into the prompt where nothing else is written.

        Raises:
            UsageError: There is none, or a reply is being made.
        """
        step = self._session.undo()
        if step.message is not None and self._screen.prompt.text in ("", self._given_back):
            self._given_back = step.message
            self._screen.prompt.write(step.message)
        self._screen.notify(f"{_taken_back(step)} · /redo or ^Y undoes that", timeout=_SECONDS)

    def redo(self) -> None:
        """Make the change again that was taken back last.

        Raises:
            UsageError: There is none, or a reply is being made.
        """
        step = self._session.redo()
        if step.message is not None and self._screen.prompt.text == self._given_back:
            self._screen.prompt.write("")
        what = f"{turn_count(len(step.turns))} deleted again" if step.is_deletion else "Made again"
        self._screen.notify(f"{what} · /undo or ^Z takes that back", timeout=_SECONDS)


def _taken_back(step: Step) -> str:
    if step.is_deletion:
        return f"Brought back: {turn_count(len(step.turns))}"
    return "Back before the reply" if step.message is None else "Back before the message"
