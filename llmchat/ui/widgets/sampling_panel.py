"""The sidebar: a slider for every sampling parameter, the preset and the seed.

It shows a `GenerationConfig` and posts a new one whenever the person changes
something. A config that the program sets is shown and not reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from llmchat.chat.generation_config import SAMPLER_ORDER, SAMPLING_SPECS, GenerationConfig, Value
from llmchat.chat.presets import apply_preset, matching_preset
from llmchat.errors import UsageError
from llmchat.ui.widgets.more_samplers import MoreSamplers
from llmchat.ui.widgets.preset_picker import PresetHeading, PresetPicker
from llmchat.ui.widgets.seed_row import SeedRow
from llmchat.ui.widgets.slider import Slider
from llmchat.ui.widgets.value_row import ValueRow

CUSTOM = "Custom"
"""Shown where settings are no preset's."""


class SamplingPanel(VerticalScroll, can_focus=False):
    """The sliders. With the class `-narrow` they take less room, with `-overlay` they lie over the transcript."""

    HELP_HEADING = "In the sidebar"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "To the line above", False, id="sidebar.up"),
        Binding("down", "move(1)", "To the line below", False, id="sidebar.down"),
        Binding("question_mark", "explain_line", "Say what the line is about", False, id="sidebar.explain"),
    ]

    DEFAULT_CSS = """
    SamplingPanel {
        width: 40;
        height: 1fr;
        padding: 1 1 0 1;
        background: $surface;
        color: $foreground;
        scrollbar-size-vertical: 1;

        &:ansi { border-left: vkey ansi_bright_black; }
        &.-narrow { width: 33; }
        &.-overlay { dock: right; layer: overlay; max-width: 100%; border-left: vkey $primary; }
        & > PresetPicker { margin-bottom: 1; }
        &.-folded > .-more { display: none; }
        & > .-adapter { display: none; }
        &.-adapted > .-adapter { display: block; }
        & > #next-token { height: auto; width: 1fr; }
        & > #sampling-note {
            dock: bottom;
            display: none;
            height: auto;
            max-height: 7;
            padding: 0 1;
            background: $surface;
            color: $foreground;
            border-top: solid $primary;
            &.-refused { border-top: solid $error; }
        }
    }
    """

    class ConfigChanged(Message):
        """The person changed settings."""

        def __init__(self, panel: SamplingPanel, config: GenerationConfig, names: tuple[str, ...]) -> None:
            super().__init__()
            self.panel = panel
            self.config = config
            """All settings as they are now."""
            self.names = names
            """The fields that changed."""

        @property
        def control(self) -> SamplingPanel:
            """The panel they were changed in."""
            return self.panel

    def __init__(self, config: GenerationConfig | None = None, *, id: str | None = None) -> None:  # noqa: A002
        """A panel that shows `config`, or the defaults."""
        super().__init__(id=id, classes="-folded")
        self._config = config or GenerationConfig()
        self._sources: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        """Heading, sliders, those that unfold, seed, and the place for the next token's probabilities."""
        yield PresetPicker()
        sliders = [
            Slider(spec, getattr(self._config, spec.name), id=spec.name.replace("_", "-")) for spec in SAMPLING_SPECS
        ]
        yield from (slider for slider in sliders if slider.spec.group == "main")
        yield from (slider.add_class("-adapter") for slider in sliders if slider.spec.group == "adapter")
        yield MoreSamplers(id="more")
        for slider in sliders:
            if slider.spec.group == "more":
                yield slider.add_class("-more", update=False)
        yield SeedRow(id="seed")
        yield Container(id="next-token")
        yield Static(id="sampling-note")

    def on_mount(self) -> None:
        """Show what the constructor was given."""
        self._show()

    @property
    def config(self) -> GenerationConfig:
        """The settings that are shown. Assigning shows others, without reporting them."""
        return self._config

    @config.setter
    def config(self, config: GenerationConfig) -> None:
        self._note_sources(config, "changed here")
        self._config = config
        if self.is_mounted:
            self._show()

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter is open, so that its scale has a line."""
        return self.has_class("-adapted")

    @has_adapter.setter
    def has_adapter(self, has_adapter: bool) -> None:
        if has_adapter != self.has_adapter:
            self.set_class(has_adapter, "-adapted")
            self._show()

    def set_sources(self, sources: Mapping[str, str]) -> None:
        """Say where values come from, by field: "from the settings file", "from --top-k"."""
        self._sources = dict(sources)
        if self.is_mounted:
            self._show()

    def show_seed(self, seed: int) -> None:
        """Show the seed of the latest reply, which Enter on its line locks."""
        self.query_one(SeedRow).last_seed = seed

    def slider(self, name: str) -> Slider:
        """The slider of a parameter.

        Raises:
            KeyError: There is no such parameter.
        """
        for slider in self.query(Slider):
            if slider.spec.name == name:
                return slider
        raise KeyError(name)

    def focus_slider(self) -> None:
        """Put the focus on the first slider."""
        self.query(Slider).first().focus()

    def _show(self) -> None:
        """Bring every line up to the config."""
        config, inactive = self._config, self._config.inactive()
        for slider in self.query(Slider):
            name = slider.spec.name
            if not slider.unheard:
                slider.set_value(getattr(config, name))
            slider.inactive = name in inactive
            slider.source = self._sources.get(name, "")
        self.slider("temperature").note = "" if config.do_sample else "greedy"
        seed = self.query_one(SeedRow)
        seed.seed, seed.inactive = config.seed, "seed" in inactive
        more = (slider for slider in self.query(Slider) if slider.spec.group == "more")
        line, others = self.query_one(MoreSamplers), _without_slider(config)
        line.count = sum(slider.spec.neutral not in (None, slider.value) for slider in more)
        line.others = " · ".join(others)
        heading = self.query_one(PresetPicker).heading
        heading.preset = matching_preset(config) or CUSTOM
        acting = (slider for slider in self.query(Slider) if self.has_adapter or slider.spec.group != "adapter")
        heading.count = sum(slider.differs for slider in acting) + (not config.do_sample) + len(others)

    def _change(self, values: Mapping[str, Value]) -> None:
        """Take changed fields, or put everything back and say why they do not go together."""
        try:
            changed = self._config.changed(**values)
        except UsageError as error:
            self._show()
            self._note(error.message, refused=True)
            return
        self._adopt(changed, "changed here")

    def _adopt(self, config: GenerationConfig, source: str) -> None:
        """Make a config the current one and report what is different in it."""
        names = self._note_sources(config, source)
        self._config = config
        self._show()
        self._note("")
        if names:
            self.post_message(self.ConfigChanged(self, config, names))

    def _note_sources(self, config: GenerationConfig, source: str) -> tuple[str, ...]:
        """Remember where the values come from that a new config changes; returns their fields."""
        names = tuple(config.difference(self._config))
        self._sources.update(dict.fromkeys(names, source))
        return names

    def _note(self, text: str, refused: bool = False) -> None:
        """Say something at the panel's foot; "" says nothing."""
        note = self.query_one("#sampling-note", Static)
        note.update(Content(text))
        note.set_class(refused, "-refused")
        note.display = bool(text)

    @on(Slider.Changed)
    def take_slider(self, event: Slider.Changed) -> None:
        """Take a moved slider; moving the temperature leaves greedy decoding."""
        event.stop()
        event.slider.unheard -= 1
        values: dict[str, Value] = {event.name: event.value}
        if event.name == "temperature":
            values["do_sample"] = True
        self._change(values)

    @on(MoreSamplers.Toggled)
    def fold(self, event: MoreSamplers.Toggled) -> None:
        """Show or hide the less usual parameters."""
        event.stop()
        self.set_class(not event.unfolded, "-folded")

    @on(SeedRow.Changed)
    def take_seed(self, event: SeedRow.Changed) -> None:
        """Take a locked, typed or freed seed."""
        event.stop()
        self._change({"seed": event.seed})

    @on(PresetPicker.Chosen)
    def take_preset(self, event: PresetPicker.Chosen) -> None:
        """Take a preset's sampling settings; lengths and seed stay."""
        event.stop()
        self._adopt(apply_preset(event.preset, self._config), f"from the preset {event.preset}")

    @on(ValueRow.Refused)
    def say_why_not(self, event: ValueRow.Refused) -> None:
        """Show why a value was not taken."""
        event.stop()
        self._note(event.message, refused=True)

    @on(ValueRow.Explained)
    def explain(self, event: ValueRow.Explained) -> None:
        """Show what a parameter does."""
        event.stop()
        self._note(event.message)

    def action_explain_line(self) -> None:
        """Show what a line without a value is about; those with one say it themselves."""
        line = self.screen.focused
        if isinstance(line, PresetHeading | MoreSamplers):
            self._note(line.EXPLANATION)

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """A note is about the line in focus, and goes with it."""
        if self.app.app_focus:
            self._note("")

    def action_move(self, by: int) -> None:
        """Move the focus by a line, within the panel."""
        lines = [widget for widget in self.query("PresetHeading, ValueRow, MoreSamplers") if widget.display]
        here = next((index for index, widget in enumerate(lines) if widget.has_focus), 0)
        # At once, so that a key pressed right after goes there.
        self.screen.set_focus(lines[min(max(here + by, 0), len(lines) - 1)])


def _without_slider(config: GenerationConfig) -> list[str]:
    """What is set of the order of the stages and of bans, in a few words."""
    words = []
    if config.sampler_order != SAMPLER_ORDER:
        words.append("own order")
    elif config.temperature_last:
        words.append("temp last")
    if config.banned_tokens:
        words.append(f"{len(config.banned_tokens)} banned")
    return words


def source_words(sources: Mapping[str, str]) -> dict[str, str]:
    """Where values come from, in words; what is at its default needs none."""
    return {name: _SOURCE_WORDS[source] for name, source in sources.items() if source in _SOURCE_WORDS}


_SOURCE_WORDS = {
    "preset": "from the preset",
    "settings": "from the settings file",
    "flag": "from the command line",
    "session": "changed here",
}
