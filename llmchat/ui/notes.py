"""The program's own lines below the turns."""

from __future__ import annotations

from llmchat.ui.rendering.turn_block import Notice, TurnBlock

WAYS_OUT = "F3 opens another model, /model tiny one that needs no network, ^R tries again. What you write stays here."


class Notes:
    """What was said since the last message, and why there is no model."""

    def __init__(self) -> None:
        self._blocks: list[TurnBlock] = []
        self._count = 0
        self._failure: TurnBlock | None = None

    def add(self, text: str, *, is_error: bool = False) -> None:
        """Say something."""
        self._count += 1
        notices = tuple(Notice(line, "error" if is_error else "note") for line in text.splitlines())
        self._blocks.append(TurnBlock(f"note-{self._count}", "notice", "", notices=notices))

    def fail(self, message: str) -> None:
        """Say why there is no model, and what to do about it."""
        notices = (Notice(message, "error"), Notice(WAYS_OUT, "note"))
        self._failure = TurnBlock("no-model", "notice", "", notices=notices)

    def clear(self) -> None:
        """Take away what was said."""
        self._blocks.clear()

    def blocks(self, *, has_model: bool) -> list[TurnBlock]:
        """What there is to show; why there is no model stays as long as there is none."""
        return [*self._blocks, *([self._failure] if self._failure is not None and not has_model else [])]
