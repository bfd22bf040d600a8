"""The sidebar: what it shows of a config, what it reports, and that it can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.color import Color
from textual.containers import Horizontal
from textual.widgets import OptionList, Static

from llmchat.chat.generation_config import SAMPLING_SPECS, GenerationConfig
from llmchat.themes import load_themes
from llmchat.ui.prompt_history import PromptHistory
from llmchat.ui.widgets.header_bar import HeaderBar
from llmchat.ui.widgets.more_samplers import MoreSamplers
from llmchat.ui.widgets.preset_picker import PresetHeading, PresetList, PresetPicker
from llmchat.ui.widgets.prompt_input import PromptInput
from llmchat.ui.widgets.sampling_panel import SamplingPanel
from llmchat.ui.widgets.seed_row import SeedRow
from llmchat.ui.widgets.slider import Slider
from llmchat.ui.widgets.status_bar import StatusBar
from tests.test_themes import contrast
from tests.ui.themed import ThemedApp

THEMES = load_themes(Path("/nonexistent")).themes


class PanelApp(ThemedApp):
    """The sidebar beside a stand-in for the transcript, and a record of its reports."""

    CSS = "Screen { layers: base overlay; } #main { width: 1fr; }"

    def __init__(self, config: GenerationConfig | None = None) -> None:
        super().__init__()
        self.panel = SamplingPanel(config)
        self.reports: list[tuple[GenerationConfig, tuple[str, ...]]] = []

    def compose(self) -> ComposeResult:
        """The panel beside a stand-in."""
        with Horizontal():
            yield Static("", id="main")
            yield self.panel

    def on_sampling_panel_config_changed(self, event: SamplingPanel.ConfigChanged) -> None:
        """Record a report."""
        assert event.control is self.panel
        self.reports.append((event.config, event.names))

    @property
    def note(self) -> str:
        """What is said at the panel's foot."""
        note = self.panel.query_one("#sampling-note", Static)
        return str(note.render()) if note.display else ""

    @property
    def heading(self) -> str:
        """What the panel's heading shows."""
        return self.query_one(PresetHeading).render().plain


async def test_there_is_a_slider_for_every_parameter() -> None:
    """The sidebar is made from the table of parameters, and appears without a report."""
    app = PanelApp()
    async with app.run_test() as pilot:
        await pilot.pause()
        assert [slider.spec for slider in app.query(Slider)] == list(SAMPLING_SPECS)
        assert app.reports == []
        assert "Balanced ▾" in app.heading
        assert "≠" not in app.heading
        assert app.panel.query_one("#next-token").size.height == 0


async def test_moving_a_slider_reports_the_whole_config_and_what_changed() -> None:
    """One key, one report, with every setting as it is now."""
    app = PanelApp(GenerationConfig(top_k=40, seed=7))
    async with app.run_test() as pilot:
        app.panel.slider("temperature").focus()
        await pilot.press("right")
        await pilot.pause()
        config, names = app.reports[-1]
        assert len(app.reports) == 1
        assert config == GenerationConfig(temperature=0.85, top_k=40, seed=7) == app.panel.config
        assert names == ("temperature",)
        assert "Custom ▾" in app.heading
        assert "≠ 2" in app.heading


async def test_quick_keys_lose_no_step() -> None:
    """Keys that come faster than the reports are all counted."""
    app = PanelApp()
    async with app.run_test() as pilot:
        slider = app.panel.slider("top_k")
        for _ in range(20):
            slider.action_step(1)
        await pilot.pause()
        assert slider.value == 70
        assert app.panel.config.top_k == 70


async def test_a_config_set_meanwhile_costs_no_step() -> None:
    """The program showing the settings it knows does not undo a key that it has not heard of."""
    app = PanelApp()
    async with app.run_test() as pilot:
        slider = app.panel.slider("top_k")
        slider.action_step(1)
        app.panel.config = GenerationConfig(seed=5)
        slider.action_step(1)
        await pilot.pause()
        assert app.panel.config == GenerationConfig(top_k=52, seed=5)
        app.panel.config = GenerationConfig()
        assert slider.value == 50


