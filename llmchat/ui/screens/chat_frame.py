"""The chat screen's parts, where they stand, and what they do without a conversation."""

from __future__ import annotations

from typing import ClassVar

from textual import events, getters, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.notifications import SeverityLevel
from textual.screen import Screen

from llmchat.chat.generation_config import GenerationConfig
from llmchat.ui.model_rows import model_names
from llmchat.ui.screens.help import HelpScreen
from llmchat.ui.widgets.find_bar import FindBar
from llmchat.ui.widgets.header_bar import HeaderBar
from llmchat.ui.widgets.more_samplers import MoreSamplers
from llmchat.ui.widgets.next_token_panel import NextTokenPanel
from llmchat.ui.widgets.preset_picker import PresetPicker
from llmchat.ui.widgets.prompt_input import PromptInput
from llmchat.ui.widgets.sampling_panel import SamplingPanel
from llmchat.ui.widgets.seed_row import SeedRow
from llmchat.ui.widgets.slider import Slider
from llmchat.ui.widgets.status_bar import StatusBar
from llmchat.ui.widgets.token_inspector import TokenInspector
from llmchat.ui.widgets.transcript_view import TranscriptView
from llmchat.ui.widgets.value_row import ValueRow
from llmchat.ui.widgets.welcome import Welcome

WIDE = 100
"""Columns from which the sidebar has its whole width, and is there from the start."""
BESIDE = 70
"""Columns from which it stands beside the transcript, which is wrapped anew, instead of over it."""


class ChatFrame(Screen[None]):
    """Transcript, sidebar, prompt and bars: their places, looking for words, scrolling, copying."""

    PARTS: ClassVar[tuple[type, ...]] = (
        TranscriptView, TokenInspector, SamplingPanel, PresetPicker, MoreSamplers, ValueRow, Slider, SeedRow,
        PromptInput, FindBar, HelpScreen,
    )  # fmt: skip
    """The parts whose keys can be rebound."""

    header = getters.query_one(HeaderBar)
    welcome = getters.query_one(Welcome)
    view = getters.query_one(TranscriptView)
    panel = getters.query_one(SamplingPanel)
    inspector = getters.query_one(TokenInspector)
    next_token = getters.query_one(NextTokenPanel)
    prompt = getters.query_one(PromptInput)
    status = getters.query_one(StatusBar)
    find_bar = getters.query_one(FindBar)

    def __init__(self, config: GenerationConfig, *, sidebar: bool) -> None:
        """A frame.

        Args:
            config: What the sliders show at first.
            sidebar: Whether they are seen at first, where there is room.
        """
        super().__init__()
        self._config = config
        self._sidebar = sidebar
        self._shape = ""

    def compose(self) -> ComposeResult:
        """Header, transcript and sidebar, find bar, prompt, status."""
        yield HeaderBar()
        with Horizontal(id="middle"):
            with Vertical():
                yield Welcome()
                yield TranscriptView(id="transcript")
                yield TokenInspector(id="inspector")
            yield SamplingPanel(self._config, id="sampling")
        yield FindBar()
        yield PromptInput(
            names={
                "theme": lambda: sorted(self.app.available_themes),
                "model": model_names,
            },
            id="prompt",
        )
        yield StatusBar()

    # ── the sidebar ──

    def on_resize(self, event: events.Resize) -> None:
        """Put the sidebar beside the transcript where there is room, narrower or over it where there is less."""
        width = event.size.width
        shape = "-overlay" if width < BESIDE else "-narrow" if width < WIDE else "-wide"
        if shape != self._shape:
            self._shape = shape
            for one in ("-overlay", "-narrow"):
                self.panel.set_class(one == shape, one)
            self.panel.set_class(shape != "-wide" or not self._sidebar, "-hidden")

    def action_sidebar(self) -> None:
        """Go to the sliders, shown if they were not; from there, hide them."""
        if self.panel.has_focus_within:
            self.show_sidebar(False)
            self.set_focus(self.prompt)
        else:
            self.show_sidebar(True)
            self.panel.focus_slider()

    def show_sidebar(self, shown: bool) -> None:
        """Show or hide the sliders; a wide window remembers it."""
        self.panel.set_class(not shown, "-hidden")
        if self.size.width >= WIDE:
            self._sidebar = shown

    # ── the transcript ──

    async def action_view(self, name: str) -> None:
        """Scroll the transcript, wherever the focus is."""
        await self.view.run_action(name)

    def action_select_turn(self, direction: int) -> None:
        """Put the turn cursor into the transcript, or among what an empty one offers."""
        if self.welcome.has_class("-shown") and all(block.role == "notice" for block in self.view.blocks):
            self.welcome.choices.focus()
            return
        self.view.focus()
        self.view.action_select_turn(direction)

    def action_write_on(self, text: str) -> None:
        """Go on in the prompt with what was begun elsewhere: whoever types or pastes in the transcript means that."""
        self.set_focus(self.prompt)
        self.prompt.insert(text)

    def action_find(self) -> None:
        """Look for words in the transcript."""
        self.find_bar.open()

    @on(FindBar.Searched)
    def search(self, event: FindBar.Searched) -> None:
        """Look for other words."""
        self.view.find(event.text)
        self.find_bar.show_count(*self.view.find_position)

    @on(FindBar.Moved)
    def go_to_match(self, event: FindBar.Moved) -> None:
        """Go to another match."""
        if event.by > 0:
            self.view.find_next()
        else:
            self.view.find_previous()
        self.find_bar.show_count(*self.view.find_position)

    @on(FindBar.Closed)
    def end_search(self) -> None:
        """Back to the prompt; matches stay marked for n and N."""
        self.set_focus(self.prompt)

    # ── everywhere ──

    def copy(self, text: str) -> None:
        """Copy a text and say which way it went."""
        self.run_worker(self._copy(text))

    async def _copy(self, text: str) -> None:
        from llmchat.ui import clipboard

        result = await clipboard.copy_text(self.app, text)
        severity: SeverityLevel = "information" if result.succeeded else "warning"
        self.notify(result.message, severity=severity, markup=False, timeout=3)

    def action_help(self) -> None:
        """Show every key and command."""
        self.app.push_screen(HelpScreen())
