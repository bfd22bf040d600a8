"""The questions of the guided set-up: each a step that shows the draft and reads the answer back into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Button, Input, Label, Static

from llmchat.chat.amounts import size_words
from llmchat.chat.presets import PRESETS
from llmchat.checkpoints import catalog
from llmchat.errors import LlmchatError, UsageError
from llmchat.settings import Settings
from llmchat.themes import usual_theme
from llmchat.ui.model_files import ModelFile, check_model, check_tokenizer, is_model, is_tokenizer
from llmchat.ui.model_rows import recommended_rows, stored_rows
from llmchat.ui.screens.file_browser import FileBrowser
from llmchat.ui.widgets.choice_list import Choice, ChoiceList
from llmchat.ui.widgets.path_input import PathInput
from llmchat.ui.widgets.verdict_line import VerdictLine

PRESET_WORDS = {
    "Greedy": "Always the likeliest token: the same answer every time.",
    "Conservative": "Close to the likeliest: sober and repeatable.",
    "Balanced": "Some variety; right for most conversations.",
    "Creative": "Surprising; may lose the thread.",
    "Thinking": "For models that think before they answer: sober, with room for long thoughts.",
}
"""What each preset is for."""

_OWN_FILE = "file"


class SetupStep(VerticalScroll, can_focus=False):
    """One question."""

    TITLE: ClassVar[str]
    QUESTION: ClassVar[str]

    class Answered(Message):
        """The person is done with this step and wants the next."""

    def show(self, draft: Settings) -> None:
        """Show what the draft says."""

    def read(self, draft: Settings) -> Settings:
        """The draft with this step's answer.

        Raises:
            LlmchatError: The answer is not accepted.
        """
        return draft

    def is_needed(self, draft: Settings) -> bool:
        """Whether the question has to be asked at all."""
        return True

    def begin(self) -> None:
        """Put the focus where the answer is given."""
        for widget in self.query("ChoiceList, Input, Button"):
            if widget.focusable:
                widget.focus()
                return

    def leave(self) -> None:
        """Another step takes the place of this one."""

    @on(ChoiceList.Accepted)
    @on(Input.Submitted)
    def answer(self) -> None:
        """Enter goes on."""
        self.post_message(self.Answered())


class ModelStep(SetupStep):
    """A named model, or a file."""

    TITLE = "Model"
    QUESTION = "Which model do you want to talk to?"

    choices = getters.query_one(ChoiceList)
    line = getters.query_one(PathInput)
    found = getters.query_one(VerdictLine)

    def compose(self) -> ComposeResult:
        """The named models, then a line for a path."""
        rows = [Choice(entry.name, entry.title, _entry_words(entry)) for entry in catalog.models()]
        rows += [*stored_rows(), *recommended_rows()]
        self._names = list(dict.fromkeys(row.id for row in rows))
        rows = list({row.id: row for row in rows}.values())
        rows.append(
            Choice(_OWN_FILE, "A model of your own", "a file, a directory, OWNER/NAME of the hub, or an address")
        )
        yield ChoiceList(rows)
        with Horizontal(classes="setup-line"):
            yield PathInput(placeholder="a path, which Tab completes, OWNER/NAME or an address")
            yield Button("Browse", compact=True)
        yield VerdictLine()

    def show(self, draft: Settings) -> None:
        """Put the cursor on the draft's model."""
        entry = catalog.find_model(draft.model)
        name = draft.model if entry is None else entry.name
        is_listed = name in self._names
        self.choices.highlighted = self._names.index(name) if is_listed else len(self._names)
        if not is_listed:
            self.line.write(draft.model)
        self._follow()

    def read(self, draft: Settings) -> Settings:
        """The draft with this model; facts of another one, such as its tokenizer, are dropped."""
        name = self.choices.choice.id if self.choices.choice is not None else ""
        if name == _OWN_FILE:
            check_model(self.line.value)
            name = self.line.value.strip()
        elif name == catalog.default_model().name:
            name = ""
        if name == draft.model:
            return draft
        return replace(draft, model=name, tokenizer=None, heads=None, chat_template=None, lora="")

    @on(ChoiceList.Chosen)
    @on(Input.Changed)
    def _follow(self) -> None:
        """Show the line for the path only where it is needed, and what is there."""
        is_own = self.choices.choice is not None and self.choices.choice.id == _OWN_FILE
        self.query_one(Horizontal).display = is_own
        if not is_own or not self.line.value.strip():
            self.found.clear()
            return
        try:
            model = check_model(self.line.value)
        except UsageError as error:
            self.found.refuse(error.message)
        else:
            self.found.accept(f"{model.words}{_tokenizer_words(model)}")

    @on(ChoiceList.Accepted)
    def ask_path(self, event: ChoiceList.Accepted) -> None:
        """A file of one's own has to be named first."""
        if event.choice.id == _OWN_FILE and not self.line.value.strip():
            event.stop()
            event.prevent_default()
            self.line.focus()

    @on(Button.Pressed)
    def browse(self, event: Button.Pressed) -> None:
        """Choose the file in a tree."""
        event.stop()
        self.app.push_screen(FileBrowser(_start(self.line.value), is_model), self._take)

    def _take(self, path: Path | None) -> None:
        if path is not None:
            self.line.write(str(path))
            self.line.focus()


