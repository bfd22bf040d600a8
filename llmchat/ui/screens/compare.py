"""A comparison: two to four replies side by side, with the same dice."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from llmchat.chat.comparison import MOST_COLUMNS, first_difference
from llmchat.chat.plain_text import visible
from llmchat.session.laboratory import Experiment
from llmchat.ui.rendering.fitting import fitting
from llmchat.ui.rendering.hints import clickable
from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.ui.screens.experiment import ExperimentScreen, ending
from llmchat.ui.widgets.hint_line import HintLine
from llmchat.ui.widgets.reply_column import ReplyColumn

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

NARROWEST = 30
"""Cells of a column; with less the replies stand one below the other."""

LOWEST = 7
"""Rows of a reply that stands below another, with its frame."""

_PARTS = "≠1"
"""What stands where a reply parts from the first."""


class CompareScreen(ExperimentScreen):
    """The replies in columns. The first token at which one parts from the first is marked in its text."""

    HELP_HEADING = "In a comparison"
    AUTO_FOCUS = "ReplyColumn"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep_focused", "Keep this reply", False),
        *(Binding(str(place + 1), f"keep({place})", f"Keep reply {place + 1}", False) for place in range(MOST_COLUMNS)),
        Binding("a", "keep_all", "Keep all, as alternatives", False),
        Binding("left", "focus_column(-1)", "Column before", False),
        Binding("right", "focus_column(1)", "Next column", False),
    ]

    DEFAULT_CSS = """
    CompareScreen {
        background: $background;
        color: $foreground;

        & > .line { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
        & > #compare-heading { background: $surface; }
        & > #compare-keys { color: $text-muted; }
        & > #columns { layout: grid; height: 1fr; overflow-y: auto; }
    }
    """

    def __init__(self, chat: ChatScreen, experiment: Experiment) -> None:
        """Columns for the replies of an experiment."""
        super().__init__(chat, experiment)
        self._columns = [ReplyColumn() for _ in experiment.trials]
        self._raw = chat.session.is_raw

    def compose(self) -> ComposeResult:
        """A line above the columns, and one below with the keys."""
        yield Static(id="compare-heading", classes="line", markup=False)
        with Container(id="columns"):
            yield from self._columns
        yield HintLine(id="compare-keys", classes="line", markup=False)

    def on_mount(self) -> None:
        """Begin."""
        self.begin()

    def on_resize(self, event: events.Resize) -> None:
        """Columns where there is room, else two rows of two, else one below the other."""
        count = len(self._columns)
        across = next(n for n in (count, 2, 1) if count % n == 0 and (n == 1 or event.size.width // n >= NARROWEST))
        self.query_one("#columns").styles.grid_size_columns = across
        rows = count // across
        for column in self._columns:
            column.styles.height = "1fr" if rows == 1 else max(LOWEST, (event.size.height - 2) // rows)
        self._show_keys()

    def show_all(self) -> None:
        """Bring every column up to its reply."""
        self.query_one("#compare-heading", Static).update(self.heading("Compare"))
        for place, column in enumerate(self._columns):
            trial = self.experiment.trials[place]
            column.border_title = Content(f"{place + 1} · {visible(trial.variant.label)}")
            column.border_subtitle = Content(self._subtitle(place))
            column.show(self._block(place))
        self._show_keys()

    def _show_keys(self) -> None:
        """What the keys do, as far as there is room."""
        end = "Esc closes" if self._has_ended else "Esc stops"
        keys = (f"1–{len(self._columns)} Enter keep it", "a keeps all", "← → column", end, f"{_PARTS} parts from 1")
        self.query_one("#compare-keys", Static).update(clickable(fitting(keys, self.size.width - 2)))

    @property
    def _has_ended(self) -> bool:
        return self.experiment.is_done or self.experiment.request.cancel.is_set()

    def _subtitle(self, place: int) -> str:
        """What became of a reply, and where it parts from the first."""
        words = self.reading or ending(self.experiment.trials[place])
        if not place:
            return words
        parting = self.experiment.parting(place)
        if parting is not None:
            return f"{words} · {_PARTS} at {parting + 1}"
        first, trial = self.experiment.trials[0], self.experiment.trials[place]
        same = trial.reply is not None and first_difference(first.token_ids, trial.token_ids) is None
        return f"{words} · the same as 1" if same else words

    def _block(self, place: int) -> TurnBlock:
        """A reply as the column shows it; a chip stands where it parts."""
        trial = self.experiment.trials[place]
        offset = self.experiment.parting_offset(place) if place else None
        return TurnBlock(
            f"reply-{place}",
            "assistant",
            "",
            trial.text,
            thought=trial.thought,
            folded=not trial.thought.is_open,
            markdown=not self._raw,
            marks=() if offset is None else ((offset, _PARTS),),
            live=trial.reply is None and self.experiment.error is None,
            waiting="",
        )

    @on(ReplyColumn.Scrolled)
    def scroll_together(self, event: ReplyColumn.Scrolled) -> None:
        """Bring the other columns to the same row."""
        for column in self._columns:
            if column is not event.column:
                column.go_to(event.row)

    def action_keep_focused(self) -> None:
        """Make the reply in focus the answer."""
        self.action_keep(self._focused)

    def action_keep(self, place: int) -> None:
        """Make a reply the answer."""
        if place < len(self._columns):
            self.keep(lambda: self.experiment.keep(place))

    def action_keep_all(self) -> None:
        """Make all replies alternatives; the one in focus is shown."""
        self.keep(lambda: self.experiment.keep_all(self._focused))

    def action_focus_column(self, by: int) -> None:
        """Go to a column beside this one."""
        self._columns[(self._focused + by) % len(self._columns)].focus()

    @property
    def _focused(self) -> int:
        return next((place for place, column in enumerate(self._columns) if column.has_focus), 0)
