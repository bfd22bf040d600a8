"""What the transcript pane shows of one turn. A plain value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmchat.chat.thought import Thought
from llmchat.chat.turn import TokenFacts
from llmchat.ui.rendering.heat import HeatMode

BlockRole = Literal["system", "user", "assistant", "notice"]
"""`notice` is no turn: a line of the program's own between turns. The turn cursor passes it by."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A line that the program adds to a turn."""

    text: str
    kind: Literal["divider", "note", "error"] = "note"
    """A divider stands above the heading, between rules; the others below the text."""


@dataclass(frozen=True, slots=True)
class TurnBlock:
    """One turn as the transcript shows it."""

    id: str
    role: BlockRole
    name: str
    """The heading: "You", or the model's short name. Empty: no heading."""
    text: str = ""
    thought: Thought = field(default_factory=Thought)
    """What the model wrote to itself before the text."""
    folded: bool = False
    """Whether the thought is shown as one line."""
    markdown: bool = False
    details: str = ""
    """Shown dim beside the name, such as "temp 0.8→1.2 · seed 8417 · 41 tok"."""
    alternatives: tuple[int, int] | None = None
    """Which alternative this is, counted from 1, and of how many."""
    marks: tuple[tuple[int, str], ...] = ()
    """Settings that changed within all that was written: the offset in characters and a label."""
    dimmed: bool = False
    """Whether the turn has left the model's context."""
    notices: tuple[Notice, ...] = ()
    facts: tuple[TokenFacts, ...] = ()
    """What is known of the tokens of thought and text; empty unless they are shown."""
    heat: HeatMode = "off"
    """What the tokens are coloured by."""
    live: bool = False
    """Whether the text is still being written."""
    waiting: str = "thinking …"
    """Shown after the cursor while the block is live and still without text."""

    @property
    def written(self) -> str:
        """All that was written, thought and marks included: what `marks` and `facts` count in."""
        return self.thought.written + self.text
