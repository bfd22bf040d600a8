"""The top line: which model runs how, and which file keeps the conversation."""

from __future__ import annotations

from collections.abc import Sequence

from textual.reactive import reactive

from llmchat.chat.model import ModelInfo
from llmchat.ui.widgets.one_line import OneLine, Piece, shortened


class HeaderBar(OneLine):
    """App name, model, checkpoint, how it is held; at the right the transcript's file name."""

    DEFAULT_CSS = """
    HeaderBar { background: $surface; }
    """

    model: reactive[str] = reactive("")
    """The model's short name."""
    details: reactive[str] = reactive("")
    """How it runs: format, device, threads."""
    reason: reactive[str] = reactive("")
    """Why it runs on the CPU as it does; "" where nothing spoke for another way."""
    checkpoint: reactive[str] = reactive("")
    """Which checkpoint of a run it is, and how far it was trained; "" if it belongs to none."""
    file_name: reactive[str] = reactive("")
    """The transcript's file name; "" while there is none."""

    def show_model(self, info: ModelInfo | None) -> None:
        """Show an opened model, or that there is none."""
        if info is None:
            self.model = self.details = self.reason = ""
            return
        self.model, self.reason = info.name, info.path_reason if info.device == "cpu" else ""
        threads = info.thread_words if info.device == "cpu" else ""
        self.details = " · ".join(part for part in (info.weight_format, info.path_words, threads) if part)

    def left(self) -> Sequence[Piece]:
        """The app's name, the model, and how it runs."""
        pieces = [Piece("llmchat", "bar--strong", 30)]
        if self.model:
            pieces.append(Piece(shortened(self.model, max(self.content_size.width // 2, 12)), "bar--text", 100))
        if self.checkpoint:
            pieces.append(Piece(self.checkpoint, "bar--text", 60))
        if self.details:
            pieces.append(Piece(self.details, "bar--muted", 20))
        if self.reason:
            pieces.append(Piece(self.reason, "bar--muted", 10))
        return pieces

    def right(self) -> Sequence[Piece]:
        """The transcript's file name."""
        name = shortened(self.file_name, max(self.content_size.width // 3, 12))
        return [Piece(name, "bar--muted", 40)] if name else []
