"""The prompt in an app of its own: sending, lines, pasting, history, completion, the editor."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from textual import events
from textual._xterm_parser import XTermParser
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from llmchat.paths import history_path
from llmchat.ui.commands import Command
from llmchat.ui.prompt_history import PromptHistory
from llmchat.ui.widgets.prompt_input import PromptInput
from tests.ui.themed import ThemedApp


class PromptApp(ThemedApp):
    """A prompt under something else, and a record of what came out of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "note('escape')"),
        Binding("ctrl+c", "note('ctrl+c')"),
        Binding("pageup", "note('pageup')"),
        Binding("shift+up", "note('shift+up')"),
    ]

    def __init__(self, history: PromptHistory | None = None) -> None:
        super().__init__()
        self.prompt = PromptInput(history, {"theme": lambda: ["night", "day"]})
        self.sent: list[str | Command] = []
        self.quits = 0
        self.keys: list[str] = []

    def compose(self) -> ComposeResult:
        """The prompt, and another place for the focus."""
        yield Input(id="other")
        yield self.prompt

    def on_mount(self) -> None:
        """Begin in the prompt."""
        self.prompt.focus()

    def on_prompt_input_submitted(self, event: PromptInput.Submitted) -> None:
        """Record sent text."""
        assert event.control is self.prompt
        self.sent.append(event.text)

    def on_prompt_input_command_given(self, event: PromptInput.CommandGiven) -> None:
        """Record a command."""
        assert event.control is self.prompt
        self.sent.append(event.command)

    def on_prompt_input_quit_requested(self) -> None:
        """Count the wish to quit."""
        self.quits += 1

    def action_note(self, key: str) -> None:
        """Record a key that reached the app."""
        self.keys.append(key)

    @property
    def hint(self) -> str:
        """What the lower border says."""
        return str(self.prompt.border_subtitle or "")

    @contextlib.contextmanager
    def suspend(self) -> Iterator[None]:
        """Lend the terminal out; a test has none."""
        yield


async def test_enter_sends_and_clears() -> None:
    """Enter sends what is written; nothing is sent of an empty prompt."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("enter", "space", "enter", "backspace")
        await pilot.press(*"hello", "enter")
        assert app.sent == ["hello"]
        assert app.prompt.text == ""


@pytest.mark.parametrize("key", ["ctrl+j", "shift+enter", "alt+enter", "shift+\r"])
async def test_keys_that_break_the_line(key: str) -> None:
    """A new line never sends."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("a", "b", "left")
        app.post_message(events.Key(key, "\r"))
        await pilot.press("enter")
        assert app.sent == ["a\nb"]


async def test_alt_enter_is_known_in_plain_terminals() -> None:
    """Escape and carriage return, as most terminals send Alt+Enter, is not Enter."""
    app = PromptApp()
    async with app.run_test():
        parser = XTermParser()
        keys = [event.key for event in parser.feed("\x1b\ra\r") if isinstance(event, events.Key)]
        assert keys == ["alt+enter", "a", "enter"]


async def test_pasting_never_sends() -> None:
    """Pasted line breaks are line breaks of any system, and control characters are left out."""
    app = PromptApp()
    async with app.run_test() as pilot:
        app.post_message(events.Paste("one\r\ntwo\rthree\x1b[31m\tend\x00\n"))
        await pilot.pause()
        assert app.sent == []
        assert app.prompt.text == "one\ntwo\nthree[31m\tend\n"


async def test_it_grows_to_eight_lines_and_then_scrolls() -> None:
    """The prompt takes no more room than it needs, and never more than eight lines."""
    app = PromptApp()
    async with app.run_test() as pilot:
        assert app.prompt.size.height == 1
        await pilot.press("a", "ctrl+j", "b")
        await pilot.pause()
        assert app.prompt.size.height == 2
        app.prompt.write("line\n" * 30)
        await pilot.pause()
        assert app.prompt.size.height == 8
        assert app.prompt.scroll_offset.y > 0
        app.prompt.write("long words " * 20)
        await pilot.pause()
        assert 1 < app.prompt.size.height <= 8
        app.prompt.write("")
        await pilot.pause()
        assert app.prompt.size.height == 1


