"""The transcript pane in a running app, driven by keys and the mouse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import thread_time

import pytest
from textual.app import App, ComposeResult
from textual.color import Color
from textual.events import MouseScrollDown, MouseScrollUp, Paste
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from llmchat.themes import load_themes
from llmchat.ui.rendering.looks import LOOK_STYLES
from llmchat.ui.rendering.turn_block import Notice, TurnBlock
from llmchat.ui.widgets.transcript_view import TranscriptView
from tests.test_themes import contrast
from tests.ui.helpers import resize, wait_until

REPLY = "The sea is an old woman who never sleeps.\n\n- **salt** for the sailors\n- foam\n\n```python\nx = 1\n```"


class TranscriptApp(App[None]):
    """A window with a transcript and a field below it."""

    CSS = "Input { height: 3; }"

    def __init__(self, blocks: list[TurnBlock] | None = None) -> None:
        super().__init__()
        self.blocks = blocks or []
        self.heard: list[Message] = []

    def compose(self) -> ComposeResult:
        """Make the two widgets."""
        yield TranscriptView(hint="Ask something")
        yield Input()

    def on_mount(self) -> None:
        """Show the turns."""
        self.view.set_blocks(self.blocks)
        self.view.focus()

    @property
    def view(self) -> TranscriptView:
        """The transcript."""
        return self.query_one(TranscriptView)

    def on_transcript_view_turn_action(self, message: TranscriptView.TurnAction) -> None:
        """Remember what was asked for."""
        self.heard.append(message)

    def get_default_screen(self) -> Screen[None]:
        """One that takes what is typed."""
        return _Screen()


class _Screen(Screen[None]):
    """Remembers what it is to write into the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def action_write_on(self, text: str) -> None:
        """As the chat's screen has it."""
        self.written.append(text)


def conversation(count: int, text: str = REPLY) -> list[TurnBlock]:
    """Prompts and replies in turn, with ids "0", "1" and so on."""
    return [
        TurnBlock(
            str(number),
            "assistant" if number % 2 else "user",
            "SmolLM2" if number % 2 else "You",
            text if number % 2 else f"Question {number}?",
            markdown=bool(number % 2),
        )
        for number in range(count)
    ]


def screen_rows(app: App[None]) -> list[str]:
    """What stands on the screen."""
    view = app.query_one(TranscriptView)
    return ["".join(segment.text for segment in view.render_line(y)).rstrip() for y in range(view.size.height)]


DRAWING = {"rule", "quote-bar", "selected-bar", "cursor", "bullet"}
"""Looks of lines and bars, which nobody has to read."""

LIVE = TurnBlock("live", "assistant", "SmolLM2", markdown=True, live=True)


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 16), (20, 6), (3, 4)])
async def test_it_draws_at_every_size(size: tuple[int, int]) -> None:
    """Nothing crashes and no row is longer than the pane, however small it is."""
    app = TranscriptApp([*conversation(6), LIVE])
    async with app.run_test(size=size) as pilot:
        for letter in "Hello **world** 海の手紙\n\n" * 5:
            app.view.stream("live", letter)
        await pilot.pause()
        for y in range(app.view.size.height):
            assert app.view.render_line(y).cell_length == app.view.size.width


async def test_an_empty_transcript_shows_its_hint() -> None:
    """Before the first turn the pane says what can be done."""
    app = TranscriptApp()
    async with app.run_test(size=(40, 11)):
        assert "Ask something" in "".join(screen_rows(app)).strip()
        app.view.append_block(TurnBlock("a", "user", "You", "hi"))
        assert screen_rows(app)[:3] == ["", "  You", "  hi"]


async def test_a_reply_is_drawn_while_it_is_written() -> None:
    """Text appears as it comes, with a cursor, under a heading whose details can change."""
    app = TranscriptApp([TurnBlock("a", "user", "You", "hi"), LIVE])
    async with app.run_test(size=(60, 20)):
        assert "  ▌ thinking …" in screen_rows(app)
        app.view.stream("live", "The **sea**")
        assert "  The sea▌" in screen_rows(app)
        app.view.update_block("live", details="seed 8417", live=False, alternatives=(2, 3))
        rows = screen_rows(app)
        assert "  SmolLM2  ‹2/3›   seed 8417" in rows
        assert "  The sea" in rows


