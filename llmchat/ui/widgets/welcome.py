"""What an empty conversation shows: who answers, what to ask, and what the window can do."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual import events, on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from llmchat.chat.archive import TranscriptSummary, recent_transcripts
from llmchat.chat.model import ModelInfo
from llmchat.chat.plain_text import visible
from llmchat.ui.widgets.choice_list import Choice, ChoiceList

QUESTIONS = (
    "Tell me a short story about a lighthouse keeper.",
    "What is the difference between a lake and a sea?",
    "Write four lines about rain in November.",
)
"""For models that were taught to answer."""
BEGINNINGS = ("Once upon a time there was", "The sea was calm that morning, and", "She opened the old box and found")
"""For models that go on with a text."""

WHAT_IT_IS = "Drag Temperature while a reply is written: it acts on the very next token."
KEYS = "Alt+↑ goes to this list · ^P finds everything there is to do · F3 opens other models · F1 helps"
_CONVERSATION, _QUESTION = "conversation", "question"
MOST_RECENT = 3
"""Conversations that are offered."""


class Welcome(VerticalScroll, can_focus=False):
    """The first screen. Its rows are sent, or opened, by Enter or a click."""

    DEFAULT_CSS = """
    Welcome {
        display: none;
        height: auto;
        max-height: 100%;
        padding: 1 2 0 2;
        scrollbar-size: 1 1;

        &.-shown { display: block; }
        & > Static { height: auto; }
        & > .-head { text-style: bold; color: $primary; margin-bottom: 1; }
        & > .-quiet { color: $foreground 70%; margin-top: 1; }
        & > ChoiceList { max-height: 10; }
    }
    """

    class Asked(Message):
        """Something that is offered is to be sent."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Wanted(Message):
        """A conversation of late is to be gone on with."""

        def __init__(self, path: Path) -> None:
            super().__init__()
            self.path = path

    def __init__(self) -> None:
        super().__init__(id="welcome")
        self._asked: tuple[ModelInfo | None, tuple[TranscriptSummary, ...]] | None = None
        self._recent: tuple[TranscriptSummary, ...] = ()
        self._info: ModelInfo | None = None

    def compose(self) -> ComposeResult:
        """Who answers, what to ask, what the window can do."""
        yield Static(classes="-head", markup=False)
        yield ChoiceList(click_accepts=True)
        yield Static(WHAT_IT_IS, classes="-quiet", markup=False)
        yield Static(KEYS, classes="-quiet", markup=False)

    def show(self, info: ModelInfo | None, *, is_shown: bool) -> None:
        """Stand there or go.

        Args:
            info: The open model; None while there is none.
            is_shown: Whether the conversation is empty.
        """
        self.set_class(is_shown, "-shown")
        self._info = info
        self._fill()

    async def on_mount(self) -> None:
        """Look for the conversations of late, off the window's loop."""
        self.run_worker(self._look_for_recent())

    async def _look_for_recent(self) -> None:
        self._recent = tuple(await asyncio.to_thread(recent_transcripts, MOST_RECENT))
        self._fill()

    @property
    def choices(self) -> ChoiceList:
        """What can be sent or opened."""
        return self.query_one(ChoiceList)

    @on(ChoiceList.Accepted)
    def take_up(self, event: ChoiceList.Accepted) -> None:
        """Say which row it is."""
        event.stop()
        kind, _, rest = event.choice.id.partition(":")
        self.post_message(self.Wanted(Path(rest)) if kind == _CONVERSATION else self.Asked(event.choice.title))

    def _fill(self) -> None:
        wanted = (self._info, self._recent)
        if wanted == self._asked or not self.is_mounted:
            return
        self._asked = wanted
        self.query_one(".-head", Static).update(Content(_who(self._info)))
        says = BEGINNINGS if self._info is not None and not self._info.has_chat_template else QUESTIONS
        rows = [Choice(f"{_QUESTION}:{text}", text) for text in says]
        rows += [
            Choice(f"{_CONVERSATION}:{one.path}", f"Go on with “{visible(' '.join(one.title.split()))}”")
            for one in self._recent
        ]
        self.choices.show_choices(rows)

    async def on_key(self, event: events.Key) -> None:
        """Whoever types on the list means the prompt."""
        if event.is_printable and event.character and event.character != " ":
            event.stop()
            await self.run_action(f"screen.write_on({event.character!r})")


def _who(info: ModelInfo | None) -> str:
    if info is None:
        return "The model is being opened. What you write meanwhile is answered then."
    size = info.parameter_count
    millions = f"{size / 1e6:.0f}" if size >= 1e7 else f"{size / 1e6:.1f}"
    parameters = f"{size / 1e9:.1f} billion" if size >= 1e9 else f"{millions} million"
    kind = "answers" if info.has_chat_template else "goes on with what you begin"
    threads = f" · {info.thread_words}" if info.device == "cpu" else ""
    return (
        f"{visible(info.name)} {kind}. It has {parameters} parameters and runs here: "
        f"{info.weight_format} · {info.path_words}{threads}."
    )
