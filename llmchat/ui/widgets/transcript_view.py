"""The transcript pane: every turn of a conversation in one scrollable widget.

It knows no worker and no file: the screen hands it `TurnBlock` values and
listens to its messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, ClassVar, Literal

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from llmchat.ui.rendering.paint import MARGIN
from llmchat.ui.rendering.thought_flow import FOLD
from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.ui.rendering.wrap import character_at
from llmchat.ui.widgets.transcript_pane import TranscriptPane
from llmchat.ui.widgets.typed_keys import TypedKeys

ActionName = Literal[
    "copy", "copy_code", "edit", "continue", "regenerate", "branch", "delete", "undo",
    "previous", "next", "probabilities", "tokens", "info", "copy_command", "copy_python", "thought",
]  # fmt: skip


AGAIN_SECONDS = 5.0
"""How long a first press waits for the second, where it takes two."""


class TranscriptView(TranscriptPane):
    """Shows the turns of a conversation and the reply that is being written.

    It follows the end of the text until the person scrolls away, and again when
    they come back to the end.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("shift+up", "scroll_up", "Scroll up", show=False, id="transcript.up"),
        Binding("shift+down", "scroll_down", "Scroll down", show=False, id="transcript.down"),
        Binding("ctrl+home", "scroll_home", "To the start", show=False, id="transcript.start"),
        Binding("ctrl+end", "scroll_end", "To the end", show=False, id="transcript.end"),
        Binding("alt+up", "select_turn(-1)", "Turn above", show=False, id="transcript.turn_above"),
        Binding("alt+down", "select_turn(1)", "Turn below", show=False, id="transcript.turn_below"),
        Binding("n", "find_next", "Next match", show=False, id="transcript.find_next"),
        Binding("N", "find_previous", "Match before", show=False, id="transcript.find_previous"),
        Binding("y", "turn('copy')", "Copy", id="turn.copy"),
        Binding("Y", "turn('copy_code')", "Copy code", show=False, id="turn.copy_code"),
        Binding("C", "turn('copy_command')", "Copy as a command", show=False, id="turn.copy_command"),
        Binding("P", "turn('copy_python')", "Copy as Python", show=False, id="turn.copy_python"),
        Binding("e", "turn('edit')", "Edit", id="turn.edit"),
        Binding("c", "turn('continue')", "Continue", id="turn.continue"),
        Binding("r", "turn('regenerate')", "Regenerate", id="turn.regenerate"),
        Binding("b", "turn('branch')", "Branch", id="turn.branch"),
        Binding("d", "turn('delete')", "Delete", id="turn.delete"),
        Binding("u", "turn('undo')", "Undo the last change", show=False, id="turn.undo"),
        Binding("t", "turn('thought')", "Fold or unfold the thought", show=False, id="turn.thought"),
        Binding("left", "turn('previous')", "Alternative before", show=False, id="turn.previous"),
        Binding("right", "turn('next')", "Next alternative", show=False, id="turn.next"),
        Binding("p", "turn('probabilities')", "Probabilities", show=False, id="turn.probabilities"),
        Binding("enter", "turn('tokens')", "Token by token", show=False, id="turn.tokens"),
        Binding("i", "turn('info')", "Info", show=False, id="turn.info"),
        Binding("escape", "leave_turn", "Leave the turn", show=False, id="turn.leave"),
    ]

    @dataclass
    class TurnAction(Message):
        """A key was pressed on the turn under the turn cursor."""

        turn_id: str
        action: ActionName
        again: bool = False
        """Whether it is the second press in a row, which what loses something needs."""

    @dataclass
    class TokenClicked(Message):
        """A token of a reply that shows its tokens was clicked."""

        turn_id: str
        token: int

    @dataclass
    class TurnSelected(Message):
        """The turn cursor moved; None: it is gone."""

        turn_id: str | None

    def __init__(self, hint: str = "", *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        """Make an empty transcript; arguments as for its pane."""
        super().__init__(hint, id=id, classes=classes)
        self._text = ""
        self.typed = TypedKeys(self.set_timer, self._act, self._write)
        self._pressed: tuple[str, ActionName] | None = None
        self._pressed_at = 0.0

    # What the screen calls

    @property
    def blocks(self) -> list[TurnBlock]:
        """The turns that are shown, from top to bottom."""
        return [entry.block for entry in self._document.entries]

    def set_blocks(self, blocks: Iterable[TurnBlock]) -> None:
        """Show other turns. What stays the same keeps its place in the window."""
        before = {block.id for block in self.blocks}
        anchor = self._anchor()
        self._document.set_blocks(blocks)
        if before.isdisjoint(block.id for block in self.blocks):
            self._following = True
        elif not self._following and self.blocks[-1].id not in before:
            self.has_new_text = True
        if self._document.index_of(self.selected_turn or "") is None:
            self.selected_turn = None
        self._show_again(anchor)

    def append_block(self, block: TurnBlock) -> None:
        """Add a turn at the end."""
        index = self._document.append(block)
        self._text_changed(self._document.top(index), grown=True)

    def update_block(self, block_id: str, block: TurnBlock | None = None, /, **changes: Any) -> None:
        """Show another state of a turn; an id that is not shown is passed over.

        Args:
            block_id: The turn.
            block: The new state, with the same id.
            changes: Fields of the state that are different, instead of a whole block.
        """
        index = self._document.index_of(block_id)
        if index is None:
            return
        old = self._document.entries[index]
        block = replace(block or old.block, **changes)
        if block == old.block:
            return
        top, height, length = self._document.top(index), old.height, len(old.block.written)
        only_text = replace(old.block, text=block.text, facts=block.facts, thought=block.thought) == block
        first_changed = self._document.update(index, block)
        if not only_text:
            # Its looks may be others, such as those of tokens, with the same rows.
            first_changed = 0
        grown = old.height - height
        if grown and not self._following and top + height <= self.scroll_offset.y:
            self._fit_document()
            self._scroll_quietly(self.scroll_offset.y + grown)
        margin = old.layout.top_margin if old.layout else 0
        self.refresh_lines(top + margin)
        self._text_changed(top + first_changed, grown=len(block.written) > length)

    def stream(self, block_id: str, text: str, **changes: Any) -> None:
        """Add text to a turn that is being written.

        Args:
            block_id: The turn.
            text: What is new.
            changes: Other fields that are different now.
        """
        index = self._document.index_of(block_id)
        if index is not None:
            self.update_block(block_id, text=self._document.entries[index].block.text + text, **changes)

    def remove_block(self, block_id: str) -> None:
        """Take a turn out."""
        if self._document.index_of(block_id) is not None:
            self.set_blocks(block for block in self.blocks if block.id != block_id)

    def show_token(self, turn_id: str, token: int) -> None:
        """Put the token cursor on a token, if its turn shows tokens, and bring it into sight."""
        self.token_cursor = (turn_id, token)
        index = self._document.index_of(turn_id)
        if index is None:
            return
        self._document.settle(index, 0)
        entry = self._document.entries[index]
        rows = self._tokens.rows_of(entry, token)
        first, last = (rows[0], rows[-1]) if rows else (entry.height - 1,) * 2
        top, height = self._document.top(index), self.size.height
        y = self.scroll_offset.y
        if not (y <= top + first and top + last < y + height):
            self._go_to(top + first - height // 3)

    def find(self, query: str) -> int:
        """Highlight a text wherever it stands and bring a match into sight.

        Args:
            query: Literal text; case counts only if it has a capital letter. Empty ends the search.

        Returns:
            The number of matches.
        """
        if query:
            self._settle_all()
        count = self._finder.search(query, self.scroll_offset.y)
        self._show_match()
        return count

    @property
    def find_position(self) -> tuple[int, int]:
        """The current match, counted from 1, and the number of matches; zeros if there are none."""
        return self._finder.position, self._finder.count

    def find_next(self) -> None:
        """Go to the next match, from the last one to the first."""
        self._finder.step(1)
        self._show_match()

    def find_previous(self) -> None:
        """Go to the match before, from the first one to the last."""
        self._finder.step(-1)
        self._show_match()

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of a turn work only under the turn cursor, those of a search only during one."""
        if action == "leave_turn":
            # While a reply is being written, the screen's Esc stops it first.
            return self.selected_turn is not None and not self._is_being_written
        if action == "turn":
            return self.selected_turn is not None
        if action in ("find_next", "find_previous"):
            return self._finder.is_active and self.selected_turn is None
        return True

    @property
    def _is_being_written(self) -> bool:
        """Whether the last reply still grows."""
        blocks = (entry.block for entry in reversed(self._document.entries))
        return next((block.live for block in blocks if block.role == "assistant"), False)

    async def on_key(self, event: events.Key) -> None:
        """Hand characters that mean nothing here to the screen, and those that other characters follow at once."""
        if self.screen.focused is not self:
            return  # An earlier key has moved the focus.
        active = self.screen.active_bindings.get(event.key)
        action = active.binding.action if active is not None else None
        if action != "turn('delete')":
            self._pressed = None
        if not (event.character and event.is_printable):
            self.typed.release()
        elif active is None or (active.node is self and action is not None and action.startswith("turn(")):
            event.stop()
            event.prevent_default()
            self.typed.press(event.character, action, twice=action == "turn('delete')")
            await self._hand_on()

    def _write(self, text: str) -> None:
        self._text += text

    async def _hand_on(self) -> None:
        """Give what was typed to the screen, at once: the next key is meant for where the text went."""
        text, self._text = self._text, ""
        if text:
            await self.run_action(f"screen.write_on({text!r})")

    def _act(self, action: str, presses: int) -> None:
        """Carry out what a letter does."""
        if presses > 1 and self.selected_turn is not None:
            self._pressed, self._pressed_at = (self.selected_turn, "delete"), monotonic()
        self.call_later(self.run_action, action)

    def on_click(self, event: events.Click) -> None:
        """A click on a token whose heat is shown takes it in hand; one on a thought's line folds or unfolds it."""
        if self.is_on_note(event):
            return
        entry, row = next(self._document.rows(self.scroll_offset.y + event.y, 1), (None, 0))
        if entry is None or not entry.lines or self.text_selection is not None:
            return
        if any(FOLD in span.look for span in entry.lines[row].spans):
            self.post_message(self.TurnAction(entry.block.id, "thought"))
            return
        column = character_at(entry.lines[row].text, event.x - MARGIN)
        token = self._tokens.token_at(entry, row, column)
        if token is not None:
            self.post_message(self.TokenClicked(entry.block.id, token))

    def on_resize(self, event: events.Resize) -> None:
        """Keep the token in hand in sight, once the rows are laid out anew."""
        self.call_next(self._keep_token_in_sight)

    def _keep_token_in_sight(self) -> None:
        if self.token_cursor is not None:
            self.show_token(*self.token_cursor)

    async def on_paste(self, event: events.Paste) -> None:
        """Hand pasted text to the screen."""
        event.stop()
        self._write(event.text)
        await self._hand_on()

    def action_turn(self, action: ActionName) -> None:
        """Tell the screen what to do with the selected turn."""
        if self.selected_turn is None:
            return
        pressed = (self.selected_turn, action)
        again = pressed == self._pressed and monotonic() - self._pressed_at < AGAIN_SECONDS
        self._pressed, self._pressed_at = None if again else pressed, monotonic()
        self.post_message(self.TurnAction(*pressed, again=again))

    def action_leave_turn(self) -> None:
        """Take the turn cursor away."""
        self.selected_turn = None

    def action_find_next(self) -> None:
        """Go to the next match."""
        self.find_next()

    def action_find_previous(self) -> None:
        """Go to the match before."""
        self.find_previous()

    def action_scroll_end(self) -> None:
        """Go to the end and follow it."""
        self.follow()

    def action_select_turn(self, direction: int) -> None:
        """Move the turn cursor up (-1) or down (1); below the last turn it goes away."""
        turns = [number for number, entry in enumerate(self._document.entries) if entry.block.role != "notice"]
        current = self._document.index_of(self.selected_turn or "")
        if current is not None:
            ahead = [turn for turn in turns if (turn < current if direction < 0 else turn > current)]
            target = (ahead[-1] if direction < 0 else ahead[0]) if ahead else None
            if target is None and direction < 0:
                return
        else:
            target = self._turn_in_sight(turns, direction)
        if target is None:
            self.selected_turn = None
            self.follow()
            return
        self._bring_into_sight(target)
        self.selected_turn = self._document.entries[target].block.id

    def _turn_in_sight(self, turns: list[int], direction: int) -> int | None:
        top = self.scroll_offset.y
        seen = [
            turn
            for turn in turns
            if self._document.top(turn) < top + self.size.height and self._document.top(turn + 1) > top
        ]
        if not seen:
            return None
        return seen[-1] if direction < 0 else seen[0]

    def watch_token_cursor(self) -> None:
        """Draw the token cursor elsewhere."""
        self.refresh()

    def watch_selected_turn(self, old: str | None, new: str | None) -> None:
        """Draw the turn cursor elsewhere and say so."""
        self.refresh()
        self.post_message(self.TurnSelected(new))

    def _bring_into_sight(self, index: int) -> None:
        """Scroll as little as shows a turn, or its beginning if it is higher than the window."""
        y = self._document.settle(index, self.scroll_offset.y)
        top, bottom = self._document.top(index), self._document.top(index + 1)
        height = self.size.height
        if top < y or bottom - top >= height:
            y = top
        elif bottom > y + height:
            y = bottom - height
        self._go_to(y)

    def _show_match(self) -> None:
        row = self._finder.current_row()
        if row is not None and not self.scroll_offset.y <= row < self.scroll_offset.y + self.size.height - 1:
            self._go_to(row - self.size.height // 3)
        self.refresh()

    def _go_to(self, y: int) -> None:
        y = self._document.settle_window(max(0, y), self.size.height)
        self._fit_document()
        self._scroll_quietly(y)
        self._at_end()