async def test_history_walks_and_keeps_the_draft() -> None:
    """Up and Down on the only line go through what was sent and come back to the draft."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"one", "enter", *"two", "enter", *"dra")
        await pilot.press("up")
        assert app.prompt.text == "two"
        await pilot.press("up", "up")
        assert app.prompt.text == "one"
        await pilot.press("down", "down")
        assert app.prompt.text == "dra"
        await pilot.press("down", "f", "t")
        assert app.prompt.text == "draft"


async def test_up_and_down_move_within_several_lines_first() -> None:
    """Only the first line leads back into the history, and only the last one out of it."""
    app = PromptApp(PromptHistory())
    async with app.run_test() as pilot:
        await pilot.press(*"old", "enter", "a", "ctrl+j", "b", "up")
        assert app.prompt.text == "a\nb"
        assert app.prompt.cursor_location[0] == 0
        await pilot.press("up")
        assert app.prompt.text == "old"
        await pilot.press("down")
        assert app.prompt.text == "a\nb"
        assert app.prompt.cursor_location == (1, 1)


async def test_up_goes_on_through_long_prompts() -> None:
    """One more Up leaves a recalled prompt of many lines, wrapped or not."""
    app = PromptApp(PromptHistory())
    async with app.run_test() as pilot:
        for text in ("first", "many words " * 30, "a\nb\nc"):
            app.prompt.write(text)
            await pilot.press("enter")
        await pilot.press("up", "up", "up")
        assert app.prompt.text == "first"


async def test_what_was_sent_is_kept_in_the_persons_history() -> None:
    """A new window finds it again; commands are kept, too."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"hello", "enter", *"/new", "enter")
    assert PromptHistory(history_path()).entries == ("hello", "/new")


async def test_a_history_that_cannot_be_kept_is_said_once(tmp_path: Path) -> None:
    """A full or closed disk costs one notice, never the message."""
    (tmp_path / "blocked").write_text("")
    app = PromptApp(PromptHistory(tmp_path / "blocked" / "history"))
    async with app.run_test() as pilot:
        app.prompt.history_of_prompts.problem = ""
        await pilot.press("a", "enter")
        await pilot.pause()
        assert app.sent == ["a"]
        assert ["not kept" in notice.message for notice in app._notifications] == [True]


async def test_commands_are_given_and_escaped_ones_are_text() -> None:
    """A slash command arrives as a command, a doubled slash as text."""
    app = PromptApp()
    async with app.run_test() as pilot:
        for line in ("/set temp 1.2", "//set temp", "/etc/hosts"):
            app.prompt.write(line)
            await pilot.press("enter")
        assert app.sent == [Command("set", ("temperature", "1.2")), "/set temp", "/etc/hosts"]


async def test_a_wrong_command_stays_with_the_reason() -> None:
    """Nothing is sent, the text can be corrected, and the next key clears the reason."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"/hepl", "enter")
        assert app.sent == []
        assert app.prompt.text == "/hepl"
        assert "Did you mean /help?" in app.hint
        assert app.prompt.has_class("-refused")
        await pilot.press("backspace")
        assert not app.prompt.has_class("-refused")
        assert "✗" not in app.hint


async def test_markup_in_a_command_is_shown_as_it_is() -> None:
    """What was typed cannot become markup of the window."""
    app = PromptApp()
    async with app.run_test(size=(200, 24)) as pilot:
        app.prompt.write("/regen [/b]")
        await pilot.press("enter")
        assert "[/b]" in str(app.prompt._border_subtitle)


async def test_tab_completes_names_settings_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One candidate is taken at once, several share their start and then come in turn."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.toml").touch()
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"/pres", "tab")
        assert app.prompt.text == "/preset "
        await pilot.press(*"c", "tab")
        assert app.prompt.text == "/preset Conservative"
        await pilot.press("tab")
        assert app.prompt.text == "/preset Creative"
        await pilot.press("ctrl+u", *"/set min", "tab")
        assert app.prompt.text == "/set min_"
        await pilot.press("ctrl+u", *"/load t", "tab", "backspace", "enter")
        await pilot.press(*"/theme n", "tab", "backspace", "enter")
        assert app.sent == [Command("load", ("talk.toml",)), Command("theme", ("night",))]


async def test_ghost_text_and_hint() -> None:
    """The rest of the likeliest name stands ready, Right takes it, the border lists the others."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"/set t")
        assert app.prompt.suggestion == "emperature"
        assert "top_k" in app.hint
        await pilot.press("right")
        assert app.prompt.text == "/set temperature"
        await pilot.press("space")
        assert "0 to 5" in app.hint


