"""Help is made from what it describes: bindings, commands and settings."""

from __future__ import annotations

import pytest
from textual.app import ComposeResult
from textual.containers import VerticalScroll

from llmchat.chat.generation_config import SAMPLING_SPECS
from llmchat.chat.presets import PRESETS
from llmchat.ui.commands import COMMANDS
from llmchat.ui.prompt_history import PromptHistory
from llmchat.ui.screens.help import HelpScreen, HelpTable, help_sections
from llmchat.ui.widgets.prompt_input import PromptInput
from llmchat.ui.widgets.sampling_panel import SamplingPanel
from llmchat.ui.widgets.slider import Slider
from tests.ui.themed import ThemedApp


class HelpApp(ThemedApp):
    """The controls, with help over them."""

    def compose(self) -> ComposeResult:
        """A panel and a prompt."""
        yield SamplingPanel()
        yield PromptInput(PromptHistory())

    def sections(self) -> dict[str, dict[str, str]]:
        """What help says of the app's screen."""
        return {section.heading: dict(section.rows) for section in help_sections(self.screen)}


async def test_every_key_command_and_setting_is_there() -> None:
    """Nothing that a widget binds with a description, and no row of the tables, is missing."""
    app = HelpApp()
    async with app.run_test():
        sections = app.sections()
        assert sections["On a slider"]["Shift+→"] == "Ten steps up"
        assert "?" in sections["On a slider"]
        assert sections["In the prompt"]["Enter"] == "Send"
        assert "^J  Shift+Enter  Alt+Enter" in sections["In the prompt"]
        assert set(sections["Slash commands"]) == {spec.usage for spec in COMMANDS} | {"//text"}
        assert all(spec.help in sections["Settings"][spec.name] for spec in SAMPLING_SPECS)
        assert set(sections["Presets"]) == set(PRESETS)
        described = {binding.description for binding in Slider.BINDINGS if not isinstance(binding, tuple)}
        assert described <= set(sections["On a slider"].values())


async def test_what_is_in_focus_comes_first() -> None:
    """Asked on the prompt, help begins with the prompt."""
    app = HelpApp()
    async with app.run_test() as pilot:
        app.query_one(PromptInput).focus()
        await pilot.pause()
        assert next(iter(app.sections())) == "In the prompt"


async def test_keys_that_the_person_changed_are_shown() -> None:
    """Help names the keys of the settings, not the ones that are usual."""
    app = HelpApp()
    app.set_keymap({"slider.toggle": "x"})
    async with app.run_test():
        assert app.sections()["On a slider"]["x"] == "Off, or back to what it was"


@pytest.mark.parametrize("key", ["escape", "f1", "q"])
async def test_it_closes_and_gives_the_focus_back(key: str) -> None:
    """Esc and F1 close help; what had the focus has it again."""
    app = HelpApp()
    async with app.run_test() as pilot:
        app.query_one(PromptInput).focus()
        await app.push_screen(HelpScreen())
        await pilot.press(key)
        await pilot.pause()
        assert not isinstance(app.screen, HelpScreen)
        assert app.query_one(PromptInput).has_focus


@pytest.mark.parametrize("size", [(108, 30), (60, 16), (24, 6), (5, 2)])
async def test_it_scrolls_at_any_size(size: tuple[int, int]) -> None:
    """Everything can be reached by keys, nothing is wider than the window."""
    app = HelpApp()
    async with app.run_test(size=size) as pilot:
        await app.push_screen(HelpScreen())
        await pilot.pause()
        frame = app.screen.query_one(VerticalScroll)
        assert size[0] < 10 or frame.region.width <= size[0]
        assert len(app.screen.query(HelpTable)) >= 4
        await pilot.press("pagedown", "end")
        await pilot.pause()
        if size[1] > 5:
            assert frame.scroll_offset.y > 0


async def test_it_works_without_a_screen_below() -> None:
    """The tables alone are help, too."""
    assert [section.heading for section in help_sections(None)] == ["Slash commands", "Settings", "Presets"]
