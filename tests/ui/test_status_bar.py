"""The bars of one line: what they show, what they leave out, and finding."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from llmchat.chat.model import ModelInfo
from llmchat.ui.keys import key_label
from llmchat.ui.widgets.find_bar import FindBar
from llmchat.ui.widgets.header_bar import HeaderBar
from llmchat.ui.widgets.one_line import shortened
from llmchat.ui.widgets.status_bar import HINTS, State, StatusBar
from tests.ui.themed import ThemedApp

INFO = ModelInfo(
    name="SmolLM2-135M-Instruct", path="x.gguf", tokenizer_path="x.gguf", architecture="llama", weight_format="Q4_1",
    device="cpu", dtype="float32", threads=2, vocab_size=49152, context_length=8192, parameter_count=134_515_008,
    has_chat_template=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "device", "dtype", "words"),
    [
        ("native", "cpu", "native avx512", "Q4_1 · native avx512 · 2 threads"),
        ("torch", "cpu", "float32", "Q4_1 · torch float32 · 2 threads"),
        ("transformers", "cpu", "float32", "Q4_1 · transformers float32 · 2 threads"),
        ("torch", "cuda", "bfloat16", "Q4_1 · torch bfloat16 on cuda"),
    ],
)
def test_the_header_says_what_runs_the_model(engine: str, device: str, dtype: str, words: str) -> None:
    """The native step, or torch or another library in which precision and where."""
    header = HeaderBar()
    header.show_model(replace(INFO, engine=engine, device=device, dtype=dtype))
    assert header.details == words


class BarsApp(ThemedApp):
    """All bars, and a record of what the find bar reports."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+b", "sidebar", "Sidebar", id="sidebar")]

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[object] = []

    def compose(self) -> ComposeResult:
        """The bars."""
        yield HeaderBar()
        yield FindBar()
        yield StatusBar()

    def line(self, kind: type[HeaderBar] | type[StatusBar]) -> str:
        """What a bar shows."""
        return self.query_one(kind).render().plain

    def action_sidebar(self) -> None:
        """Stand for the screen's action."""

    def on_find_bar_searched(self, event: FindBar.Searched) -> None:
        """Record what is looked for."""
        self.reports.append(event.text)

    def on_find_bar_moved(self, event: FindBar.Moved) -> None:
        """Record the direction."""
        self.reports.append(event.by)

    def on_find_bar_closed(self) -> None:
        """Record the end."""
        self.reports.append("closed")


def show_numbers(status: StatusBar) -> None:
    """A reply under way."""
    status.show_state("generating")
    status.tokens_per_second, status.first_token_seconds = 41.24, 0.312
    status.context_used, status.context_size = 512, 8192
    status.temperature = 0.8


async def test_everything_is_shown_where_there_is_room() -> None:
    """State and numbers at the left, keys at the right edge."""
    app = BarsApp()
    async with app.run_test(size=(130, 10)):
        show_numbers(app.query_one(StatusBar))
        line = app.line(StatusBar)
        assert line.startswith("● generating   41.2 tok/s   first token 0.31 s   context 512 / 8192   temp 0.80")
        assert line.endswith("Esc stop  ^B sidebar  ^P commands")
        assert len(line) == 128


@pytest.mark.parametrize("width", range(3, 131, 3))
async def test_what_does_not_fit_is_left_out_whole(width: int) -> None:
    """A narrow bar drops its least important pieces; the state and how to stop stay longest."""
    app = BarsApp()
    async with app.run_test(size=(width, 10)):
        status = app.query_one(StatusBar)
        show_numbers(status)
        line = app.line(StatusBar)
        assert status.size.height == 1
        assert "● generating" in line
        assert len(line) <= max(width - 2, len("● generating"))
        if width >= 30:
            assert line.endswith("Esc stop") or "^B" in line
        if "temp" in line:
            assert "context" in line


