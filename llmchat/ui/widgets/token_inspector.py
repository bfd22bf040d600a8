"""The token in hand: what else could have come in its place. Stands below the transcript.

─ Token 12 of 41  ·water ──────── 34 % · rank 1 ─
›▸·water         34 →  41  ████▌
  ·moon          18 →  22  ██▍
  ·quiet        3.1 →   –  ▏ top-p
  9 tokens hold 90 % · choices 6.2 · entropy 1.80
  ←→ token  ↑↓ choose  Enter take it  x ban …
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from llmchat.ui.keys import key_label
from llmchat.ui.keys_in_order import KeysInOrder
from llmchat.ui.rendering.candidates import Part, candidate_parts
from llmchat.ui.rendering.fitting import fitting
from llmchat.ui.widgets.candidate_lines import CandidateLines, held, sign_of
from llmchat.worker.messages import CandidateRow, NextToken

LISTED = 24
"""How many candidates can be walked through."""

Unit = Literal["token", "word", "edge"]
Use = Literal["take", "ban", "stop"]

_BELOW = 2
"""Rows under the candidates: the sums and the keys."""

_WIDEST_BAR = 32

_ARROWS = (
    ("  ←", "", "step(-1, 'token')"),
    ("→", " token", "step(1, 'token')"),
    ("  ↑", "", "choose(-1)"),
    ("↓", " choose", "choose(1)"),
)
"""The first keys of the last row, the words for them, and their actions."""

_HINTS = (
    ("use('take')", "take it"),
    ("use('ban')", "ban"),
    ("use('stop')", "stop here"),
    ("leave", "back"),
    ("step(1, 'word')", "word"),
)
"""Actions and the words for them in the last row."""


class TokenInspector(KeysInOrder, CandidateLines, can_focus=True):
    """A list of candidates to choose from, and the keys that go from token to token.

    It only shows and reports: the chat screen knows the reply and the worker.
    """

    HELP_HEADING = "Token by token"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1, 'token')", "Token before", False, id="token.previous"),
        Binding("right", "step(1, 'token')", "Next token", False, id="token.next"),
        Binding("ctrl+left", "step(-1, 'word')", "Word before", False, id="token.word_before"),
        Binding("ctrl+right", "step(1, 'word')", "Next word", False, id="token.next_word"),
        Binding("home", "step(-1, 'edge')", "First token", False, id="token.first"),
        Binding("end", "step(1, 'edge')", "To the end of the reply", False, id="token.last"),
        Binding("up", "choose(-1)", "Candidate above", False, id="token.above"),
        Binding("down", "choose(1)", "Candidate below", False, id="token.below"),
        Binding("enter", "use('take')", "Take it and go on from there", False, id="token.take"),
        Binding("x", "use('ban')", "Ban it from all replies, or allow it again", False, id="token.ban"),
        Binding("s", "use('stop')", "End replies before its text, or no longer", False, id="token.stop"),
        Binding("escape", "leave", "Leave the tokens", False, id="token.leave"),
    ]

    DEFAULT_CSS = """
    TokenInspector {
        display: none;
        width: 1fr;
        height: 11;
        max-height: 50%;
        padding: 0 1;
        background: $surface;
        color: $foreground;
        border-top: solid $primary;
        border-title-color: $foreground;
        border-title-style: bold;
    }
    """

    chosen: reactive[int] = reactive(0)
    """Which candidate is chosen, from 0."""

    class Stepped(Message):
        """The person wants to go on to another token."""

        def __init__(self, by: int, unit: Unit) -> None:
            super().__init__()
            self.by = by
            """1 for the next, -1 for the one before."""
            self.unit = unit

    class Used(Message):
        """The person wants something done with the chosen candidate."""

        def __init__(self, use: Use, row: CandidateRow) -> None:
            super().__init__()
            self.use = use
            self.row = row

    class Left(Message):
        """The person is done with the tokens."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        """An inspector that is not seen until it is opened."""
        super().__init__(id=id)
        self._candidates: NextToken | None = None
        self._banned: Collection[int] = ()
        self._is_true = False
        self._hint_ends: list[tuple[int, str]] = []  # the cells of the last row up to which a click does an action

    @property
    def is_open(self) -> bool:
        """Whether it is shown."""
        return bool(self.display)

    @property
    def candidates(self) -> NextToken | None:
        """What is listed; None while it is not yet that of the place in hand."""
        return self._candidates if self._is_true else None

    def open(self) -> None:
        """Show it and take the focus; nothing is listed yet."""
        self._candidates = None
        self.display = True
        self.focus()

    def close(self) -> None:
        """Hide it."""
        self.display = False

    def show_place(self, title: str) -> None:
        """Another token is in hand; what is listed is of the one before until `show_candidates`."""
        self.border_title = Content(title)
        self._is_true = False
        self.redraw()

    def show_candidates(self, candidates: NextToken) -> None:
        """List what could have come in the place; what stands there is chosen at first."""
        self._candidates, self._is_true = candidates, True
        ids = [row.token_id for row in candidates.rows]
        here = candidates.drawn if candidates.taken is None else candidates.taken
        self.chosen = ids.index(here) if here in ids else 0
        self.redraw()

    def show_banned(self, token_ids: Collection[int]) -> None:
        """Mark the tokens that are banned from now on."""
        self._banned = token_ids
        self.redraw()

    def rows(self, width: int, height: int) -> list[list[Part]]:
        """The candidates around the chosen one, what they come to, and the keys."""
        room = max(height - _BELOW, 1)
        candidates = self._candidates
        if candidates is None:
            empty: list[list[Part]] = [[]] * (room - 1)
            return [[("  reading the reply up to here …", "muted")], *empty, [], self._hints(width)]
        first = self._first(room)
        listed = list(enumerate(candidates.rows))[first : first + room]
        lines = [self._row(row, number == self.chosen, width) for number, row in listed]
        lines += [[]] * (room - len(lines))
        choices = (f"choices {candidates.effective_choices:.1f}", f"entropy {candidates.entropy + 0.0:.2f}")
        sums = fitting(("  raw → final %", held(candidates), *choices), width)
        return [*lines, [(sums, "muted")], self._hints(width)]

    def _first(self, room: int) -> int:
        """The first candidate that is seen, so that the chosen one is in the middle."""
        count = 0 if self._candidates is None else len(self._candidates.rows)
        return max(min(self.chosen - room // 2, count - room), 0)

    def _row(self, row: CandidateRow, chosen: bool, width: int) -> list[Part]:
        token_width = min(max(width // 4, 8), 24)
        note = "banned" if row.token_id in self._banned else ""
        inner = min(width - 1, token_width + 14 + _WIDEST_BAR)
        assert self._candidates is not None
        sign = sign_of(row.token_id, self._candidates)
        parts = candidate_parts(row, inner, token_width, sign, note)
        parts = [("›" if chosen else " ", "taken"), *parts]
        if not self._is_true:
            return [(text, "muted") for text, _ in parts]
        if not chosen:
            return parts
        rest = width - sum(cell_len(text) for text, _ in parts)
        return [(text, f"chosen {look}") for text, look in [*parts, (" " * rest, "text")]]

    def _hints(self, width: int) -> list[Part]:
        """The keys, as many as fit, under the names that the person gave them."""
        keys = {
            active.binding.action.rpartition(".")[2]: key_label(active.binding.key)
            for active in self.screen.active_bindings.values()
            if active.node is self
        }
        named = ((f"  {keys[action]}", f" {words}", action) for action, words in _HINTS if action in keys)
        parts: list[Part] = []
        self._hint_ends = []
        used = 0
        for key, words, action in (*_ARROWS, *named):
            if used + (cells := cell_len(key + words)) <= width:
                used += cells
                parts += [(key, "key"), (words, "muted")]
                self._hint_ends.append((used, action))
        return parts

    async def on_click(self, event: events.Click) -> None:
        """A click chooses a candidate, or does as the key that is hinted at there."""
        room = max(self.content_size.height - _BELOW, 1)
        row, column = event.y - self.styles.gutter.top, event.x - self.styles.gutter.left
        if self._candidates is not None and 0 <= row < room:
            self.chosen = min(self._first(room) + row, len(self._candidates.rows) - 1)
        elif row == self.content_size.height - 1:
            action = next((action for end, action in self._hint_ends if column < end), None)
            if action is not None:
                await self.run_action(action)

    def on_focus(self) -> None:
        """The keys are known now."""
        self.redraw()

    def watch_chosen(self) -> None:
        """Another candidate stands out."""
        self.redraw()

    def action_step(self, by: int, unit: Unit) -> None:
        """Ask for another token."""
        self.post_message(self.Stepped(by, unit))

    def action_choose(self, by: int) -> None:
        """Choose the candidate above or below."""
        if self._candidates is not None:
            self.chosen = min(max(self.chosen + by, 0), len(self._candidates.rows) - 1)

    def action_use(self, use: Use) -> None:
        """Do something with the chosen candidate, once it is known what stands there."""
        if self.candidates is not None:
            self.post_message(self.Used(use, self.candidates.rows[self.chosen]))

    def action_leave(self) -> None:
        """Say that the person is done."""
        self.post_message(self.Left())
