"""The app that the small apps of the widgets' tests are made from."""

from __future__ import annotations

from textual.app import App

from llmchat.themes import default_variables


class ThemedApp(App[None]):
    """An app whose style sheets may use llmchat's own variables; nothing has the focus at first."""

    AUTO_FOCUS = ""

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """What the real app gives, too."""
        return default_variables()
