"""A line that says whether what was typed is right."""

from __future__ import annotations

from textual.widgets import Static

from llmchat.chat.plain_text import visible


class VerdictLine(Static):
    """A tick or a cross with a sentence; takes no room while there is nothing to say."""

    ALLOW_SELECT = False

    DEFAULT_CSS = """
    VerdictLine {
        display: none;
        height: auto;
        max-height: 4;
        width: 1fr;
        &.-good { display: block; color: $text-success; }
        &.-bad { display: block; color: $text-error; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        """A line that says nothing."""
        super().__init__(id=id, markup=False)
        self.text = ""
        """The sentence, without its mark."""

    def accept(self, text: str) -> None:
        """Say what is right."""
        self._say(text, good=True)

    def refuse(self, text: str) -> None:
        """Say what is wrong."""
        self._say(text, good=False)

    def clear(self) -> None:
        """Say nothing."""
        self._say("", good=True)

    def _say(self, text: str, *, good: bool) -> None:
        self.text = text
        self.set_class(bool(text) and good, "-good")
        self.set_class(bool(text) and not good, "-bad")
        self.update(f"{'✓' if good else '✗'} {visible(text)}" if text else "")