async def test_it_follows_the_end_only_while_the_person_is_there() -> None:
    """A scroll away stops the following and text below is announced; coming back ends both."""
    app = TranscriptApp([*conversation(20), LIVE])
    async with app.run_test(size=(60, 20)) as pilot:
        view = app.view
        assert view.scroll_offset.y == view.max_scroll_y
        view.stream("live", "line\n\n" * 10)
        await pilot.pause()
        assert view.scroll_offset.y == view.max_scroll_y
        assert not view.has_new_text

        await pilot.press("shift+up")
        assert not view.is_following
        seen = view.scroll_offset.y
        view.stream("live", "more\n\n" * 10)
        await pilot.pause()
        assert view.scroll_offset.y == seen
        assert view.has_new_text
        assert "↓ new text" in screen_rows(app)[-1]

        await pilot.press("end")
        assert view.is_following
        assert not view.has_new_text
        assert view.scroll_offset.y == view.max_scroll_y


async def test_reaching_the_end_by_wheel_or_page_follows_again() -> None:
    """Every way to the bottom counts, not only the key for it."""
    app = TranscriptApp(conversation(20))
    async with app.run_test(size=(60, 20)) as pilot:
        view = app.view
        await pilot.press("pageup")
        assert not view.is_following
        await pilot.press("pagedown")
        assert view.is_following
        await pilot._post_mouse_events([MouseScrollUp], TranscriptView)
        assert not view.is_following
        await pilot._post_mouse_events([MouseScrollDown] * 3, TranscriptView)
        assert view.is_following
        await pilot.press("ctrl+home")
        assert view.scroll_offset.y == 0
        assert not view.is_following


async def test_a_click_on_the_note_goes_to_the_new_text() -> None:
    """The note about new text is also the way there."""
    app = TranscriptApp([*conversation(20), LIVE])
    async with app.run_test(size=(60, 20)) as pilot:
        view = app.view
        await pilot.press("ctrl+home")
        view.stream("live", "text")
        await pilot.pause()
        await pilot.click(TranscriptView, offset=(view.size.width - 4, view.size.height - 1))
        assert view.is_following


async def test_the_turn_cursor_moves_and_its_keys_are_told() -> None:
    """Alt+Up and Alt+Down choose a turn; its keys go to the screen; Esc and the end leave it."""
    blocks = [*conversation(6), TurnBlock("note", "notice", "", notices=(Notice("unknown command"),))]
    app = TranscriptApp(blocks)
    async with app.run_test(size=(60, 20)) as pilot:
        view = app.view
        await pilot.press("alt+up")
        assert view.selected_turn == "5"
        assert any(row.startswith("▌") for row in screen_rows(app))
        await pilot.press("alt+up")
        for key in "yYecrbdupi":
            await pilot.press(key)
            await wait_until(pilot, lambda: not view.typed.is_waiting)
        await pilot.press("left", "right")
        assert [message.action for message in app.heard if isinstance(message, TranscriptView.TurnAction)] == [
            "copy", "copy_code", "edit", "continue", "regenerate", "branch", "delete",
            "undo", "probabilities", "info", "previous", "next",
        ]  # fmt: skip
        assert {getattr(message, "turn_id", "") for message in app.heard} == {"4"}
        await pilot.press("escape")
        assert view.selected_turn is None
        await pilot.press("alt+up", "alt+down")
        assert view.selected_turn is None
        assert view.is_following


async def test_the_selected_turn_comes_into_sight() -> None:
    """Wherever the cursor goes, the heading of its turn can be seen."""
    app = TranscriptApp(conversation(30))
    async with app.run_test(size=(60, 16)) as pilot:
        for number in range(29, 15, -1):
            await pilot.press("alt+up")
            assert app.view.selected_turn == str(number)
            bars = [row for row in screen_rows(app) if row.startswith("▌")]
            assert bars[0] in ("▌ You", "▌ SmolLM2")


