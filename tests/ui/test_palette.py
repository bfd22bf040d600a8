"""^P has every command: actions, slash commands, presets, settings and the conversations of late."""

from __future__ import annotations

from dataclasses import fields

from textual.command import CommandList

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.presets import PRESETS
from llmchat.options import StartOptions
from llmchat.ui.app import LlmchatApp
from llmchat.ui.commands import COMMANDS
from llmchat.ui.palette import offers
from tests.fakes import ScriptedEngine
from tests.ui.helpers import Window, drawn, wait_until, window


async def choose(it: Window, letters: str, title: str) -> None:
    """Open the palette, type letters, and take the first line, which must have this title."""
    await it.press("ctrl+p", *letters)
    commands = it.app.screen.query_one(CommandList)
    await it.until(lambda: commands.option_count and title in str(commands.get_option_at_index(0).prompt), title)
    await it.until(lambda: commands.highlighted == 0)
    await it.press("enter")
    await it.until(lambda: it.app.screen is it.chat, "the palette is closed")


async def test_everything_is_offered() -> None:
    """Each slash command, preset and setting, with what it does or is now."""
    async with window(ScriptedEngine()) as it:
        titles = [offer.title for offer in offers(it.app)]
        assert {spec.usage for spec in COMMANDS} <= set(titles)
        assert {f"Preset {name}" for name in PRESETS} <= set(titles)
        assert {f"Set {item.name}" for item in fields(GenerationConfig)} <= set(titles)
        assert {"Regenerate", "Find", "Theme", "Quit"} <= set(titles)
        assert len(titles) == len(set(titles))


async def test_a_setting_is_written_into_the_prompt_and_a_draft_is_kept() -> None:
    """What takes a value waits for it; what was being written comes back."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.write("a draft")
        await choose(it, "set temperature", "Set temperature")
        assert it.chat.prompt.text == "/set temperature " and it.chat.prompt.has_focus
        await it.press(*"1.5", "enter")
        await it.until(lambda: it.session.config.temperature == 1.5)
        await it.press("up", "up")
        assert "a draft" in it.chat.prompt.text


async def test_a_preset_and_a_command_without_argument_act() -> None:
    """They need nothing more."""
    async with window(ScriptedEngine()) as it:
        await it.ask("hi")
        await choose(it, "preset creative", "Preset Creative")
        await it.until(lambda: it.session.config.temperature == 1.5)
        await choose(it, "/stats", "/stats")
        await it.until(lambda: "Scripted" in it.notes)


async def test_a_command_that_cannot_be_done_says_why() -> None:
    """As it does when it is typed."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await choose(it, "/continue", "/continue")
        await it.until(lambda: "no reply" in it.toasts)


async def test_a_recent_conversation_is_opened() -> None:
    """By the words of its title, which may hold brackets."""
    async with window(ScriptedEngine()) as it:
        await it.ask("the [first] one [/b]")
        await it.press("ctrl+n")
        await it.ask("the second one")
        await choose(it, "open first", "the [first] one [/b]")
        await it.until(lambda: it.said[0] == ("user", "the [first] one [/b]"))


async def test_the_set_up_has_no_chat_to_command() -> None:
    """Before the chat is there, the palette offers the theme and leaving."""
    app = LlmchatApp(StartOptions(setup=True))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("ctrl+p")
        await wait_until(pilot, lambda: "Change the colours" in drawn(app))
        assert "/stats" not in drawn(app)
