"""Every key that is shown can be clicked."""

from __future__ import annotations

from threading import Semaphore
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import ModalScreen

from llmchat.ui.rendering.hints import clickable
from llmchat.ui.screens.help import HelpScreen
from tests.fakes import ScriptedEngine
from tests.ui.helpers import Window, drawn, tiny_options, window


async def click(pilot: Pilot[Any], words: str) -> None:
    """Click on words wherever they stand on the screen."""
    rows = drawn(pilot.app).splitlines()
    y = next((y for y in reversed(range(len(rows))) if words in rows[y]), None)
    assert y is not None, f"{words!r} is not on the screen"
    await pilot.click(offset=(rows[y].index(words) + 1, y))
    await pilot.pause()


def test_a_hint_is_its_key_and_the_words_behind_it() -> None:
    """Keys are found wherever they stand in a hint; words without one do nothing."""
    line = clickable("type to filter · a keeps all · Enter or PgDn next · ^B F2 · ⑂ parts")
    actions = [
        (line.plain[span.start : span.end], span.style.meta["@click"])
        for span in line.spans
        if not isinstance(span.style, str) and span.style.meta
    ]
    assert actions == [
        ("a keeps all", "app.press_key('a')"),
        ("Enter or ", "app.press_key('enter')"),
        ("PgDn next", "app.press_key('pagedown')"),
        ("^B ", "app.press_key('ctrl+b')"),
        ("F2", "app.press_key('f2')"),
    ]


async def test_the_hints_of_the_status_bar_can_be_clicked() -> None:
    """Help, sidebar, commands, and Esc while a reply runs."""
    gate = Semaphore(0)
    async with window(ScriptedEngine("abcdef" * 20, gate=gate), gate=gate) as it:
        await it.ready()
        await click(it.pilot, "F1 help")
        assert isinstance(it.app.screen, HelpScreen)
        await click(it.pilot, "Esc closes")
        await it.until(lambda: it.app.screen is it.chat, "the chat")
        await click(it.pilot, "sidebar")
        assert it.chat.panel.has_focus_within
        await click(it.pilot, "^P commands")
        assert isinstance(it.app.screen, ModalScreen)
        await it.press("escape")
        await it.ask_without_waiting("hi")
        await click(it.pilot, "Esc stop")
        gate.release(100)
        await it.idle()
        assert it.reply.finish_reason == "cancelled"


@pytest.mark.parametrize(
    ("key", "words"),
    [("f1", "Esc closes"), ("f2", "Esc leaves"), ("f3", "Esc closes"), ("ctrl+o", "Esc closes")],
)
async def test_the_hints_on_a_frame_can_be_clicked(key: str, words: str) -> None:
    """What closes a dialog does so by a click, too."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.press(key)
        assert it.app.screen is not it.chat
        await click(it.pilot, words)
        await it.until(lambda: it.app.screen is it.chat, "the chat")


async def test_completions_on_the_prompt_can_be_clicked() -> None:
    """A click puts the word in, as Tab does, and the prompt keeps the focus."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.press(*"/pre")
        await click(it.pilot, "prefill")
        assert it.chat.prompt.text == "/prefill " and it.chat.prompt.has_focus
        await it.write("/pre")
        await click(it.pilot, "Tab ")
        assert it.chat.prompt.text == "/preset"


async def inspected(it: Window) -> None:
    """Open the first token of the last reply."""
    await it.ask("Once")
    await it.select()
    await it.press("enter")
    await it.until(lambda: it.chat.inspector.candidates, "the candidates")


async def test_the_hints_of_the_inspector_can_be_clicked() -> None:
    """The arrows go from token to token, and Esc goes back."""
    async with window(options=tiny_options()) as it:
        await inspected(it)
        title = it.chat.inspector.border_title
        rows = it.screen.splitlines()
        y = next(y for y, row in enumerate(rows) if "→ token" in row)
        await it.pilot.click(offset=(rows[y].index("→ token") + 2, y))
        await it.until(lambda: it.chat.inspector.border_title != title, "the next token")
        await it.until(lambda: it.chat.inspector.candidates)
        await click(it.pilot, "Esc back")
        await it.until(lambda: not it.chat.inspector.is_open)
