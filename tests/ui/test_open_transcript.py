"""Choosing a saved conversation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Static

from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.paths import ensure, transcripts_dir
from llmchat.ui.screens.open_transcript import OpenTranscriptScreen
from tests.ui.helpers import wait_until
from tests.ui.themed import ThemedApp


class OpenApp(ThemedApp):
    """An app with the list of conversations on top."""

    def __init__(self) -> None:
        super().__init__()
        self.list_screen = OpenTranscriptScreen()
        self.results: list[Path | None] = []

    def on_mount(self) -> None:
        """Show the list and note what is chosen."""
        self.push_screen(self.list_screen, self.results.append)

    def titles(self) -> list[str]:
        """The first line of each row."""
        return [str(option.prompt).splitlines()[0][2:] for option in self.list_screen.choices.options]

    def message(self) -> str:
        """What the screen says below the list."""
        return str(self.list_screen.query_one("#open-message", Static).render())


@asynccontextmanager
async def listing(size: tuple[int, int] = (90, 28)) -> AsyncIterator[tuple[OpenApp, Pilot[Any]]]:
    """The list, once it has been read."""
    app = OpenApp()
    async with app.run_test(size=size) as driver:
        pilot: Pilot[Any] = driver
        await wait_until(pilot, lambda: "Looking" not in app.message(), "the list")
        yield app, pilot


def keep(question: str, model: str = "tiny", age: int = 0) -> Path:
    """A saved conversation, written to so many seconds ago."""
    ensure(transcripts_dir())
    transcript = Transcript(model=model)
    transcript.say("user", question)
    file = TranscriptFile.create(transcript)
    file.close()
    now = file.path.stat().st_mtime
    os.utime(file.path, (now - age, now - age))
    return file.path


async def test_the_latest_conversation_is_an_enter_away() -> None:
    """The one written to last stands first and is opened by Enter."""
    keep("About the sea", age=60)
    latest = keep("About the hills")
    async with listing() as (app, pilot):
        assert app.titles() == ["About the hills", "About the sea"]
        await pilot.press("enter")
        await pilot.pause()
        assert app.results == [latest]


async def test_typing_filters_by_every_word() -> None:
    """Words are looked for in title, model and date, in any case; the cursor moves while typing."""
    keep("About the sea", model="SmolLM2", age=60)
    sea = keep("The sea again", age=120)
    keep("Hills")
    async with listing() as (app, pilot):
        await pilot.press(*"SEA")
        await pilot.pause()
        assert app.titles() == ["About the sea", "The sea again"]
        await pilot.press("down", "enter")
        await pilot.pause()
        assert app.results == [sea]


async def test_the_model_is_a_word_too() -> None:
    """A conversation can be found by its model and the number of its turns."""
    keep("About the sea", model="SmolLM2")
    keep("Hills")
    async with listing() as (app, pilot):
        await pilot.press(*"smol 1")
        await pilot.pause()
        assert app.titles() == ["About the sea"]
        await pilot.press(*"x")
        await pilot.pause()
        assert app.titles() == []
        assert "No conversation has these words" in app.message()
        await pilot.press("enter")
        assert app.results == []


async def test_a_path_can_be_typed(tmp_path: Path) -> None:
    """A file outside the directory is opened by its path."""
    path = tmp_path / "elsewhere.toml"
    TranscriptFile.create(Transcript(), path).close()
    async with listing() as (app, pilot):
        app.list_screen.line.write(str(path))
        await pilot.pause()
        assert "Enter opens this file" in app.message()
        await pilot.press("enter")
        await pilot.pause()
        assert app.results == [path]


async def test_no_conversations_yet() -> None:
    """An empty directory, even one that is not there, is said in words; Esc closes."""
    async with listing() as (app, pilot):
        assert "No conversation is saved yet" in app.message()
        await pilot.press("escape")
        await pilot.pause()
        assert app.results == [None]


async def test_a_click_opens() -> None:
    """One click on a row opens it, and titles cannot steer the terminal."""
    path = keep("Red \x1b[31m [bold]sea")
    async with listing() as (app, pilot):
        assert app.titles() == ["Red ␛[31m [bold]sea"]
        await pilot.click(app.list_screen.choices, offset=(6, 1))
        await pilot.pause()
        assert app.results == [path]


@pytest.mark.parametrize("size", [(60, 16), (30, 8)])
async def test_many_conversations_in_a_small_window(size: tuple[int, int]) -> None:
    """PgDn and the arrows reach every row, and the row is in sight."""
    for number in range(30):
        keep(f"Question {number:02}", age=number)
    async with listing(size) as (app, pilot):
        await pilot.press(*["pagedown"] * 5)
        await pilot.pause()
        choices = app.list_screen.choices
        assert choices.choice is not None and choices.choice.title == "Question 29"
        assert choices.scroll_offset.y > 0
        await pilot.press("up", "enter")
        await pilot.pause()
        assert app.results[0] is not None and "question-28" in app.results[0].name


async def test_it_works_in_any_app() -> None:
    """Textual's own themes suffice: the screen needs nothing of the chat's app."""
    keep("About the sea")
    app: App[None] = App()
    async with app.run_test() as pilot:
        app.push_screen(screen := OpenTranscriptScreen())
        for theme in ("textual-dark", "textual-light", "nord"):
            app.theme = theme
            await pilot.pause()
        assert screen.choices.option_count == 1