@pytest.mark.parametrize(
    ("state", "detail", "fraction", "shown"),
    [
        ("loading", "", None, "◌ loading"),
        ("loading", "reading weights", 0.5, "◌ reading weights 50%"),
        ("fetching", "", 0.431, "◌ fetching 43%"),
        ("ready", "", None, "● ready"),
        ("stopping", "", None, "◌ stopping"),
        ("error", "no model", None, "✗ no model"),
    ],
)
async def test_states_are_told_in_words(state: State, detail: str, fraction: float | None, shown: str) -> None:
    """Each state has its own words and sign, so that no colour is needed."""
    app = BarsApp()
    async with app.run_test(size=(100, 10)):
        app.query_one(StatusBar).show_state(state, detail, fraction)
        assert app.line(StatusBar).startswith(shown)


async def test_keys_follow_the_state_and_the_persons_settings() -> None:
    """How to stop is shown while there is something to stop, under the key that does it."""
    app = BarsApp()
    app.set_keymap({"sidebar": "ctrl+e"})
    async with app.run_test(size=(100, 10)):
        status = app.query_one(StatusBar)
        status.show_state("ready")
        assert "stop" not in app.line(StatusBar)
        assert "F1 help" in app.line(StatusBar)
        assert "^E sidebar" in app.line(StatusBar)
        status.show_state("generating")
        assert "Esc stop" in app.line(StatusBar)
        status.show_state("error", "no model")
        assert "F3 model  ^R try again  F1 help" in app.line(StatusBar)
        names = {"stop", "model", "regenerate", "help", "sidebar", "command_palette"}
        assert {name for name, *_ in HINTS} == names


async def test_greedy_stands_for_the_temperature() -> None:
    """Where nothing is drawn at random there is no temperature to show."""
    app = BarsApp()
    async with app.run_test(size=(100, 10)):
        assert "greedy" in app.line(StatusBar)


async def test_header_names_model_and_file() -> None:
    """Model and how it runs at the left, the transcript's file at the right edge."""
    app = BarsApp()
    async with app.run_test(size=(108, 10)):
        header = app.query_one(HeaderBar)
        assert app.line(HeaderBar) == "llmchat"
        header.show_model(INFO)
        header.file_name = "the-sea.toml"
        line = app.line(HeaderBar)
        assert line.startswith("llmchat   SmolLM2-135M-Instruct   Q4_1 · torch float32 · 2 threads")
        assert line.endswith("the-sea.toml")
        assert len(line) == 106
        header.show_model(None)
        assert "SmolLM2" not in app.line(HeaderBar)


@pytest.mark.parametrize("width", [60, 40, 20, 8, 2])
async def test_header_is_safe_when_narrow(width: int) -> None:
    """Long names are shortened in their middle and the model's name stays longest."""
    app = BarsApp()
    async with app.run_test(size=(width, 10)):
        header = app.query_one(HeaderBar)
        header.show_model(INFO)
        header.file_name = "2025-11-22 a conversation about everything.toml"
        assert header.size.height == 1
        assert "SmolLM2"[:4] in app.line(HeaderBar)


def test_shortened_keeps_both_ends() -> None:
    """The beginning and the end of a name tell it from others."""
    assert shortened("short", 10) == "short"
    assert shortened("abcdefghijklmnop", 9) == "abcd…mnop"


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("ctrl+b", "^B"), ("escape", "Esc"), ("f1", "F1"), ("shift+left", "Shift+←"), ("question_mark", "?"),
        ("Y", "Y"), ("y", "y"), ("0", "0"), ("ctrl+home", "^Home"), ("alt+up", "Alt+↑"), ("slash", "/"),
    ],
)  # fmt: skip
def test_keys_are_written_as_people_write_them(key: str, label: str) -> None:
    """Hints and help name keys the way they are printed on the keyboard."""
    assert key_label(key) == label


async def test_finding_reports_and_counts() -> None:
    """Typing searches, Enter and the arrows go on and back, Esc closes."""
    app = BarsApp()
    async with app.run_test() as pilot:
        bar = app.query_one(FindBar)
        assert not bar.is_open
        bar.open()
        await pilot.press("enter", "s", "e")
        bar.show_count(3, 17)
        await pilot.press("enter", "up", "down", "shift+enter")
        count = bar.query_one("#find-count", Static)
        assert str(count.render()) == "3/17"
        bar.show_count(0, 0)
        assert str(count.render()) == "no match"
        await pilot.press("escape")
        await pilot.pause()
        assert app.reports == ["s", "se", 1, -1, 1, -1, "closed"]
        assert not bar.is_open
        assert bar.text == "se"
