"""The first screen: what an empty conversation offers, and how it is taken up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmchat.chat.transcript import Transcript
from tests.chat.conversations import kept
from tests.fakes import ScriptedEngine
from tests.ui.helpers import chat_engine, window


def keep(home: Path, words: str, name: str) -> Path:
    """A conversation that begins with these words."""
    transcript = Transcript()
    transcript.say("user", words)
    path = home / "data" / "transcripts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return kept(transcript, path)


async def test_it_says_who_answers_and_goes_with_the_first_message() -> None:
    """Name, size and where it runs; what to ask; it comes back in a new conversation."""
    async with window(chat_engine("Fine.")) as it:
        assert "Scripted answers. It has" in it.screen and "next token" in it.screen
        await it.ask("hi")
        assert "It has" not in it.screen
        await it.send("/new")
        await it.until(lambda: "Scripted answers. It has" in it.screen)


async def test_what_is_offered_is_sent_by_enter() -> None:
    """From an empty prompt Alt+Up goes to the list; the chosen row is the first message."""
    async with window(chat_engine("Fine.")) as it:
        await it.press("alt+up", "down", "enter")
        await it.until(lambda: it.said[-1:] == [("assistant", "Fine.")])
        assert it.said[0] == ("user", "What is the difference between a lake and a sea?")
        assert it.chat.prompt.has_focus


async def test_a_model_that_only_goes_on_is_offered_beginnings() -> None:
    """Where there is no chat template, a question would be gone on with, not answered."""
    engine = ScriptedEngine(" there was a sea.")
    engine.info = replace(engine.info, has_chat_template=False)
    async with window(engine) as it:
        assert "goes on with what you begin" in it.screen and "Once upon a time there was" in it.screen


async def test_letters_typed_on_the_list_are_a_message() -> None:
    """Nothing that is typed is lost."""
    async with window(chat_engine("Fine.")) as it:
        await it.press("alt+up", "h", "i")
        assert it.chat.prompt.text == "hi" and it.chat.prompt.has_focus


async def test_the_latest_conversations_are_gone_on_with(sandbox: Path) -> None:
    """The newest three by their first words; one that cannot be opened is said."""
    paths = [keep(sandbox, f"About the \x1b[31msea {number}", f"{number}.toml") for number in range(4)]
    async with window(chat_engine("Fine.")) as it:
        await it.until(lambda: "Go on with “About the" in it.screen)
        assert it.screen.count("Go on with") == 3
        titles = [choice.title for choice in it.chat.welcome.choices._choices]
        assert not any("\x1b" in title for title in titles)
        await it.press("alt+up", "down", "down", "down", "enter")
        await it.until(lambda: it.session.path in paths)
        assert it.said[0][1].endswith(tuple("0123"))
