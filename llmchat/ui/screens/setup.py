"""The guided set-up: model, tokenizer, device, preset, theme, a trial, and then the settings file.

One screen holds every step. Nothing is written before the last one; Esc leaves all as it was.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual import events, getters, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget
from textual.widgets import Button, ContentSwitcher, Static

from llmchat.chat.plain_text import visible
from llmchat.errors import LlmchatError
from llmchat.paths import settings_path
from llmchat.settings import Settings, save_settings
from llmchat.themes import load_themes
from llmchat.ui.rendering.hints import clickable
from llmchat.ui.screens.setup_steps import DeviceStep, ModelStep, PresetStep, SetupStep, ThemeStep, TokenizerStep
from llmchat.ui.screens.setup_trial import MakeWorker, TrialStep
from llmchat.ui.widgets.verdict_line import VerdictLine
from llmchat.worker.inference_worker import InferenceWorker

_ASKED = ("model", "tokenizer", "device", "threads", "preset", "theme")
"""The settings that the set-up asks for; each is also a flag of this name."""

SHORT = 22
"""In a window of fewer lines the empty lines are left out."""


def known_themes(app: App[Any]) -> tuple[str, ...]:
    """The names of all themes that an application has, llmchat's own and the person's first."""
    own = [name for name in load_themes().themes if name in app.available_themes]
    return (*own, *sorted(set(app.available_themes) - set(own)))


class SaveStep(SetupStep):
    """What will be written, and where."""

    TITLE = "Save"
    QUESTION = "Save these settings?"

    def __init__(self, path: Path, *, id: str | None = None) -> None:  # noqa: A002
        """A step that names this file."""
        super().__init__(id=id)
        self._path = path

    def compose(self) -> ComposeResult:
        """The settings, and the same as flags."""
        yield Static(id="save-summary", markup=False)

    def show(self, draft: Settings) -> None:
        """List the draft."""
        default = Settings()
        rows = [(name, getattr(draft, name)) for name in _ASKED]
        words = {"model": draft.model or "the default model", "tokenizer": draft.tokenizer or "found with the model"}
        words |= {
            "threads": str(draft.threads or "as many as help"),
            "preset": draft.preset or "Balanced (the default)",
        }
        lines = [f"{name:<11}{words.get(name, value)}" for name, value in rows]
        flags = [part for name, value in rows if value != getattr(default, name) for part in (f"--{name}", str(value))]
        lines += ["", f"Written to {self._path}", f"As flags: {shlex.join(['llmchat', *flags])}"]
        self.query_one(Static).update(visible("\n".join(lines)))

    def begin(self) -> None:
        """There is nothing to fill in: Enter on the button saves."""
        self.screen.query_one("#setup-next").focus()


class StepsLine(Widget):
    """Where in the set-up one is: the names of all steps, or the number where they do not fit."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"steps--done", "steps--here", "steps--ahead"}

    DEFAULT_CSS = """
    StepsLine {
        height: 1;
        width: 1fr;
        text-wrap: nowrap;
        & > .steps--done { color: $text-success; }
        & > .steps--here { color: $text-primary; text-style: bold; }
        & > .steps--ahead { color: $text-muted; }
    }
    """

    position: reactive[int] = reactive(0)
    """The number of the step in front, from 0."""

    def __init__(self, titles: Sequence[str]) -> None:
        """A line for these steps."""
        super().__init__()
        self._titles = titles

    def render(self) -> Content:
        """Every step with a mark for done, here or ahead."""
        names = [f"{'✓ ' if index < self.position else ''}{title}" for index, title in enumerate(self._titles)]
        if sum(len(name) + 3 for name in names) - 3 > self.content_size.width:
            here = f"Step {self.position + 1} of {len(names)}  {self._titles[self.position]}"
            return Content.assemble((here, self.get_visual_style("steps--here")))
        parts = (Content.assemble((name, self._style(index))) for index, name in enumerate(names))
        return Content("   ").join(parts)

    def _style(self, index: int) -> Style:
        kind = "done" if index < self.position else "here" if index == self.position else "ahead"
        return self.get_visual_style(f"steps--{kind}")


