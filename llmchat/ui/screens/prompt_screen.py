"""What the model is given: the prompt as text, its control tokens marked, or token by token with ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.style import Style
from textual.widget import Widget

from llmchat.chat.plain_text import visible
from llmchat.chat.turn import token_count
from llmchat.ui.rendering.hints import clickable
from llmchat.worker.messages import PromptTokens

Styled = tuple[str, Style]


class PromptText(Widget):
    """A prompt, every character of it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"prompt--text", "prompt--control", "prompt--id"}

    DEFAULT_CSS = """
    PromptText {
        height: auto;
        width: 1fr;

        & > .prompt--text { color: $foreground; }
        & > .prompt--control { color: $text-accent; text-style: bold; }
        & > .prompt--id { color: $text-muted; }
    }
    """

    with_ids: reactive[bool] = reactive(False, layout=True)
    """Whether each token stands with its id, instead of the text they make together."""

    def __init__(self, prompt: PromptTokens) -> None:
        """The widget of one prompt."""
        super().__init__()
        self._prompt = prompt

    def render(self) -> Content:
        """The text, or the tokens with a gap after each."""
        return Content.assemble(*(self._tokens() if self.with_ids else self._parts()))

    def _parts(self) -> Iterator[Styled]:
        for text, is_control in self._prompt.parts:
            yield visible(text), self._look(is_control)

    def _tokens(self) -> Iterator[Styled]:
        muted = self.get_visual_style("prompt--id")
        for token_id, text, is_control in self._prompt.tokens:
            # A token's own blanks must not be taken for the gap.
            yield visible(text).replace(" ", "·"), self._look(is_control)
            yield f"[{token_id}]  ", muted

    def _look(self, is_control: bool) -> Style:
        return self.get_visual_style("prompt--control" if is_control else "prompt--text")


class PromptScreen(ModalScreen[None]):
    """A prompt over the chat. Esc and q close it, i shows the ids."""

    AUTO_FOCUS = "VerticalScroll"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Close", id="prompt_view.close"),
        Binding("i", "ids", "Each token with its id", id="prompt_view.ids"),
        Binding("y", "copy", "Copy the prompt", id="prompt_view.copy"),
    ]

    DEFAULT_CSS = """
    PromptScreen {
        align: center middle;

        & > VerticalScroll {
            width: 92%;
            max-width: 110;
            height: 92%;
            padding: 1 2;
            background: $surface;
            color: $foreground;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
            scrollbar-size-vertical: 1;
        }
    }
    """

    def __init__(self, prompt: PromptTokens) -> None:
        """A screen for one prompt."""
        super().__init__()
        self._prompt = prompt

    def compose(self) -> ComposeResult:
        """A frame that scrolls, with what is known of the prompt above it."""
        with VerticalScroll() as frame:
            frame.border_title = " · ".join(self._facts())
            frame.border_subtitle = clickable("i ids · y copy · Esc closes")
            yield PromptText(self._prompt)

    def action_ids(self) -> None:
        """Show the tokens with their ids, or the text again."""
        text = self.query_one(PromptText)
        text.with_ids = not text.with_ids

    def action_copy(self) -> None:
        """Copy the prompt, control tokens by their names."""
        from llmchat.ui import clipboard

        async def copy() -> None:
            result = await clipboard.copy_text(self.app, "".join(part.text for part in self._prompt.parts))
            self.notify(result.message, severity="information" if result.succeeded else "warning", markup=False)

        self.run_worker(copy())

    def _facts(self) -> Iterator[str]:
        prompt = self._prompt
        yield f"Prompt · {token_count(len(prompt.tokens))}"
        yield "as it stands" if prompt.raw else "through the chat template"
        if prompt.said_names:
            yield f"as text: {', '.join(map(visible, prompt.said_names))}"
        if dropped := len(prompt.dropped_turns):
            yield f"{dropped} turn{'s' * (dropped > 1)} left out"
        elif prompt.dropped_tokens:
            yield f"the model does not see the first {prompt.dropped_tokens}"