async def test_tab_outside_commands_moves_the_focus() -> None:
    """Plain text has nothing to complete."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("a", "tab")
        assert app.prompt.text == "a"
        assert not app.prompt.has_focus


async def test_keys_of_the_screen_pass_through() -> None:
    """Esc, scrolling and ^C, which may stop a reply, are the screen's."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("a", "b", "escape", "pageup", "shift+up", "ctrl+c")
        assert app.keys == ["escape", "pageup", "shift+up", "ctrl+c"]
        await pilot.press("shift+left", "ctrl+c")
        assert app.keys[-1] == "ctrl+c"
        assert app.prompt.selected_text == "b"


async def test_ctrl_d_quits_only_from_an_empty_prompt() -> None:
    """With text it deletes forward, as in a shell."""
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press("a", "b", "left", "ctrl+d")
        assert app.prompt.text == "a"
        await pilot.press("ctrl+d")
        assert app.quits == 0
        await pilot.press("backspace", "ctrl+d")
        await pilot.pause()
        assert app.quits == 1


def editor(tmp_path: Path, code: str) -> str:
    """The command of an editor that runs this code on the file's `path`."""
    script = tmp_path / "an editor.py"
    script.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[1])\n{code}\n")
    return f'"{sys.executable}" "{script}"'


async def test_the_external_editor_writes_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """^G opens the text in $VISUAL and takes back what it leaves; nothing is sent."""
    code = (
        "path.write_text(path.read_text() + ' and\\nmore\\n')\n"
        "pathlib.Path(sys.argv[0] + '.seen').write_text(str(path))"
    )
    monkeypatch.setenv("EDITOR", "false")
    monkeypatch.setenv("VISUAL", editor(tmp_path, code))
    app = PromptApp()
    async with app.run_test() as pilot:
        await pilot.press(*"some", "ctrl+g")
        await pilot.pause()
        assert app.prompt.text == "some and\nmore"
        assert app.prompt.cursor_location == (1, 4)
        assert app.sent == []
    assert not Path((tmp_path / "an editor.py.seen").read_text()).exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [("no-such-editor-here", "cannot be used"), ('"open', "cannot be understood"), (None, "ended with status 3")],
)
async def test_an_editor_that_fails_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str | None, said: str
) -> None:
    """The reason is said in one line and the prompt is as it was."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", command or editor(tmp_path, "sys.exit(3)"))
    app = PromptApp()
    async with app.run_test(size=(200, 24)) as pilot:
        await pilot.press(*"some", "ctrl+g")
        await pilot.pause()
        assert app.prompt.text == "some"
        assert said in app.hint


@pytest.mark.parametrize("size", [(60, 16), (20, 6), (4, 3), (1, 1)])
async def test_small_windows(size: tuple[int, int]) -> None:
    """However small the window, writing and sending work."""
    app = PromptApp()
    async with app.run_test(size=size) as pilot:
        await pilot.press(*"/set t", "tab", "tab", "up", "down")
        app.prompt.write("")
        await pilot.press(*"hello", "enter")
        assert app.sent == ["hello"]