class TokenizerStep(SetupStep):
    """The tokenizer, for models that do not bring their own."""

    TITLE = "Tokenizer"
    QUESTION = "Which tokenizer was the model trained with?"

    line = getters.query_one(PathInput)
    found = getters.query_one(VerdictLine)

    def compose(self) -> ComposeResult:
        """A line for its path, and what is there."""
        yield Label("A tokenizer.model or tokenizer.json, or the directory that holds it.", shrink=True)
        with Horizontal(classes="setup-line"):
            yield PathInput(placeholder="path of the tokenizer; Tab completes it")
            yield Button("Browse", compact=True)
        yield VerdictLine()

    def is_needed(self, draft: Settings) -> bool:
        """Only files without a tokenizer of their own need one."""
        if catalog.find_model(draft.model) is not None:
            return False
        try:
            return not check_model(draft.model).has_tokenizer
        except UsageError:
            return True

    def show(self, draft: Settings) -> None:
        """Fill in the one that was given, or that lies beside the model."""
        self.line.write(draft.tokenizer or str(_beside(draft) or ""))
        self._check()

    def read(self, draft: Settings) -> Settings:
        """The draft with this tokenizer; the one beside the model needs no naming."""
        path = check_tokenizer(self.line.value)
        return replace(draft, tokenizer=None if path == _beside(draft) else self.line.value.strip())

    @on(Input.Changed)
    def _check(self) -> None:
        try:
            path = check_tokenizer(self.line.value)
        except UsageError as error:
            self.found.refuse(error.message)
        else:
            self.found.accept(f"{path.name} is there")

    @on(Button.Pressed)
    def browse(self, event: Button.Pressed) -> None:
        """Choose the file in a tree."""
        event.stop()
        self.app.push_screen(FileBrowser(_start(self.line.value), is_tokenizer, "Choose a tokenizer"), self._take)

    def _take(self, path: Path | None) -> None:
        if path is not None:
            self.line.write(str(path))
            self.line.focus()


