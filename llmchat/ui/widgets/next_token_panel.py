"""What could come next: the likeliest tokens before and after the sampling chain.

Next token         raw → final %
▸·water           34 → 41   ████▌
 ·moon            18 → 22   ██▍
 ·quiet          3.1 →  –   ▏ top-p
9 tokens hold 90 %
choices 6.2 · entropy 1.8
"""

from __future__ import annotations

import textwrap

from textual.message import Message
from textual.widget import Widget

from llmchat.ui.rendering.candidates import Part, candidate_parts
from llmchat.ui.widgets.candidate_lines import CandidateLines, held, sign_of
from llmchat.worker.messages import NextToken

FEWEST_ROWS, MOST_ROWS = 4, 12
"""How few and how many candidates are worth their room."""

_AROUND = 3
"""Rows besides the candidates that cannot go: an empty one, the heading, the sum."""

_HINT = "From the first token on: what the model would say next, and what the sliders make of it."


class NextTokenPanel(CandidateLines):
    """The candidates of the latest place, as many as there is room for below the sliders.

    It stands in a container at the sidebar's end. Whenever the number of rows that
    are seen changes, it says so, so that nobody works out what is not looked at.
    """

    DEFAULT_CSS = """
    NextTokenPanel {
        width: 1fr;
        height: 0;
        padding: 0 1;
    }
    """

    class RowsWanted(Message):
        """Another number of candidates is seen than before; 0 if nobody looks."""

        def __init__(self, rows: int) -> None:
            super().__init__()
            self.rows = rows

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        """A panel that has seen no token yet."""
        super().__init__(id=id)
        self.candidates: NextToken | None = None
        """What is shown; None before the first token."""
        self.shown_rows = 0
        """How many candidates there is room for; 0 while nobody sees them."""
        self._switched_on = True

    def on_mount(self) -> None:
        """Fit anew whenever anything on the screen moves."""
        self.screen.screen_layout_refresh_signal.subscribe(self, lambda _: self.fit())
        self.call_after_refresh(self.fit)

    @property
    def switched_on(self) -> bool:
        """Whether the panel is shown where there is room; assigning shows or hides it."""
        return self._switched_on

    @switched_on.setter
    def switched_on(self, shown: bool) -> None:
        self._switched_on = shown
        # From its own queue: a message that the screen's handlers cause does not rise above the screen.
        self.call_later(self.fit)

    def show(self, candidates: NextToken | None) -> None:
        """Show the candidates of a place; None: of none any more."""
        self.candidates = candidates
        self.redraw()

    def fit(self) -> None:
        """Take the room that the sliders leave, or none if it is too little."""
        room = (self._room() if self._switched_on else 0) - _AROUND
        # A second line of sums comes before more rows, and an empty line above them next.
        extra = min(max(room - FEWEST_ROWS, 0), 2)
        rows = min(room - extra, MOST_ROWS) if room >= FEWEST_ROWS else 0
        self.display = rows > 0
        self.styles.height = rows + _AROUND + extra
        if rows != self.shown_rows:
            self.shown_rows = rows
            self.post_message(self.RowsWanted(rows))

    def _room(self) -> int:
        """Rows of the sidebar that its other lines leave."""
        place = self.parent
        sidebar = place.parent if place is not None else None
        if not isinstance(sidebar, Widget) or not sidebar.display:
            return 0
        others = (child for child in sidebar.children if child is not place and child.display)
        taken = sum(child.outer_size.height + child.styles.margin.height for child in others)
        return sidebar.size.height - taken

    def rows(self, width: int, height: int) -> list[list[Part]]:
        """Heading, candidates, and what they come to."""
        candidates = self.candidates
        if candidates is None:
            hint = [[(f" {line}", "muted")] for line in textwrap.wrap(_HINT, max(width - 1, 8))]
            return [[], [("Next token", "heading")], *hint]
        token_width = min(max(width - 26, 6), 18)
        heading: list[Part] = [("Next token", "heading"), ("raw → final %".rjust(max(token_width + 6, 14)), "muted")]
        lines = [
            candidate_parts(row, width, token_width, sign_of(row.token_id, candidates))
            for row in candidates.rows[: self.shown_rows]
        ]
        spare = height - self.shown_rows - _AROUND
        choices = f"choices {candidates.effective_choices:.1f}"
        left: list[Part] = [(f" {held(candidates)}", "text")]
        if spare < 1:
            both = f" {held(candidates)} · {choices}"
            short = both if len(both) <= width else both.replace("tokens hold", "hold")
            return [[], heading, *lines, [(short[: -len(choices)], "text"), (choices, "muted")]]
        entropy = f" {choices} · entropy {candidates.entropy + 0.0:.2f}"
        return [[], heading, *lines, *([[]] * (spare - 1)), left, [(entropy, "muted")]]