async def test_typed_and_pasted_text_goes_to_the_prompt() -> None:
    """A person who types with the transcript in focus means the prompt; no turn key fires."""
    app = TranscriptApp(conversation(4))
    async with app.run_test(size=(60, 16)) as pilot:
        await pilot.press("y", "space", "?")
        app.view.post_message(Paste("pasted\ntext"))
        await pilot.pause()
        assert isinstance(app.screen, _Screen)
        assert app.screen.written == ["y", " ", "?", "pasted\ntext"]


async def test_a_selection_copies_the_text_as_it_was_said() -> None:
    """Dragging over wrapped text gives it without margins and without the wrapping's line breaks."""
    text = "The sea is an old woman who never sleeps and hums to herself"
    app = TranscriptApp([TurnBlock("a", "user", "You", text + "\nsecond line")])
    async with app.run_test(size=(30, 16)) as pilot:
        assert screen_rows(app)[2] == "  The sea is an old woman"
        await pilot.mouse_down(TranscriptView, offset=(6, 2))
        await pilot.hover(TranscriptView, offset=(7, 5))
        await pilot.mouse_up(TranscriptView, offset=(7, 5))
        await pilot.pause()
        assert app.screen.get_selected_text() == text[4:] + "\nsecond"
        styles = [segment.style for segment in app.view.render_line(3) if segment.text.strip()]
        assert all(style and style.bgcolor != app.view.rich_style.bgcolor for style in styles)


async def test_selected_text_can_be_read_in_every_theme() -> None:
    """What is selected stands out from its ground, in the themes that are shipped and in Textual's own."""
    app = TranscriptApp([TurnBlock("a", "user", "You", "The sea is an old woman")])
    for theme in load_themes(Path("/nonexistent")).themes.values():
        app.register_theme(theme)
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.mouse_down(TranscriptView, offset=(6, 2))
        await pilot.hover(TranscriptView, offset=(16, 2))
        await pilot.mouse_up(TranscriptView, offset=(16, 2))
        alike = []
        for name in app.available_themes:
            app.theme = name
            await pilot.pause()
            plain, *_, marked = [segment.style for segment in app.view.render_line(2) if segment.text.strip()][:2]
            assert plain is not None and marked is not None
            if marked.bgcolor in (plain.bgcolor, marked.color):
                alike.append(name)
        assert alike == []


async def test_find_counts_marks_and_goes_round() -> None:
    """Every match is found wherever it is; the current one is in sight and stands out."""
    blocks = conversation(40)
    app = TranscriptApp(blocks)
    async with app.run_test(size=(60, 16)) as pilot:
        view = app.view
        assert view.find("sea") == 20
        assert view.find("Sea") == 0
        await pilot.press("ctrl+home")
        assert view.find("old woman") == 20
        assert view.find_position == (1, 20)
        view.find_previous()
        assert view.find_position == (20, 20)
        assert any("old woman" in row for row in screen_rows(app))
        await pilot.press("n", "n")
        assert view.find_position == (2, 20)
        row = next(y for y, text in enumerate(screen_rows(app)) if "old woman" in text)
        looks = {segment.style for segment in view.render_line(row) if "old woman" in segment.text}
        assert all(style and style.reverse for style in looks) or len(looks) == 1
        await pilot.press("N")
        assert view.find_position == (1, 20)
        view.append_block(TurnBlock("more", "user", "You", "an old woman"))
        assert view.find_position == (1, 21)
        assert view.find("") == 0


async def test_changes_above_do_not_move_what_is_read() -> None:
    """A turn above that grows, goes or changes leaves the reader where they are."""
    app = TranscriptApp(conversation(30))
    async with app.run_test(size=(60, 16)) as pilot:
        view = app.view
        await pilot.pause(0.3)
        await pilot.press("pageup", "pageup", "pageup")
        before = screen_rows(app)
        view.update_block("1", text=REPLY * 3)
        await pilot.pause()
        assert screen_rows(app)[:-1] == before[:-1]
        view.remove_block("2")
        await pilot.pause()
        assert screen_rows(app)[:-1] == before[:-1]


