"""Telling letters that are keys from letters that begin a text, by what follows them."""

from __future__ import annotations

from collections.abc import Callable

from textual.timer import Timer

TYPING_SECONDS = 0.3
"""A letter that another one follows within this time is text."""


class TypedKeys:
    """Holds a letter until it is clear whether it is a key or the beginning of a text."""

    def __init__(
        self,
        set_timer: Callable[[float, Callable[[], None]], Timer],
        act: Callable[[str, int], object],
        write: Callable[[str], object],
    ) -> None:
        """Nothing is held yet.

        Args:
            set_timer: Calls something after some seconds.
            act: Carries out an action that is a key's, with how many times the key was pressed.
            write: Takes text.
        """
        self._set_timer, self._act, self._write = set_timer, act, write
        self._timer: Timer | None = None
        self._held = ""
        self._action = ""

    @property
    def is_waiting(self) -> bool:
        """Whether a letter may still turn out to be text."""
        return bool(self._held)

    def press(self, character: str, action: str | None, *, twice: bool = False) -> None:
        """Take a letter.

        Args:
            character: The letter.
            action: What it does as a key; None if it is text in any case.
            twice: Whether the key can be pressed twice in a row.
        """
        follows = self._timer is not None
        if follows and self._held and twice and character == self._held:
            self._held += character
        elif follows or action is None:
            self._write(self._held + character)
            self._held = ""
        else:
            self._held, self._action = character, action
        self._stop()
        self._timer = self._set_timer(TYPING_SECONDS, self.release)

    def release(self) -> None:
        """Nothing followed: what is held is a key."""
        self._stop()
        held, self._held = self._held, ""
        if held:
            self._act(self._action, len(held))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
