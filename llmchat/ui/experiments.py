"""The commands that try settings side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmchat.chat.comparison import parse_comparison, parse_sweep, split_prompt
from llmchat.session.laboratory import Experiment
from llmchat.ui.commands import split_words

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen


def compare(screen: ChatScreen, text: str) -> None:
    """Show two to four settings side by side.

    Args:
        screen: The chat.
        text: The settings as typed, and perhaps a new message after " -- ".

    Raises:
        UsageError: They are not understood, or nothing can be generated now.
    """
    from llmchat.ui.screens.compare import CompareScreen

    settings, prompt = split_prompt(text)
    variants = parse_comparison(split_words(settings), screen.session.config)
    screen.app.push_screen(CompareScreen(screen, Experiment(screen.session, variants, prompt)))


def sweep(screen: ChatScreen, text: str) -> None:
    """Show a table of replies over the values of one parameter.

    Args:
        screen: The chat.
        text: The parameter and its values as typed, and perhaps a new message after " -- ".

    Raises:
        UsageError: They are not understood, or nothing can be generated now.
    """
    from llmchat.ui.screens.sweep import SweepScreen

    settings, prompt = split_prompt(text)
    name, variants = parse_sweep(settings, screen.session.config)
    screen.app.push_screen(SweepScreen(screen, Experiment(screen.session, variants, prompt), name))
