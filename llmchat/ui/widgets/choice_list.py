"""A list of which one is chosen: the row under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option


@dataclass(frozen=True, slots=True)
class Choice:
    """A row: what it stands for, its name, and a few words on it."""

    id: str
    title: str
    words: str = ""


class ChoiceList(OptionList):
    """Rows with a mark at the chosen one. Moving the cursor chooses; Enter chooses and goes on."""

    HELP_HEADING = "On a list"
    ALLOW_SELECT = False

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "accept", "Choose and go on", False),
    ]

    DEFAULT_CSS = """
    ChoiceList {
        height: auto;
        max-height: 1fr;
        border: none;
        padding: 0;
        background: transparent;
        scrollbar-size: 1 1;
        text-wrap: nowrap;
        text-overflow: ellipsis;

        &:focus { border: none; background-tint: transparent; }
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted { background: $boost; color: $foreground; text-style: none; }
        &:focus > .option-list--option-highlighted {
            background: $primary 20%;
            color: $foreground;
            text-style: none;
        }
        & > .option-list--option-hover { background: $boost; }
        &:ansi > .option-list--option-highlighted,
        &:ansi:focus > .option-list--option-highlighted { background: transparent; text-style: bold; }
    }
    """

    class Chosen(Message):
        """The cursor is on another row."""

        def __init__(self, choices: ChoiceList, choice: Choice) -> None:
            super().__init__()
            self.choices = choices
            self.choice = choice

        @property
        def control(self) -> ChoiceList:
            """The list."""
            return self.choices

    class Accepted(Message):
        """The person pressed Enter, or clicked the row that was chosen."""

        def __init__(self, choices: ChoiceList, choice: Choice) -> None:
            super().__init__()
            self.choices = choices
            self.choice = choice

        @property
        def control(self) -> ChoiceList:
            """The list."""
            return self.choices

    def __init__(self, choices: Sequence[Choice] = (), chosen: str = "", *, click_accepts: bool = False) -> None:
        """A list.

        Args:
            choices: The rows.
            chosen: The id of the row to begin at.
            click_accepts: Whether one click goes on; else a click chooses and a second one goes on.
        """
        super().__init__(markup=False)
        self._click_accepts = click_accepts
        self._choices: list[Choice] = []
        self._marked: int | None = None
        self.show_choices(choices, chosen)

    @property
    def choice(self) -> Choice | None:
        """The chosen row; None if the list is empty."""
        return None if self.highlighted is None else self._choices[self.highlighted]

    def show_choices(self, choices: Sequence[Choice], chosen: str = "") -> None:
        """Put other rows into the list, and the cursor on one of them, by default the first."""
        self._choices = list(choices)
        self._marked = None
        self.clear_options()
        self.add_options([Option(self._row(choice, marked=False)) for choice in choices])
        ids = [choice.id for choice in choices]
        if ids:
            self.highlighted = ids.index(chosen) if chosen in ids else 0

    def show_choice(self, index: int, choice: Choice) -> None:
        """Put another row in the place of one; the cursor stays where it is."""
        if self._choices[index] != choice:
            self._choices[index] = choice
            self._mark(index, marked=index == self.highlighted)

    def watch_highlighted(self, highlighted: int | None) -> None:
        """Move the mark with the cursor and tell about it."""
        super().watch_highlighted(highlighted)
        self._scroll_parent()
        if self._marked is not None and self._marked < len(self._choices):
            self._mark(self._marked, marked=False)
        self._marked = highlighted
        if highlighted is not None and highlighted < len(self._choices):
            self._mark(highlighted, marked=True)
            self.post_message(self.Chosen(self, self._choices[highlighted]))

    def _scroll_parent(self) -> None:
        """Show the chosen row where the list is as long as its rows and lies in something that scrolls."""
        if self.highlighted is None or not isinstance(self.parent, ScrollableContainer):
            return
        line = self._index_to_line.get(self.highlighted, 0)
        row = Region(0, line, self.size.width, self._heights.get(self.highlighted, 1))
        self.parent.scroll_to_region(row.translate(self.virtual_region.offset), animate=False, force=True)

    def _mark(self, index: int, *, marked: bool) -> None:
        self.replace_option_prompt_at_index(index, self._row(self._choices[index], marked=marked))

    def _row(self, choice: Choice, *, marked: bool) -> Content:
        mark = "● " if marked else "○ "
        row = Content.assemble(mark, (choice.title, "bold" if choice.words or marked else ""))
        if not choice.words:
            return row
        # On the chosen row's own background the quieter colour could be too quiet.
        return row + Content.assemble("\n  ", (choice.words, "" if marked else "$foreground 70%"))

    async def _on_click(self, event: events.Click) -> None:
        """A click chooses; a double click goes on."""
        event.prevent_default()
        index = event.style.meta.get("option")
        if index is None:
            return
        again = index == self.highlighted and event.chain > 1
        self.highlighted = index
        if again or self._click_accepts:
            self.action_accept()

    def action_accept(self) -> None:
        """Go on with the chosen row."""
        if (choice := self.choice) is not None:
            self.post_message(self.Accepted(self, choice))