class DeviceStep(SetupStep):
    """Where the model runs."""

    TITLE = "Device"
    QUESTION = "Where should the model run?"

    choices = getters.query_one(ChoiceList)
    threads = getters.query_one(Input)

    def compose(self) -> ComposeResult:
        """The devices, and the number of threads."""
        yield ChoiceList()
        with Horizontal(classes="setup-line"):
            yield Label("CPU threads  ")
            yield Input(placeholder="as many as help", type="integer", max_length=4, compact=True)

    def show(self, draft: Settings) -> None:
        """Put the cursor on the draft's device."""
        rows = [
            Choice("auto", "auto", "a GPU if there is one, else the processor"),
            Choice("cpu", "cpu", "the processor; works everywhere"),
            Choice("cuda", "cuda", "an NVIDIA graphics card"),
            Choice("mps", "mps", "the graphics of an Apple chip"),
        ]
        if draft.device not in [row.id for row in rows]:
            rows.append(Choice(draft.device, draft.device, "as the settings say"))
        self.choices.show_choices(rows, draft.device)
        self.threads.value = "" if draft.threads is None else str(draft.threads)

    def read(self, draft: Settings) -> Settings:
        """The draft with this device."""
        device = self.choices.choice.id if self.choices.choice is not None else "auto"
        text = self.threads.value.strip()
        if text and not (text.isascii() and text.isdigit()):
            raise UsageError(f"CPU threads takes a whole number from 1 to 1024, not {text!r}.")
        return replace(draft, device=device, threads=int(text) if text else None)


class PresetStep(SetupStep):
    """How bold the model is."""

    TITLE = "Preset"
    QUESTION = "How bold should replies be? The sliders change it at any time."

    choices = getters.query_one(ChoiceList)

    def compose(self) -> ComposeResult:
        """The presets with their values."""
        yield ChoiceList([Choice(name, f"{name}  ({_values(name)})", PRESET_WORDS[name]) for name in PRESETS])
        yield Static("The settings file has sampling values of its own; they go before the preset's.", id="preset-note")

    def show(self, draft: Settings) -> None:
        """Put the cursor on the draft's preset; the defaults are those of Balanced."""
        self.choices.highlighted = list(PRESETS).index(draft.preset or "Balanced")
        self.query_one("#preset-note").display = bool(draft.generation)

    def read(self, draft: Settings) -> Settings:
        """The draft with this preset."""
        name = self.choices.choice.id if self.choices.choice is not None else ""
        return draft if not draft.preset and name == "Balanced" else replace(draft, preset=name)


class ThemeStep(SetupStep):
    """The colours, put on at once."""

    TITLE = "Theme"
    QUESTION = "Which colours do you like? What you see is what you get."

    choices = getters.query_one(ChoiceList)

    def __init__(self, themes: tuple[str, ...], *, id: str | None = None) -> None:  # noqa: A002
        """A step that offers these themes."""
        super().__init__(id=id)
        self._themes = themes
        self._is_shown = False

    def compose(self) -> ComposeResult:
        """The names of the themes."""
        yield ChoiceList([Choice(name, name) for name in self._themes])

    def show(self, draft: Settings) -> None:
        """Put the cursor on the theme that is on."""
        names = list(self._themes)
        self.choices.highlighted = names.index(self.app.theme) if self.app.theme in names else 0

    def read(self, draft: Settings) -> Settings:
        """The draft with this theme; the usual one needs no word in the file."""
        choice = self.choices.choice
        is_same = choice is None or choice.id == (draft.theme or usual_theme(self.app.console.color_system))
        return draft if choice is None or is_same else replace(draft, theme=choice.id)

    @on(ChoiceList.Chosen)
    def preview(self, event: ChoiceList.Chosen) -> None:
        """Put the theme on while this step is in front."""
        if self.choices.has_focus:
            self.app.theme = event.choice.id


def _entry_words(entry: catalog.ModelEntry) -> str:
    if not entry.package:
        return entry.description
    place = "on this machine" if entry.is_on_disk else f"will be fetched, {size_words(entry.size)}"
    return f"{place}; {entry.description}"


def _tokenizer_words(model: ModelFile) -> str:
    if model.has_tokenizer:
        return ""
    return ", with a tokenizer beside it" if model.tokenizer is not None else ", no tokenizer found beside it"


def _beside(draft: Settings) -> Path | None:
    try:
        return check_model(draft.model).tokenizer
    except LlmchatError:
        return None


def _start(text: str) -> Path | None:
    return Path(text.strip()) if text.strip() else None


def _values(name: str) -> str:
    """A preset's values in a few words."""
    words = (f"{key} {value}" if key != "do_sample" else "the likeliest token" for key, value in PRESETS[name].items())
    return ", ".join(words)