async def test_a_config_set_by_the_program_is_shown_and_not_reported() -> None:
    """Assigning shows the values, the seed, the preset and what is without effect."""
    app = PanelApp()
    async with app.run_test() as pilot:
        app.panel.config = GenerationConfig(temperature=0.0, seed=8417, min_p=0.05)
        await pilot.pause()
        assert app.reports == []
        assert app.panel.slider("min_p").value == 0.05
        assert app.query_one(SeedRow).render().plain.split() == ["Seed", "8417", "locked"]
        dimmed = {slider.spec.name for slider in app.query(Slider) if slider.inactive and slider.display}
        assert dimmed == {"top_k", "top_p", "min_p"}
        assert app.query_one(SeedRow).inactive


async def test_sources_are_shown_until_the_person_changes_the_value() -> None:
    """A differing value says where it comes from; one that was moved says so."""
    app = PanelApp(GenerationConfig(top_k=40))
    async with app.run_test() as pilot:
        app.panel.set_sources({"top_k": "from --top-k"})
        slider = app.panel.slider("top_k")
        assert "from --top-k" in str(slider.tooltip)
        slider.focus()
        await pilot.press("right")
        await pilot.pause()
        assert "changed here" in str(slider.tooltip)
        app.panel.post_message(PresetPicker.Chosen("Creative"))
        await pilot.pause()
        assert "from the preset Creative" in str(app.panel.slider("temperature").tooltip)


async def test_fields_that_do_not_go_together_move_nothing() -> None:
    """More tokens at least than at most is refused with the reason, and the slider goes back."""
    app = PanelApp(GenerationConfig(max_new_tokens=64))
    async with app.run_test() as pilot:
        slider = app.panel.slider("min_new_tokens")
        slider.focus()
        await pilot.press(*"100", "enter")
        await pilot.pause()
        assert app.reports == []
        assert slider.value == 0
        assert app.panel.config.min_new_tokens == 0
        assert "min_new_tokens (100) must not be above max_new_tokens (64)" in app.note
        await pilot.press("right")
        await pilot.pause()
        assert app.reports[-1][1] == ("min_new_tokens",)
        assert app.note == ""


async def test_refusals_and_explanations_are_said_at_the_foot() -> None:
    """A refusal and an explanation appear there, and go when the focus moves on."""
    app = PanelApp()
    async with app.run_test() as pilot:
        app.panel.slider("top_p").focus()
        await pilot.press("7", "enter")
        await pilot.pause()
        assert app.note == "top_p must be from 0 to 1, not 7."
        await pilot.press("escape", "question_mark")
        await pilot.pause()
        assert app.note.startswith("Top-p: Keep the smallest set")
        await pilot.press("down")
        await pilot.pause()
        assert app.note == ""


async def test_choosing_a_preset() -> None:
    """The list opens on the heading, Enter takes a preset, lengths and seed stay."""
    app = PanelApp(GenerationConfig(seed=3, top_k=7, max_new_tokens=99))
    async with app.run_test() as pilot:
        app.query_one(PresetHeading).focus()
        await pilot.press("enter")
        assert app.query_one(PresetList).display
        await pilot.press("end", "up", "enter")
        await pilot.pause()
        config, names = app.reports[-1]
        assert config == GenerationConfig(temperature=1.5, seed=3, max_new_tokens=99)
        assert set(names) == {"temperature", "top_k"}
        assert "Creative ▾" in app.heading
        assert app.query_one(PresetHeading).has_focus


async def test_the_list_of_presets_closes_without_a_choice() -> None:
    """Esc closes only the list; a click opens it, and a focus elsewhere closes it."""
    app = PanelApp()
    async with app.run_test() as pilot:
        await pilot.click(PresetHeading)
        presets = app.query_one(PresetList)
        assert presets.display
        assert presets.highlighted == 2
        await pilot.press("escape")
        assert not presets.display
        await pilot.click(PresetHeading)
        app.panel.focus_slider()
        await pilot.pause()
        assert not presets.display
        assert app.reports == []
        assert isinstance(presets, OptionList)


