"""What every list of candidates for a place has in common: how a row is coloured, and the sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content
from textual.widget import Widget

from llmchat.ui.rendering.candidates import Part, percent
from llmchat.worker.messages import NextToken

PREFIX = "candidate--"


class CandidateLines(Widget):
    """A widget that draws lines of parts, each in a look of its own."""

    ALLOW_SELECT = False

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "candidate--heading",
        "candidate--text",
        "candidate--muted",
        "candidate--taken",
        "candidate--removed",
        "candidate--final",
        "candidate--bar",
        "candidate--ghost",
        "candidate--stage",
        "candidate--key",
        "candidate--chosen",
    }

    DEFAULT_CSS = """
    CandidateLines {
        color: $foreground;
        text-wrap: nowrap;
        text-overflow: clip;

        & > .candidate--heading { text-style: bold; }
        & > .candidate--muted { color: $text-muted; }
        & > .candidate--taken { color: $change; text-style: bold; }
        & > .candidate--removed { color: $text-muted; text-style: strike; }
        & > .candidate--final { color: $text-success; text-style: bold; }
        & > .candidate--bar { color: $primary; }
        & > .candidate--ghost { color: $foreground 35%; }
        & > .candidate--stage { color: $text-muted; text-style: italic; }
        & > .candidate--key { color: $primary; text-style: bold; }
        & > .candidate--chosen { background: $primary 20%; text-style: bold; }
        &:ansi > .candidate--chosen { background: transparent; }
        &:ansi > .candidate--ghost { color: ansi_default; text-style: dim; }
    }
    """

    def line(self, parts: Sequence[Part]) -> Content:
        """One row of parts."""
        styled = ((text, self.get_visual_style(PREFIX + look, partial=True)) for text, look in parts)
        return Content.assemble(*styled)


def held(candidates: NextToken) -> str:
    """How many tokens are left, and what part of the model's probability they hold."""
    count = "1 token holds" if candidates.survivors == 1 else f"{candidates.survivors} tokens hold"
    return f"{count} {percent(candidates.mass)} %"
