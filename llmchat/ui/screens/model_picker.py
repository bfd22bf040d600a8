"""Choosing another model: the named ones, those used before, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input

from llmchat.chat.amounts import memory_words
from llmchat.chat.model import ModelSpec, is_pattern
from llmchat.chat.plain_text import visible
from llmchat.checkpoints import catalog
from llmchat.errors import UsageError
from llmchat.ui.model_files import check_model, is_tokenizer
from llmchat.ui.model_rows import named_rows, recommended_rows, stored_rows
from llmchat.ui.recent_models import named, whole
from llmchat.ui.rendering.hints import clickable
from llmchat.ui.screens.file_browser import FileBrowser
from llmchat.ui.widgets.choice_list import Choice, ChoiceList
from llmchat.ui.widgets.path_input import PathInput
from llmchat.ui.widgets.verdict_line import VerdictLine

_BROWSE = "\0browse"


class ModelPicker(ModalScreen[ModelSpec | None]):
    """Dismisses with what to open, or None."""

    AUTO_FOCUS = "ChoiceList"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Keep the model", False),
    ]

    DEFAULT_CSS = """
    ModelPicker {
        align: center middle;

        & > Vertical {
            width: 92%;
            max-width: 88;
            height: auto;
            max-height: 92%;
            padding: 0 1;
            background: $surface;
            color: $foreground;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
        }
        & ChoiceList { height: 50vh; }
        & PathInput { margin-top: 1; background: $panel; padding: 0 1; }
        & VerdictLine { padding: 0 1; }
        & Horizontal { height: 1; margin-top: 1; }
        & Button { margin-right: 2; min-width: 10; }
        & #picker-cancel { background: $panel; }
    }
    """

    choices = getters.query_one(ChoiceList)

    def __init__(self, spec: ModelSpec, recent: Sequence[ModelSpec] = ()) -> None:
        """A picker.

        Args:
            spec: What is open now: its device, precision and threads are kept for the new model.
            recent: Models that were opened by path before.
        """
        super().__init__()
        self._spec = spec
        by_path: dict[str, ModelSpec] = {}
        for model in (spec, *recent):
            if named(model.model) is None:
                by_path.setdefault(whole(model).model, model)
        self._recent = {model.model: model for model in by_path.values()}
        own, stored = list(named_rows()), [row for row in stored_rows() if row.id not in self._recent]
        self._names = {row.id for row in (*own, *stored, *recommended_rows())}
        self._rows = [*own, *(_recent_row(model) for model in self._recent), *stored, *recommended_rows()]
        self._rows = list({row.id: row for row in self._rows}.values())
        self._rows.append(Choice(_BROWSE, "Another…", "a GGUF or PyTorch file, or a Hugging Face directory"))

    def compose(self) -> ComposeResult:
        """The list, what is wrong, and the buttons."""
        entry = named(self._spec.model)
        with Vertical() as frame:
            frame.border_title = "Open a model"
            frame.border_subtitle = clickable("Enter opens · Esc closes")
            yield ChoiceList(self._rows, entry.name if entry is not None else self._spec.model, click_accepts=True)
            yield PathInput(placeholder="or type a name: OWNER/NAME of the hub, an https address, a path")
            yield VerdictLine()
            with Horizontal():
                yield Button("Open", id="picker-open", variant="primary", compact=True)
                yield Button("Cancel", id="picker-cancel", compact=True)

    @on(Button.Pressed, "#picker-open")
    def open_chosen(self) -> None:
        """Do as Enter on the list."""
        self.choices.action_accept()

    @on(Button.Pressed, "#picker-cancel")
    def cancel(self) -> None:
        """Keep the model."""
        self.dismiss(None)

    @on(ChoiceList.Accepted)
    def take(self, event: ChoiceList.Accepted) -> None:
        """Open a named model; look at a file first; browse for another."""
        if event.choice.id == _BROWSE:
            is_path = catalog.find_model(self._spec.model) is None
            self.app.push_screen(FileBrowser(Path(self._spec.model) if is_path else None), self._take_path)
        elif event.choice.id in self._names:
            self._finish(event.choice.id)
        elif event.choice.id == self._spec.model:
            self.dismiss(self._spec)
        elif is_pattern(event.choice.id):
            self._finish(event.choice.id)
        else:
            self._take_text(event.choice.id)

    @on(Input.Submitted)
    def take_typed(self, event: Input.Submitted) -> None:
        """Open what was typed."""
        self._take_text(event.value.strip())

    def _take_path(self, path: Path | None) -> None:
        if path is not None:
            self._take_text(str(path))

    def _take_text(self, text: str) -> None:
        """Open what a path or a name means, after asking for its tokenizer if none is found."""
        known = self._recent.get(text, ModelSpec())
        try:
            model = check_model(text)
        except UsageError as error:
            self.query_one(VerdictLine).refuse(error.message)
            return
        if model.has_tokenizer or model.tokenizer is not None or known.tokenizer is not None:
            self._finish(text, known.tokenizer, known.heads)
            return

        def with_tokenizer(tokenizer: Path | None) -> None:
            if tokenizer is not None:
                self._finish(text, str(tokenizer))

        path = Path(text)
        self.app.push_screen(FileBrowser(path, is_tokenizer, f"Choose the tokenizer of {path.name}"), with_tokenizer)

    def _finish(self, model: str, tokenizer: str | None = None, heads: int | None = None) -> None:
        self.dismiss(replace(self._spec, model=model, tokenizer=tokenizer, heads=heads, lora=""))


def _recent_row(path: str) -> Choice:
    if is_pattern(path):
        return Choice(path, visible(Path(path).name), visible(f"the newest checkpoint of a run; {path}"))
    try:
        model = check_model(path)
        memory = f", {memory_words(model.size)} of memory" if model.size else ""
        words = f"{model.words}{memory}; {path}"
    except UsageError as error:
        words = f"{error.message} {path}"
    return Choice(path, visible(Path(path).name), visible(words))
