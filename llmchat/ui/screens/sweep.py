"""A sweep: a table of replies over the values of one parameter, with the same dice."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from llmchat.chat.plain_text import visible
from llmchat.chat.reply_metrics import measure, save_table
from llmchat.errors import LlmchatError
from llmchat.files import expanded
from llmchat.session.laboratory import Experiment, Trial
from llmchat.ui.rendering.hints import clickable
from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.ui.screens.experiment import ENDINGS, ExperimentScreen, ending
from llmchat.ui.widgets.choice_list import Choice, ChoiceList
from llmchat.ui.widgets.hint_line import HintLine
from llmchat.ui.widgets.path_input import PathInput
from llmchat.ui.widgets.reply_column import ReplyColumn

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

_SHOWN = 300
"""Characters of a reply in its row; more do not fit on a screen."""
_KEYS = "Enter reads it · k keeps it · s saves table · "


class SweepScreen(ExperimentScreen):
    """A row for each value, filled as the replies end."""

    HELP_HEADING = "In a sweep"
    AUTO_FOCUS = "ChoiceList"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "keep", "Keep this reply as the answer", False),
        Binding("s", "save", "Save the table as TOML or CSV", False),
    ]

    DEFAULT_CSS = """
    SweepScreen {
        background: $background;
        color: $foreground;

        & > .line { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
        & > #sweep-heading { background: $surface; }
        & > #sweep-columns { padding: 0 1; text-style: bold; margin-top: 1; }
        & > ChoiceList { height: 1fr; }
        & > PathInput { display: none; margin: 0 1; background: $panel; }
        &.-saving > PathInput { display: block; }
        & > #sweep-keys { color: $text-muted; }
        &.-saving > #sweep-keys { display: none; }
        &:ansi > PathInput { text-style: underline; }
    }
    """

    table = getters.query_one(ChoiceList)
    path_line = getters.query_one(PathInput)

    def __init__(self, chat: ChatScreen, experiment: Experiment, parameter: str) -> None:
        """A table for the replies of an experiment.

        Args:
            chat: The screen below.
            experiment: What is to be shown; it begins with the screen.
            parameter: What is swept.
        """
        super().__init__(chat, experiment)
        self._parameter = parameter
        self._ended: dict[int, Choice] = {}
        self._width = max(len("value"), *(len(trial.variant.label) for trial in experiment.trials))

    def compose(self) -> ComposeResult:
        """Heading, table, a line for the file's name, and the keys."""
        yield Static(id="sweep-heading", classes="line", markup=False)
        yield Static(id="sweep-columns", classes="line", markup=False)
        yield ChoiceList(self._rows())
        yield PathInput(placeholder="the file's name, such as sweep.toml or sweep.csv · Enter saves · Esc leaves it")
        yield HintLine(id="sweep-keys", classes="line", markup=False)

    def on_mount(self) -> None:
        """Begin."""
        names = f"{'value':>{self._width}}  {'tok':>5}  {'log p':>6}  {'dist-2':>6}  {'rep-4':>5}"
        self.query_one("#sweep-columns", Static).update(f"  {names}  {'end':<7}  text")
        self.begin()

    def show_all(self) -> None:
        """Bring every row up to its reply."""
        self.query_one("#sweep-heading", Static).update(self.heading(f"Sweep {self._parameter}"))
        for place, row in enumerate(self._rows()):
            self.table.show_choice(place, row)
        ended = self.experiment.is_done or self.experiment.request.cancel.is_set()
        words = self.reading or (_KEYS + ("Esc closes" if ended else "Esc stops"))
        self.query_one("#sweep-keys", Static).update(clickable(words))

    def _rows(self) -> list[Choice]:
        return [self._row(place, trial) for place, trial in enumerate(self.experiment.trials)]

    def _row(self, place: int, trial: Trial) -> Choice:
        """A row; that of a reply that has ended is made once."""
        if place in self._ended:
            return self._ended[place]
        row = Choice(str(place), _row(trial, self._width))
        if trial.reply is not None:
            self._ended[place] = row
        return row

    @property
    def _place(self) -> int:
        return self.table.highlighted or 0

    @on(ChoiceList.Accepted)
    def open_whole(self) -> None:
        """Show the whole reply of the row."""
        self.app.push_screen(WholeReplyScreen(self.experiment.trials[self._place], raw=self.chat.session.is_raw))

    def action_keep(self) -> None:
        """Make the row's reply the answer in the conversation."""
        self.keep(lambda: self.experiment.keep(self._place))

    def action_save(self) -> None:
        """Ask for the file's name."""
        if not self.experiment.outcomes():
            self.notify("No reply has ended yet.", severity="warning")
            return
        self.add_class("-saving")
        self.path_line.focus()

    @on(PathInput.Submitted)
    def save(self, event: PathInput.Submitted) -> None:
        """Write the table of the replies that have ended."""
        if not event.value.strip():
            self.notify("Write a file's name first, such as sweep.toml or sweep.csv.", severity="warning")
            return
        path = expanded(event.value.strip())
        model = self.chat.session.model
        about = {
            "model": model.name if model is not None else "",
            "prompt": self.experiment.question,
            "parameter": self._parameter,
        }
        try:
            save_table(path, self.experiment.outcomes(), about)
        except LlmchatError as error:
            self.chat.show_error(error)
            return
        self.notify(f"Written to {path}", markup=False)
        self._leave_path()

    def action_stop(self) -> None:
        """Leave the file's name; else stop what runs; else close."""
        if self.has_class("-saving"):
            self._leave_path()
        else:
            super().action_stop()

    def _leave_path(self) -> None:
        self.remove_class("-saving")
        self.table.focus()


class WholeReplyScreen(ModalScreen[None]):
    """One reply in full, over the table. Esc and Enter close it."""

    AUTO_FOCUS = "ReplyColumn"

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss(None)", "Close", False)]

    DEFAULT_CSS = """
    WholeReplyScreen { align: center middle; }
    WholeReplyScreen > ReplyColumn { width: 92%; height: 92%; background: $surface; }
    """

    def __init__(self, trial: Trial, *, raw: bool) -> None:
        """The reply as far as it has come.

        Args:
            trial: The reply.
            raw: Whether it is plain text.
        """
        super().__init__()
        self._trial, self._raw = trial, raw

    def compose(self) -> ComposeResult:
        """A frame that scrolls."""
        column = ReplyColumn()
        column.border_title = Content(visible(self._trial.variant.label))
        column.border_subtitle = Content(ending(self._trial))
        text, thought = self._trial.text, self._trial.thought
        column.show(TurnBlock("whole", "assistant", "", text, thought=thought, markdown=not self._raw))
        yield column

    def on_mount(self) -> None:
        """Begin at the beginning."""
        self.call_after_refresh(self.query_one(ReplyColumn).go_to, 0)


def _row(trial: Trial, width: int) -> str:
    """A reply as a row of the table: its figures once it has ended, and the start of its text."""
    label, text = trial.variant.label, visible(" ".join(trial.text[:_SHOWN].split()))
    if trial.reply is None:
        count = str(len(trial.token_ids)) if trial.token_ids else ""
        return f"{label:>{width}}  {count:>5}  {'':>6}  {'':>6}  {'':>5}  {'…' if count else 'waiting':<7}  {text}"
    figures = measure(trial.reply)
    numbers = (
        f"{figures.tokens:>5}  {_figure(figures.mean_logprob, 6)}  {_figure(figures.distinct_2, 6)}  "
        f"{_figure(figures.repetition, 5)}"
    )
    return f"{label:>{width}}  {numbers}  {ENDINGS[trial.reply.finish_reason]:<7}  {text}"


def _figure(number: float | None, width: int) -> str:
    return f"{'–' if number is None else f'{number:.2f}':>{width}}"