async def test_a_reply_that_grows_under_the_readers_eyes_does_not_move() -> None:
    """Someone who reads the start of a long reply keeps their place while it goes on."""
    app = TranscriptApp([*conversation(4), replace(LIVE, text="line\n\n" * 40)])
    async with app.run_test(size=(60, 16)) as pilot:
        view = app.view
        await pilot.press("pageup", "pageup")
        place = view.scroll_offset.y
        view.stream("live", "more\n\n" * 20)
        view.set_blocks(replace(block, text=f"{block.text}end") if block.live else block for block in view.blocks)
        await pilot.pause()
        assert view.scroll_offset.y == place
        assert view.has_new_text


async def test_a_new_width_keeps_the_turn_at_the_top() -> None:
    """Resizing lays out again and stays with the turn that was read, or with the end."""
    app = TranscriptApp(conversation(60, REPLY.replace("sleeps", "sleeps " * 30)))
    async with app.run_test(size=(90, 20)) as pilot:
        view = app.view
        await resize(pilot, 50, 20)
        await pilot.pause()
        assert view.is_following
        assert view.scroll_offset.y == view.max_scroll_y
        await pilot.press("pageup", "pageup", "pageup", "pageup")
        top, _ = view._document.locate(view.scroll_offset.y)
        await resize(pilot, 100, 24)
        await wait_until(pilot, lambda: view._document.next_unsettled() is None)
        assert view._document.locate(view.scroll_offset.y)[0] == top


async def test_turns_out_of_the_context_are_dimmed_below_a_line_that_says_so() -> None:
    """Nothing leaves the window silently, and the line says it without colour."""
    blocks = [
        TurnBlock("a", "user", "You", "old", dimmed=True),
        TurnBlock("b", "user", "You", "new", notices=(Notice("the turn above no longer fits", "divider"),)),
    ]
    app = TranscriptApp(blocks)
    async with app.run_test(size=(60, 20)):
        assert any("── the turn above no longer fits ──" in row for row in screen_rows(app))
        old = next(segment.style for segment in app.view.render_line(2) if "old" in segment.text)
        new = next(segment.style for segment in app.view.render_line(7) if "new" in segment.text)
        assert old and new and old.color != new.color


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark", "ansi-light"])
async def test_it_draws_in_textuals_own_themes(theme: str) -> None:
    """The pane needs no variable of our themes, and a change of theme reaches every row."""
    blocks = [TurnBlock("a", "user", "You", "hi"), *conversation(4)]
    app = TranscriptApp(blocks)
    async with app.run_test(size=(60, 20)) as pilot:
        app.theme = theme
        await pilot.press("alt+up")
        app.view.find("sea")
        await pilot.pause()
        assert all(app.view.render_line(y).cell_length == app.view.size.width for y in range(app.view.size.height))


@pytest.mark.parametrize("name", ["night", "day", "contrast", "paper"])
async def test_every_text_is_readable_in_every_shipped_theme(name: str) -> None:
    """Each look has a contrast of 4.5:1 on every ground it can stand on, under the turn cursor too."""
    app = TranscriptApp(conversation(2))
    async with app.run_test(size=(60, 20)) as pilot:
        app.register_theme(load_themes().themes[name])
        app.theme = name
        await pilot.pause()
        app.view.render_line(0)
        palette = app.view._palette
        assert palette is not None
        pale = {}
        for look in sorted(LOOK_STYLES.keys() - DRAWING):
            inner = ("code-block",) if look.startswith("code-") else ()
            for around in ((), ("selected",)):
                style = palette.style((*around, *inner, look))
                assert style.color and style.bgcolor
                ratio = contrast(Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor))
                if ratio < 4.5:
                    pale[*around, *inner, look] = round(ratio, 2)
        assert not pale


async def test_a_tail_update_costs_the_same_under_two_thousand_turns() -> None:
    """The cost of a growing reply does not depend on what stands above it."""
    seconds = {}
    for count in (20, 2000):
        app = TranscriptApp([*conversation(count), LIVE])
        async with app.run_test(size=(100, 30)) as pilot:
            app.view._settle_all()
            await pilot.pause()
            times = []
            for _ in range(60):
                started = thread_time()
                app.view.stream("live", "word and ")
                times.append(thread_time() - started)
            seconds[count] = sorted(times)[len(times) // 2]
    assert seconds[2000] < 0.006
    assert seconds[2000] < 4 * seconds[20] + 0.001
