"""The screens that the chat opens over itself, and what it does with their answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelSpec
from llmchat.errors import FetchQuestionError, LlmchatError, MemoryShortError
from llmchat.settings import Settings, load_settings
from llmchat.ui.command_runner import open_conversation
from llmchat.ui.recent_models import recent_models

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen


def open_transcript(screen: ChatScreen) -> None:
    """Choose a saved conversation and go on with it."""
    from llmchat.ui.screens.open_transcript import OpenTranscriptScreen

    def take(path: Path | None) -> None:
        if path is not None:
            go_on_with(screen, path)

    screen.app.push_screen(OpenTranscriptScreen(), take)


def go_on_with(screen: ChatScreen, path: Path) -> None:
    """Go on with a saved conversation, if it opens."""
    screen.clear_notes()
    screen.attempt(lambda: open_conversation(screen, path))


def choose_model(screen: ChatScreen) -> None:
    """Choose another model; the conversation stays."""
    from llmchat.ui.screens.model_picker import ModelPicker

    def take(spec: ModelSpec | None) -> None:
        if spec is not None:
            screen.open_model(spec)

    screen.app.push_screen(ModelPicker(screen.spec, recent_models()), take)


def ask_to_fetch(
    screen: ChatScreen, question: FetchQuestionError, spec: ModelSpec, refuse: Callable[[], object]
) -> None:
    """Ask before a model is fetched that is large; what was said meanwhile follows it.

    Args:
        screen: The chat.
        question: How much it is, and what it needs.
        spec: The model.
        refuse: Says that there is none; for no.
    """
    from llmchat.ui.screens.question import QuestionScreen

    unsaid = screen.session.returned

    def take(is_wanted: bool | None) -> None:
        if not is_wanted:
            refuse()
            return
        screen.open_model(spec, asks=False)
        if unsaid:
            screen.send(unsaid)

    screen.refresh_bars()
    screen.app.push_screen(QuestionScreen(f"Fetch {question.name}?", question.message, "Fetch it", "Not now"), take)


def ask_for_memory(screen: ChatScreen, shortage: MemoryShortError, spec: ModelSpec) -> None:
    """Ask whether a model that seems not to fit into memory is to be opened all the same."""
    from llmchat.ui.screens.question import QuestionScreen

    def take(answer: bool | None) -> None:
        if answer:
            screen.open_model(spec, asks=False, ignores_memory=True)

    words = f"{shortage.figures} Other programs may become slow, or the system may end llmchat."
    question = QuestionScreen("Too little memory", words, "Open it all the same", "Leave it", is_risky=True)
    screen.app.push_screen(question, take)


def change_settings(screen: ChatScreen) -> None:
    """Change the settings file; what can act at once does."""
    from llmchat.ui.screens.settings_screen import SettingsScreen

    path = screen.options.settings_path
    try:
        before = load_settings(path)
    except LlmchatError as error:
        screen.show_error(error)
        return

    def take(settings: Settings | None) -> None:
        if settings is not None:
            _adopt(screen, before, settings)

    screen.app.push_screen(SettingsScreen(before, path), take)


def _adopt(screen: ChatScreen, before: Settings, after: Settings) -> None:
    """Let changed settings act; a flag of this start holds until its setting is changed here."""
    session = screen.session
    if after.theme != before.theme and after.theme in screen.app.available_themes:
        screen.app.theme = after.theme
    if after.system != before.system:
        session.system = after.system
    if after.raw != before.raw:
        session.raw = after.raw
    if after.sidebar != before.sidebar:
        screen.show_sidebar(after.sidebar)
    if after.model_spec() != before.model_spec():
        screen.open_model(after.model_spec())
    screen.options = replace(screen.options, settings=after)
    screen.notify("Kept in the settings file.", timeout=3)
