"""The drawing and scrolling half of the transcript pane.

Rows are drawn straight from a `Document`; there is no child per turn, so that
the cost of a growing reply does not depend on what stands above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import perf_counter
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.color import Color, ColorParseError
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from llmchat.ui.keys_in_order import KeysInOrder
from llmchat.ui.rendering.document import Document, Entry
from llmchat.ui.rendering.finder import Finder
from llmchat.ui.rendering.line import Line, Span, crop
from llmchat.ui.rendering.looks import BACKGROUND_VARIABLES, COMPONENT_CLASSES, PREFIX, THEME_VARIABLES, look_css
from llmchat.ui.rendering.paint import MARGIN, Component, Overlay, Palette, paint_line
from llmchat.ui.rendering.selected import selected_text
from llmchat.ui.rendering.token_layer import TokenLayer

WIDEST_TEXT = 110
"""Cells; longer lines are hard to read."""
NEW_TEXT = " ↓ new text "
SETTLE_SECONDS = 0.006
"""How long one step of laying out turns that are not seen may take."""
SETTLE_PAUSE_SECONDS = 0.02


class Anchor(NamedTuple):
    """What stands at the top of the window."""

    block_id: str
    row: int
    """The row of the turn that is the topmost."""
    height: int
    """How high the turn is in this width."""
    width: int


class TranscriptPane(KeysInOrder, ScrollView, can_focus=True):
    """Draws turns, follows the end of the text, and lays out what comes into sight."""

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENT_CLASSES)
    DEFAULT_CSS = """
        TranscriptPane {
            background: $background;
            color: $foreground;
            overflow-x: hidden;
            overflow-y: auto;
            scrollbar-gutter: stable;
            scrollbar-size-vertical: 1;
            scrollbar-background: $background;
            scrollbar-background-hover: $background;
            scrollbar-background-active: $background;
            scrollbar-color: $foreground 20%;
            scrollbar-color-hover: $foreground 35%;
            scrollbar-color-active: $primary;
            &:ansi { scrollbar-color: ansi_default; scrollbar-color-hover: ansi_default; }
        }
        """ + look_css("TranscriptPane")

    has_new_text: reactive[bool] = reactive(False)
    """Whether text arrived below what is seen."""
    selected_turn: reactive[str | None] = reactive(None)
    """The id of the turn under the turn cursor."""
    token_cursor: reactive[tuple[str, int] | None] = reactive(None)
    """The id of a turn and the number of the token that is in hand there."""

    def __init__(self, hint: str = "", *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        """Make an empty transcript.

        Args:
            hint: Shown in the middle while there is no turn.
            id: The widget's id.
            classes: The widget's CSS classes.
        """
        super().__init__(id=id, classes=classes)
        self._document = Document()
        self._finder = Finder(self._document)
        self._tokens = TokenLayer()
        self._hint = hint
        self._following = True
        self._own_scroll = False
        self._settling = False
        self._palette: Palette | None = None

    @property
    def is_following(self) -> bool:
        """Whether the end of the text stays in sight as it grows."""
        return self._following

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._following, self.has_new_text = True, False
        self._document.settle_end(self.size.height)
        self._fit_document()
        self._scroll_quietly(self.max_scroll_y)

    def scroll_to(self, x: float | None = None, y: float | None = None, **options: Any) -> None:
        """Scroll at once: an animation would run after text that moves on meanwhile."""
        super().scroll_to(x, y, **{**options, "animate": False})

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow the end only while the person is there."""
        super().watch_scroll_y(old_value, new_value)
        if self._own_scroll:
            return
        self._following = round(new_value) >= self.max_scroll_y
        if self._following:
            self.has_new_text = False
        self._settle_window()

    def on_resize(self, event: events.Resize) -> None:
        """Lay out what is seen in the new width; the rest follows bit by bit."""
        width = max(4, min(WIDEST_TEXT, self.size.width - 2 * MARGIN))
        anchor = self._anchor()
        if width != self._document.width:
            if self.text_selection is not None:
                self.screen.clear_selection()
            self._document.resize(width)
        self._show_again(anchor)

    def on_click(self, event: events.Click) -> None:
        """A click on the note about new text goes there."""
        if self.is_on_note(event):
            self.follow()

    def is_on_note(self, event: events.MouseEvent) -> bool:
        """Whether the mouse is on the note about new text."""
        at_right = event.x >= self.size.width - len(NEW_TEXT) - 1
        return self.has_new_text and event.y == self.size.height - 1 and at_right

    @contextmanager
    def _scrolling(self) -> Iterator[None]:
        """Whatever scrolls meanwhile was not the person."""
        before, self._own_scroll = self._own_scroll, True
        try:
            yield
        finally:
            self._own_scroll = before

    def _scroll_quietly(self, y: float) -> None:
        with self._scrolling():
            self.scroll_to(y=y, immediate=True, force=True)

    def _fit_document(self) -> None:
        size = Size(self.size.width, self._document.height)
        if size != self.virtual_size:
            with self._scrolling():
                self.virtual_size = size

    def _text_changed(self, first_row: int, *, grown: bool) -> None:
        """Show rows that changed, and keep the end in sight or say that there is more."""
        self._finder.refresh()
        self._fit_document()
        if self._following:
            if not self.is_vertical_scrollbar_grabbed:
                self._scroll_quietly(self.max_scroll_y)
        elif grown and self._document.height > self.scroll_offset.y + self.size.height > 0:
            self.has_new_text = True
        bottom = self.scroll_offset.y + self.size.height
        first_row = max(first_row, self.scroll_offset.y)
        if first_row < bottom:
            self.refresh_lines(first_row, bottom - first_row)

    def watch_has_new_text(self) -> None:
        """Draw the note about new text, or take it away."""
        self.refresh()

    # Laying out what is seen

    def _anchor(self) -> Anchor | None:
        if not self._document.entries:
            return None
        index, row = self._document.locate(self.scroll_offset.y)
        entry = self._document.entries[index]
        return Anchor(entry.block.id, row, entry.height, self._document.width)

    def _show_again(self, anchor: Anchor | None) -> None:
        """Fill the window after turns or the width changed."""
        if self._following:
            self.follow()
        else:
            y = self._document.settle_window(self._anchored_row(anchor), self.size.height)
            self._fit_document()
            self._scroll_quietly(y)
            self._at_end()
        self._finder.refresh()
        self._settle_later()
        self.refresh()

    def _anchored_row(self, anchor: Anchor | None) -> int:
        """The row that belongs at the top so that an anchor stands where it stood."""
        index = self._document.index_of(anchor.block_id) if anchor else None
        if anchor is None or index is None:
            return self.scroll_offset.y
        self._document.settle(index, 0)
        row, height = anchor.row, self._document.entries[index].height
        if anchor.width != self._document.width:
            row = round(row / max(1, anchor.height) * height)
        return self._document.top(index) + min(row, height - 1)

    def _at_end(self) -> None:
        self._following = self.scroll_offset.y >= self.max_scroll_y
        if self._following:
            self.has_new_text = False

    def _settle_window(self) -> None:
        y = self._document.settle_window(self.scroll_offset.y, self.size.height)
        self._fit_document()
        if y != self.scroll_offset.y:
            self._scroll_quietly(y)
        self._finder.refresh()

    def _settle_all(self) -> None:
        y = self.scroll_offset.y
        while (index := self._document.next_unsettled()) is not None:
            y = self._document.settle(index, y)
        self._keep_place(y)

    def _keep_place(self, y: int) -> None:
        """Stay at the end, or at a row that is where the window's top row has moved to."""
        self._fit_document()
        if not self._following:
            self._scroll_quietly(y)
        elif not self.is_vertical_scrollbar_grabbed:
            self._scroll_quietly(self.max_scroll_y)

    def _settle_later(self) -> None:
        if self.size and not self._settling and self._document.next_unsettled() is not None:
            self._settling = True
            self.set_timer(SETTLE_PAUSE_SECONDS, self._settle_some)

    def _settle_some(self) -> None:
        """Lay out a few of the turns that are not seen, from the end up."""
        self._settling = False
        # Rows under a selection must not move.
        if self.text_selection is None:
            until = perf_counter() + SETTLE_SECONDS
            y = self.scroll_offset.y
            while perf_counter() < until and (index := self._document.next_unsettled()) is not None:
                y = self._document.settle(index, y)
            self._keep_place(y)
            self._finder.refresh()
        self._settle_later()

    # Drawing

    def notify_style_update(self) -> None:
        """Forget the colours when the theme or the CSS changes."""
        super().notify_style_update()
        self._palette = None

    def render_line(self, y: int) -> Strip:
        """Draw one row of the window."""
        if self._palette is None:
            self._palette = Palette(self.rich_style, self._component_style)
        width = self.size.width
        if not self._document.entries:
            strip = self._hint_row(y, self._palette)
        else:
            strip = self._row(self.scroll_offset.y + y, self._palette)
        if self.has_new_text and y == self.size.height - 1 and width > len(NEW_TEXT) + 2:
            note = Line((Span(NEW_TEXT, ("new-text",)),))
            note_strip = paint_line(note, len(NEW_TEXT), self._palette, margin=0)
            strip = Strip.join([strip.crop(0, width - len(NEW_TEXT) - 1), note_strip, strip.crop(width - 1, width)])
        return strip

    def _row(self, y: int, palette: Palette) -> Strip:
        width = self.size.width
        entry, row = next(self._document.rows(y, 1), (None, 0))
        if entry is None or row >= len(entry.lines):
            return Strip.blank(width, palette.style(())).apply_offsets(0, y)
        selected = entry.block.id == self.selected_turn
        shown = selected and entry.layout is not None and row >= entry.layout.top_margin
        strip = paint_line(
            entry.lines[row],
            width,
            palette,
            around=("selected",) if shown else (),
            on_top=("dimmed",) if entry.block.dimmed else (),
            bar=shown,
            overlays=self._overlays(entry, row, y, palette),
            text_width=self._document.width,
        )
        return strip.apply_offsets(0, y)

    def _overlays(self, entry: Entry, row: int, y: int, palette: Palette) -> list[Overlay]:
        cursor = self.token_cursor
        in_hand = cursor[1] if cursor is not None and cursor[0] == entry.block.id else None
        overlays: list[Overlay] = [
            (start + MARGIN, end + MARGIN, partial(palette.over, name=look))
            for start, end, look in self._tokens.on_row(entry, row, in_hand)
        ]
        overlays += (
            (start + MARGIN, end + MARGIN, partial(palette.over, name="match-current" if current else "match"))
            for start, end, current in self._finder.on_row(entry, row)
        )
        selection = self.text_selection
        span = selection.get_span(y) if selection else None
        if span is not None:
            start, end = span
            end = len(entry.lines[row].text) + MARGIN if end < 0 else end
            overlays.append((max(start, MARGIN), end, partial(palette.over, name="selection")))
        return overlays

    def _hint_row(self, y: int, palette: Palette) -> Strip:
        lines = self._hint.split("\n")
        number = y - (self.size.height - len(lines)) // 2
        text = crop(lines[number], self.size.width) if 0 <= number < len(lines) else ""
        left = max(0, (self.size.width - cell_len(text)) // 2)
        line = Line((Span(" " * left), Span(text, ("muted",))))
        return paint_line(line, self.size.width, palette, margin=0)

    def _component_style(self, look: str) -> Component:
        """What a look adds to the style around it."""
        styles = self.get_component_styles(PREFIX + look)
        own_color = styles.auto_color or (styles.has_rule("color") and styles.color.a > 0)
        color = styles.rich_style.color if own_color else None
        if variable := self._theme_color(THEME_VARIABLES.get(look)):
            color = variable.rich_color
        background = self._theme_color(BACKGROUND_VARIABLES.get(look))
        if background is None and styles.has_rule("background"):
            background = styles.background
        return Style(color=color) + styles.text_style, background

    def _theme_color(self, variable: str | None) -> Color | None:
        """A variable of llmchat's own themes; None if this theme does not have it."""
        with suppress(ColorParseError):
            return Color.parse(self.app.theme_variables[variable]) if variable in self.app.theme_variables else None
        return None

    # Selecting

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text under a mouse selection, as it was said."""
        return selected_text(self._document, selection), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw the selection."""
        self.refresh()
