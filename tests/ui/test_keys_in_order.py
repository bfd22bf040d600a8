"""Keys that arrive in one read act one after the other, as a terminal sends them over a slow line."""

from __future__ import annotations

import pytest
from textual import events

from llmchat.ui.widgets.slider import Slider
from tests.fakes import ScriptedEngine
from tests.ui.helpers import Window, chat_engine, window


def burst(of: Window, *keys: str) -> None:
    """Let keys arrive at once, before any of them is looked at."""
    for key in keys:
        character = key if len(key) == 1 else {"enter": "\r", "space": " "}.get(key)
        of.app.post_message(events.Key(key, character))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("a", "b", "x", "backspace", "c"), "abc"),
        (("a", "b", "left", "left", "x", "y"), "xyab"),
        (("o", "n", "e", "space", "t", "ctrl+w", "s"), "one s"),
        (("d", "r", "a", "f", "t", "ctrl+u", "n", "e", "w"), "new"),
        (("a", "home", "b", "end", "c", "ctrl+j", "d"), "bac\nd"),
    ],
)
async def test_what_is_typed_at_once_is_what_was_typed(keys: tuple[str, ...], text: str) -> None:
    """A key that moves or deletes acts on what stood before it, not on what came after."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        burst(it, *keys)
        await it.until(lambda: it.chat.prompt.text == text, text)


async def test_enter_sends_what_was_typed_before_it() -> None:
    """What is typed behind Enter is the next message."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        burst(it, "o", "n", "e", "enter", "t", "w", "o")
        await it.until(lambda: len(it.session.transcript) == 2 and it.is_idle, "an answer")
        assert it.session.transcript.path()[0].text == "one"
        assert it.chat.prompt.text == "two"


async def test_keys_follow_the_focus_that_a_key_before_them_moved() -> None:
    """They were meant for the sidebar, and do not end up in the prompt."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        slider = it.app.screen.query(Slider).first()
        before = slider.value
        burst(it, "a", "ctrl+b", "right", "right")
        await it.until(lambda: slider.value > before or it.app.focused is not it.chat.prompt, "the sidebar")
        await it.pilot.pause()
        assert it.chat.prompt.text == "a"
        assert it.app.focused is not it.chat.prompt


@pytest.mark.parametrize(("text", "value"), [("Tell me a story", None), ("7 dogs", None), ("/set", None), ("0.3", 0.3)])
async def test_words_typed_on_a_slider_go_to_the_prompt(text: str, value: float | None) -> None:
    """They move no setting; a value is a value still."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        slider = it.app.screen.query(Slider).first()
        before = slider.value
        slider.focus()
        await it.until(lambda: it.app.focused is slider, "the slider")
        burst(it, *("space" if letter == " " else letter for letter in text), *(["enter"] if value is not None else []))
        await it.until(lambda: it.chat.prompt.text == ("" if value is not None else text), text)
        await it.until(lambda: slider.value == (before if value is None else value), "the value")


@pytest.mark.parametrize("text", ["hello", "/undo", "enjoy it"])
async def test_words_and_enter_typed_at_once_on_a_turn_go_to_the_prompt(text: str) -> None:
    """The turn keeps none of the keys: what was typed is sent, or carried out, and not looked at token by token."""
    async with window(chat_engine("Hello.")) as it:
        await it.ask("one")
        await it.select()
        assert it.app.focused is it.chat.view
        burst(it, *("space" if letter == " " else letter for letter in text), "enter", "n", "e", "x", "t")
        await it.until(lambda: it.chat.prompt.text == "next", "the next message")
        await it.until(lambda: len(it.session.transcript.path()) == (0 if text == "/undo" else 4) and it.is_idle, text)
        assert not it.chat.inspector.is_open