async def test_greedy_is_said_and_the_temperature_leaves_it() -> None:
    """Without sampling the track gives way to a word; moving the temperature samples again."""
    app = PanelApp(GenerationConfig(do_sample=False))
    async with app.run_test() as pilot:
        slider = app.panel.slider("temperature")
        assert slider.render().plain.endswith("greedy")
        assert "Greedy ▾" in app.heading
        slider.focus()
        await pilot.press("right")
        await pilot.pause()
        config, names = app.reports[-1]
        assert config.do_sample
        assert set(names) == {"temperature", "do_sample"}
        assert slider.note == ""


async def test_the_seed_is_locked_typed_rolled_and_freed() -> None:
    """Enter locks the latest seed and frees it, digits set one, r rolls another."""
    app = PanelApp()
    async with app.run_test() as pilot:
        row = app.query_one(SeedRow)
        assert row.render().plain.split() == ["Seed", "—", "rolls"]
        app.panel.show_seed(4242)
        assert row.render().plain.split() == ["Seed", "4242", "rolls"]
        row.focus()
        await pilot.press("enter")
        await pilot.pause()
        assert app.panel.config.seed == 4242
        await pilot.press("enter")
        await pilot.pause()
        assert app.panel.config.seed is None
        assert app.reports[-1][1] == ("seed",)
        await pilot.press(*"0", *"17", "enter")
        await pilot.pause()
        assert app.panel.config.seed == 17
        await pilot.press("r")
        await pilot.pause()
        assert app.panel.config.seed not in (None, 17)
        await pilot.press("backspace")
        await pilot.pause()
        assert app.panel.config.seed is None
        await pilot.press(*"99999999999999999999", "enter")
        await pilot.pause()
        assert app.panel.config.seed is None
        assert "seed must be a whole number" in app.note
        await pilot.press("escape")
        await pilot.click(SeedRow)
        await pilot.pause()
        assert app.panel.config.seed is not None


async def test_keys_typed_ahead_go_to_the_line_that_was_reached() -> None:
    """Down and Space in one go switch the line below, not the one that is left."""
    app = PanelApp(GenerationConfig())
    async with app.run_test(size=(100, 40)) as pilot:
        app.panel.slider("temperature").focus()
        await pilot.pause()
        app.panel.action_move(1)
        assert app.focused is app.panel.slider("top_k")


async def test_what_has_no_slider_is_shown_too() -> None:
    """Another order of the stages, and bans, count as changes and are named."""
    app = PanelApp(GenerationConfig(temperature_last=True, banned_tokens=(3, 5)))
    async with app.run_test(size=(100, 40)) as pilot:
        line = app.query_one(MoreSamplers)
        assert line.render().plain == " More samplers ▸  temp last · 2 banned"
        assert app.query_one(PresetPicker).heading.count == 2
        order = tuple(reversed(GenerationConfig().sampler_order))
        app.panel.config = GenerationConfig(sampler_order=order, typical_p=0.9)
        await pilot.pause()
        assert line.render().plain == " More samplers ▸  1 on · own order"
        app.panel.config = GenerationConfig()
        await pilot.pause()
        assert line.render().plain == " More samplers ▸"
        assert app.query_one(PresetPicker).heading.count == 0


@pytest.mark.parametrize(("line", "word"), [(MoreSamplers, "Mirostat"), (PresetHeading, "preset")])
async def test_lines_without_a_value_are_explained_too(line: type[MoreSamplers | PresetHeading], word: str) -> None:
    """A question mark is answered on every line of the sidebar."""
    app = PanelApp()
    async with app.run_test(size=(100, 40)) as pilot:
        app.query_one(line).focus()
        await pilot.press("question_mark")
        await pilot.pause()
        assert word in app.note


async def test_more_samplers_unfold() -> None:
    """The less usual parameters are one line, with a count of those that are on, until they are asked for."""
    app = PanelApp(GenerationConfig(dry_multiplier=0.8, dry_base=2.0, typical_p=0.9))
    async with app.run_test(size=(100, 40)) as pilot:
        line = app.query_one(MoreSamplers)
        more = [slider for slider in app.query(Slider) if slider.spec.group == "more"]
        assert line.render().plain == " More samplers ▸  2 on"
        assert not any(slider.display for slider in more)
        line.focus()
        await pilot.press("enter")
        await pilot.pause()
        assert line.render().plain == "›More samplers ▾  2 on"
        assert all(slider.display for slider in more)
        await pilot.press("down", "space")
        await pilot.pause()
        assert app.panel.config.typical_p == 1.0
        assert app.reports[-1][1] == ("typical_p",)
        assert line.count == 1
        await pilot.press("up", "left", "down")
        await pilot.pause()
        assert not any(slider.display for slider in more)
        assert app.query_one(SeedRow).has_focus
        await pilot.click(MoreSamplers)
        await pilot.pause()
        assert all(slider.display for slider in more)
        app.panel.config = GenerationConfig()
        assert line.count == 0