class SetupScreen(Screen[Settings | None]):
    """Dismisses with the settings that were saved, or None if it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pagedown", "next", "Next step", False, priority=True),
        Binding("pageup", "back", "Step before", False, priority=True),
        Binding("escape", "leave", "Stop the trial, or leave without saving", False),
    ]

    DEFAULT_CSS = """
    SetupScreen {
        align: center middle;
        background: $background;
        color: $foreground;

        & > #setup-frame {
            width: 1fr;
            max-width: 96;
            height: 1fr;
            max-height: 30;
            padding: 0 2;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
            background: $surface;
        }
        & #setup-question { height: auto; margin-top: 1; margin-bottom: 1; text-style: bold; }
        & ContentSwitcher { height: 1fr; }
        & SetupStep { height: 1fr; scrollbar-size: 1 1; background: transparent; }
        & .setup-line { height: 1; margin-top: 1; }
        & .setup-line Input { width: 1fr; background: $panel; padding: 0 1; }
        & .setup-line Label { color: $foreground; }
        & .setup-line Button { margin-left: 2; min-width: 10; }
        & .setup-line Button, & #setup-back { background: $panel; }
        & VerdictLine { margin-top: 1; }
        & #preset-note { color: $text-muted; margin-top: 1; }
        & #trial-status { height: auto; max-height: 3; margin-top: 1; color: $text-muted; }
        & #trial-status.-bad { color: $text-error; }
        & #trial-pane { height: 1fr; margin-top: 1; scrollbar-size: 1 1; background: transparent; }
        & #setup-buttons { height: 1; margin: 1 0 0 0; }
        & #setup-buttons Button { min-width: 10; margin-right: 2; }

        & SetupStep > ChoiceList { max-height: 100h; }

        &.-short #setup-question, &.-short #setup-buttons { margin: 0; }
        &.-short .setup-line, &.-short VerdictLine, &.-short #trial-status, &.-short #trial-pane { margin-top: 0; }
        &:ansi .setup-line Input { text-style: underline; }
    }
    """

    steps_line = getters.query_one(StepsLine)
    switcher = getters.query_one(ContentSwitcher)

    def __init__(
        self,
        settings: Settings,
        path: Path | None = None,
        themes: Sequence[str] = (),
        make_worker: MakeWorker = InferenceWorker,
    ) -> None:
        """A set-up.

        Args:
            settings: What the settings file says now; the set-up changes some of it.
            path: The settings file; by default the usual one.
            themes: The themes to offer; by default all that the application has.
            make_worker: Makes the worker for the trial, which reports through the callable it is given.
        """
        super().__init__()
        self.draft = settings
        """The answers so far."""
        self._path = path
        self._themes = tuple(themes)
        self._make_worker = make_worker
        self._theme_before = ""
        self._steps: list[SetupStep] = []

    def compose(self) -> ComposeResult:
        """A frame: where one is, the question, its step, what is wrong, and the buttons."""
        self._steps = [
            ModelStep(id="step-model"),
            TokenizerStep(id="step-tokenizer"),
            DeviceStep(id="step-device"),
            PresetStep(id="step-preset"),
            ThemeStep(self._themes or known_themes(self.app), id="step-theme"),
            TrialStep(self._make_worker, id="step-trial"),
            SaveStep(self._path or settings_path(), id="step-save"),
        ]
        with Vertical(id="setup-frame") as frame:
            frame.border_title = "Set-up of llmchat"
            frame.border_subtitle = clickable("Enter or PgDn next · PgUp back · Esc leaves")
            yield StepsLine([step.TITLE for step in self._steps])
            yield Static(id="setup-question", markup=False)
            with ContentSwitcher(initial="step-model"):
                yield from self._steps
            yield VerdictLine(id="setup-message")
            with Horizontal(id="setup-buttons"):
                yield Button("Back", id="setup-back", compact=True)
                yield Button("Next", id="setup-next", variant="primary", compact=True)

    def on_mount(self) -> None:
        """Begin with the model."""
        self._theme_before = self.app.theme
        self._show(0)

    def on_resize(self, event: events.Resize) -> None:
        """Leave out the empty lines where every line counts."""
        self.set_class(event.size.height < SHORT, "-short")

    @property
    def step(self) -> SetupStep:
        """The step in front."""
        return self._steps[self.steps_line.position]

    @on(SetupStep.Answered)
    @on(Button.Pressed, "#setup-next")
    def action_next(self) -> None:
        """Take the answer and go to the next step that is needed; the last one saves."""
        if self.app.screen is not self:
            return
        try:
            self.draft = self.step.read(self.draft)
            if isinstance(self.step, SaveStep):
                save_settings(self.draft, self._path)
                self.dismiss(self.draft)
                return
        except LlmchatError as error:
            self.query_one("#setup-message", VerdictLine).refuse(error.message)
            return
        self._show(self._needed(self.steps_line.position, 1))

    @on(Button.Pressed, "#setup-back")
    def action_back(self) -> None:
        """Go to the step before; what was answered here is kept if it can be."""
        if self.steps_line.position == 0 or self.app.screen is not self:
            return
        with contextlib.suppress(LlmchatError):
            self.draft = self.step.read(self.draft)
        self._show(self._needed(self.steps_line.position, -1))

    def action_leave(self) -> None:
        """Stop the trial if one runs; else leave, with everything as it was."""
        if isinstance(self.step, TrialStep) and self.step.is_running:
            self.step.stop()
            return
        self.app.theme = self._theme_before
        self.dismiss(None)

    def _needed(self, position: int, direction: int) -> int:
        """The nearest step in a direction that has to be asked."""
        position += direction
        while not self._steps[position].is_needed(self.draft):
            position += direction
        return position

    def _show(self, position: int) -> None:
        self.step.leave()
        self.steps_line.position = position
        step = self.step
        self.switcher.current = step.id
        self.query_one("#setup-question", Static).update(step.QUESTION)
        self.query_one("#setup-message", VerdictLine).clear()
        self.query_one("#setup-back", Button).visible = position > 0
        self.query_one("#setup-next", Button).label = "Save" if isinstance(step, SaveStep) else "Next"
        step.show(self.draft)
        self.call_after_refresh(step.begin)
