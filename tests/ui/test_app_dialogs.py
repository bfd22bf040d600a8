"""The screens that the chat opens over itself, and what comes of their answers."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input

from llmchat.checkpoints import catalog
from llmchat.settings import Settings, load_settings
from llmchat.ui.screens.compare import CompareScreen
from llmchat.ui.screens.model_picker import ModelPicker
from llmchat.ui.screens.open_transcript import OpenTranscriptScreen
from llmchat.ui.screens.settings_screen import SettingRow, SettingsScreen
from llmchat.ui.screens.sweep import SweepScreen
from tests.fakes import ScriptedEngine
from tests.ui.helpers import chat_engine, options_of, tiny_options, window


async def test_a_saved_conversation_is_opened() -> None:
    """^O lists them, Enter goes on with one, Esc with none."""
    async with window(ScriptedEngine()) as it:
        await it.ask("the first one")
        await it.press("ctrl+n")
        await it.ask("the second one")
        await it.press("ctrl+o")
        await it.until(lambda: isinstance(it.app.screen, OpenTranscriptScreen) and "the first one" in it.screen)
        await it.press("escape")
        assert it.said[0] == ("user", "the second one")
        await it.press("ctrl+o")
        await it.until(lambda: "the first one" in it.screen)
        await it.press(*"first")
        await it.until(lambda: "● the first one" in it.screen)
        await it.press("enter")
        await it.until(lambda: it.said[:1] == [("user", "the first one")])
        await it.ask("more")
        assert [text for _, text in it.said] == ["the first one", "Hello.", "more", "Hello."]


async def test_another_model_is_chosen() -> None:
    """F3, and /model without a name, list what there is; Esc changes nothing."""
    async with window(ScriptedEngine()) as it:
        await it.ask("hi")
        for keys in (["f3"], [*"/model", "enter"]):
            await it.press(*keys)
            await it.until(lambda: isinstance(it.app.screen, ModelPicker) and "tiny" in it.screen)
            await it.press("escape")
            assert it.session.state == "ready"


async def test_a_model_opened_by_path_is_offered_again(tiny_dir: Path) -> None:
    """In the next window too; a second window with another model lists it."""
    path = str(tiny_dir / "model" / "model.pt")
    async with window(options=options_of(model=path)) as it:
        await it.ready()
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.press("f3")
        await it.until(lambda: "model.pt" in it.screen)
        await it.press("home", *["down"] * len(catalog.models()), "enter")
        await it.until(lambda: it.chat.spec.model == path)


async def test_settings_are_changed_and_kept() -> None:
    """F2, and what was changed is in the file and acts at once; Esc changes nothing."""
    async with window(ScriptedEngine()) as it:
        await it.press("f2")
        await it.until(lambda: isinstance(it.app.screen, SettingsScreen))
        await it.press("escape")
        await it.until(lambda: it.app.screen is it.app.chat)
        assert load_settings() == Settings()
        await it.press("f2")
        await it.until(lambda: isinstance(it.app.screen, SettingsScreen))
        field = next(row.query_one(Input) for row in it.app.screen.query(SettingRow) if row.key == "system")
        field.value = "Be brief."
        await it.press("f2")
        await it.until(lambda: it.app.screen is it.app.chat)
        assert load_settings() == Settings(system="Be brief.") and it.session.system == "Be brief."


async def test_events_reach_the_chat_under_a_dialog() -> None:
    """A reply goes on behind help, and is whole when the screen closes."""
    async with window(chat_engine("A whole answer.")) as it:
        await it.send("hi")
        await it.press("f1")
        await it.until(lambda: len(it.session.transcript) == 2 and it.is_idle)
        await it.press("escape")
        assert "A whole answer." in it.screen


async def test_settings_are_compared_side_by_side() -> None:
    """/compare answers with the same dice; the kept reply is the conversation's, the others are not."""
    async with window(options=tiny_options()) as it:
        await it.ask("Alice was")
        await it.send("/compare temperature=0.2 creative")
        await it.until(lambda: isinstance(it.app.screen, CompareScreen))
        compare = it.app.screen
        assert isinstance(compare, CompareScreen)
        await it.until(lambda: compare.experiment.is_done)
        await it.press("2")
        await it.until(lambda: it.app.screen is it.app.chat)
        assert it.blocks[-1].alternatives == (2, 2) and it.reply.config.temperature == 1.5
        await it.send("/sweep top_k 1,40")
        await it.until(lambda: isinstance(it.app.screen, SweepScreen))
        sweep = it.app.screen
        assert isinstance(sweep, SweepScreen)
        await it.until(lambda: sweep.experiment.is_done)
        await it.press("escape")
        await it.until(lambda: it.app.screen is it.app.chat)
        assert it.blocks[-1].alternatives == (2, 2)
