"""The set-up's last question but one: does it work? A sample prompt to the chosen model."""

from __future__ import annotations

from collections.abc import Callable

from textual import getters, on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Button, Input, Static

from llmchat.chat.amounts import size_words
from llmchat.chat.model import ModelSpec
from llmchat.chat.plain_text import visible
from llmchat.chat.turn import token_count
from llmchat.checkpoints import catalog
from llmchat.errors import FetchQuestionError, LlmchatError
from llmchat.session import ChatSession
from llmchat.settings import Settings, resolve_generation
from llmchat.ui.screens.setup_steps import SetupStep
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    ModelLoaded,
    ModelLoadFailed,
    ModelLoading,
    PromptProcessing,
    TokensGenerated,
)

MakeWorker = Callable[[Callable[[Event], object]], InferenceWorker]

SAMPLE_TOKENS = 160
"""The sample reply is at most this long."""

SAMPLE_PROMPT = "Tell me about the sea."


class TrialStep(SetupStep):
    """Sends a sample prompt to the chosen model; opens it when that is first asked for."""

    TITLE = "Try it"
    QUESTION = "Try it before you save, or go on."

    prompt = getters.query_one(Input)
    button = getters.query_one(Button)
    status = getters.query_one("#trial-status", Static)
    reply = getters.query_one("#trial-reply", Static)

    class Reported(Message):
        """Something came from the inference worker."""

        def __init__(self, event: Event) -> None:
            super().__init__()
            self.event = event

    def __init__(self, make_worker: MakeWorker = InferenceWorker, *, id: str | None = None) -> None:  # noqa: A002
        """A step that makes its own worker when it is needed."""
        super().__init__(id=id)
        self._make_worker = make_worker
        self._worker: InferenceWorker | None = None
        self._session: ChatSession | None = None
        self._draft = Settings()
        self._opened: ModelSpec | None = None
        self._agreed: ModelSpec | None = None
        """A model that may be fetched, however large."""

    def compose(self) -> ComposeResult:
        """The prompt, how it stands, and the reply."""
        with Horizontal(classes="setup-line"):
            yield Input(SAMPLE_PROMPT, placeholder="a sample prompt", compact=True)
            yield Button("Try", compact=True)
        yield Static(id="trial-status", markup=False)
        with VerticalScroll(id="trial-pane"):
            yield Static(id="trial-reply", markup=False)

    @property
    def is_running(self) -> bool:
        """Whether a model is being opened or a reply being made."""
        return self._session is not None and self._session.state in ("loading", "generating")

    def show(self, draft: Settings) -> None:
        """Remember what to try."""
        self._draft = draft
        if draft.model_spec() != self._opened:
            self.reply.update("")
            self._tell(_waiting_words(draft))

    def leave(self) -> None:
        """Do not go on in the background."""
        self.stop()

    def stop(self) -> None:
        """Stop the reply, or the model being opened."""
        session = self._session
        if session is None:
            return
        session.stop()
        if session.load is not None:
            session.load.cancel.set()
            session.load = None
            self._opened = None
            self._tell("Stopped.")
        self._label()

    @on(Input.Submitted)
    @on(Button.Pressed)
    def try_it(self, event: Message) -> None:
        """Send the prompt, or stop the one that runs."""
        event.stop()
        event.prevent_default()
        if self.is_running:
            self.stop()
            return
        try:
            self._send(self.prompt.value)
        except LlmchatError as error:
            self._tell(error.message, bad=True)
        self._label()

    def _send(self, text: str) -> None:
        session = self._session = self._session or self._begin_session()
        session.new(let_go=True)
        config = resolve_generation(self._draft).config
        limit = min(config.max_new_tokens, SAMPLE_TOKENS)
        session.config = config.changed(max_new_tokens=limit, min_new_tokens=min(config.min_new_tokens, limit))
        session.raw, session.system = self._draft.raw, self._draft.system
        self.reply.update("")
        if session.model is None or self._opened != self._draft.model_spec():
            self._opened = self._draft.model_spec()
            session.model = None
            session.load_model(self._opened, asks=self._opened != self._agreed)
            self._tell("Opening the model…")
        session.send(text)

    def _begin_session(self) -> ChatSession:
        worker = self._worker = self._make_worker(lambda event: self.post_message(self.Reported(event)))
        worker.start()
        return ChatSession(worker.submit, lambda error: self._tell(error.message, bad=True), autosave=False)

    @on(Reported)
    def take(self, message: Reported) -> None:
        """Show what the worker reports."""
        message.stop()
        session, event = self._session, message.event
        if session is None:
            return
        running, load = session.running, session.load
        current = running.request if running is not None else load
        session.handle(event)
        if current is None or event.request_id != current.request_id:
            return
        match event:
            case ModelLoading():
                self._tell(event.stage if event.fraction is None else f"{event.stage} {event.fraction:.0%}")
            case ModelLoaded():
                self._tell(f"{event.info.name} on {event.info.device}: reading the prompt…")
            case ModelLoadFailed(error=FetchQuestionError() as question):
                session.stop()
                self._agreed, self._opened = self._opened, None
                self._tell(f"{question.message} Enter fetches it.")
            case ModelLoadFailed() | GenerationFailed():
                session.stop()
                self._opened = None if isinstance(event, ModelLoadFailed) else self._opened
                self._tell(event.error.message, bad=True)
            case PromptProcessing():
                self._tell(f"Reading the prompt: {event.done_tokens} of {event.total_tokens} tokens")
            case TokensGenerated() if running is not None:
                self.reply.update(visible("".join(running.pieces)) or ("thinking …" if running.thoughts else ""))
                self._tell(f"{event.tokens_per_second:.0f} tokens a second")
                self.query_one("#trial-pane", VerticalScroll).scroll_end(animate=False)
            case GenerationFinished():
                self._tell_end(event, session)
        self._label()

    def _tell_end(self, event: GenerationFinished, session: ChatSession) -> None:
        name = "The model" if session.model is None else session.model.name
        device = "" if session.model is None else f" on {session.model.device}"
        speed = f", {event.reply.timings.tokens_per_second:.0f} tokens a second"
        self.reply.update(visible(event.reply.text) or "(the reply is empty)")
        self._tell(f"✓ {name} works{device}: {token_count(len(event.reply.token_ids))}{speed}.")

    def _tell(self, text: str, *, bad: bool = False) -> None:
        self.status.set_class(bad, "-bad")
        self.status.update(visible(f"✗ {text}" if bad else text))

    def _label(self) -> None:
        self.button.label = "Stop" if self.is_running else "Try"

    def on_unmount(self) -> None:
        """Let the worker go; a model that is being read does not hold the window up."""
        if self._session is not None:
            self._session.stop()
        if self._worker is not None:
            self._worker.close(timeout_seconds=0)


def _waiting_words(draft: Settings) -> str:
    entry = catalog.find_model(draft.model)
    if entry is not None and not entry.is_on_disk:
        return f"Enter fetches {entry.title} ({size_words(entry.size)}), opens it and sends the prompt."
    return "Enter opens the model and sends the prompt."
