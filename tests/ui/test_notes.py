"""The program's own lines below the turns."""

from __future__ import annotations

from llmchat.ui.notes import Notes
from llmchat.ui.rendering.turn_block import Notice


def test_notes_are_no_turns() -> None:
    """Each line of a note is a line on the screen."""
    notes = Notes()
    notes.add("one\ntwo", is_error=True)
    (block,) = notes.blocks(has_model=True)
    assert (block.role, block.notices) == ("notice", (Notice("one", "error"), Notice("two", "error")))


def test_why_there_is_no_model_stays_until_there_is_one() -> None:
    """Clearing takes away what was said, not this."""
    notes = Notes()
    notes.add("one")
    notes.fail("No network.")
    notes.clear()
    (block,) = notes.blocks(has_model=False)
    assert block.notices[0] == Notice("No network.", "error")
    assert notes.blocks(has_model=True) == []