async def test_up_and_down_walk_the_lines() -> None:
    """The arrow keys go from the heading to the seed and stop at the ends."""
    app = PanelApp()
    async with app.run_test() as pilot:
        app.query_one(PresetHeading).focus()
        await pilot.press("up")
        assert app.query_one(PresetHeading).has_focus
        await pilot.press(*["down"] * 20)
        assert app.query_one(SeedRow).has_focus


@pytest.mark.parametrize("size", [(108, 30), (60, 16), (40, 8), (20, 4), (3, 2)])
@pytest.mark.parametrize("overlay", [False, True])
async def test_it_fits_and_scrolls_at_any_size(size: tuple[int, int], overlay: bool) -> None:
    """The line in focus can always be reached, beside the transcript and over it."""
    app = PanelApp()
    async with app.run_test(size=size) as pilot:
        app.panel.set_class(overlay, "-overlay")
        await pilot.pause()
        seed = app.query_one(SeedRow)
        seed.focus()
        await pilot.press("question_mark", "1", "enter")
        await pilot.pause()
        assert app.panel.config.seed == 1
        if size[1] >= 8:
            assert app.panel.region.contains_region(seed.region)


async def test_as_an_overlay_it_takes_no_room() -> None:
    """On a narrow screen the transcript keeps its whole width below the sidebar."""
    app = PanelApp()
    async with app.run_test(size=(60, 16)) as pilot:
        app.panel.add_class("-overlay")
        await pilot.pause()
        assert app.query_one("#main").size.width == 60
        assert app.panel.region.right == 60


class EverythingApp(PanelApp):
    """All controls at once, in states that show every style."""

    def compose(self) -> ComposeResult:
        """The panel beside a stand-in."""
        yield HeaderBar()
        yield from super().compose()
        yield PromptInput(PromptHistory())
        yield StatusBar()


@pytest.mark.parametrize("name", sorted(name for name, theme in THEMES.items() if not theme.ansi))
async def test_every_word_can_be_read_in_every_shipped_theme(name: str) -> None:
    """Whatever is drawn as text keeps a contrast of 4.5:1 to what lies behind it."""
    app = EverythingApp(GenerationConfig(temperature=1.2, top_p=0.5, do_sample=True, seed=8417))
    async with app.run_test(size=(120, 30)) as pilot:
        app.register_theme(THEMES[name])
        app.theme = name
        header, status = app.query_one(HeaderBar), app.query_one(StatusBar)
        header.model, header.details, header.file_name = "SmolLM2", "Q4_1 · cpu", "sea.toml"
        status.show_state("generating")
        app.query_one(PromptInput).write("/hepl")
        app.query_one(PromptInput).action_send()
        app.panel.slider("temperature").focus()
        app.panel.slider("top_k").inactive = True
        await pilot.press("question_mark", "9", "enter")
        await pilot.pause()
        poor = poor_words(app)
        app.query_one(SeedRow).focus()
        status.show_state("error", "no model")
        await pilot.pause()
        assert poor | poor_words(app) == {}


def poor_words(app: App[None]) -> dict[str, float]:
    """The texts on screen that fall below 4.5:1, without the lines of tracks and borders."""
    poor: dict[str, float] = {}
    for strip in app.screen._compositor.render_strips():
        for text, style, _ in strip:
            if (
                not any(sign.isalnum() for sign in text)
                or style is None
                or style.color is None
                or style.bgcolor is None
            ):
                continue
            ink, ground = (Color.from_rich_color(color) for color in (style.color, style.bgcolor))
            if contrast(ink, ground) < 4.5:
                poor[text.strip()] = round(contrast(ink, ground), 2)
    return poor
