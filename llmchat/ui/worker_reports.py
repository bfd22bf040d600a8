"""What the worker reports, brought to the chat's widgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmchat.chat.model import is_pattern
from llmchat.chat.template_args import unknown_arguments
from llmchat.errors import FetchQuestionError, MemoryShortError, PromptTooLongError
from llmchat.session.restoring import other_model
from llmchat.ui.blocks import running_block
from llmchat.ui.dialogs import ask_for_memory, ask_to_fetch
from llmchat.ui.recent_models import remember
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    ModelChanged,
    ModelLoaded,
    ModelLoadFailed,
    ModelLoading,
    ModelPrepared,
    PromptProcessed,
    PromptProcessing,
    TokensGenerated,
)

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

_IS_BACK = " It was not said: it is back in the prompt, whole."


class WorkerReports:
    """Hands each event to the session, then shows what it changed."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._loop_told = ""  # the reply of which it has been shown that it repeats itself
        self._thinking = ""  # the reply of which a thought was shown last
        self._notes_told: set[str] = set()

    def take(self, event: Event) -> None:
        """Take in one event; those of requests that were given up change nothing."""
        ours, load = event.request_id in self._awaited(), self._screen.session.load
        self._screen.session.handle(event)
        self._screen.laboratory.take(event)
        self._screen.prompt_display.take(event)
        match event:
            case ModelLoading() if ours:
                self._show_loading(event)
            case ModelPrepared() if ours:
                self._show_prepared(event)
            case ModelLoaded() if ours:
                self._screen.checkpoints.opened(self._screen.session.spec)
                self._remember_model()
                self._show_model()
            case ModelChanged():
                self._show_model()
            case ModelLoadFailed(error=FetchQuestionError() as question) if ours and load is not None:
                ask_to_fetch(self._screen, question, load.spec, lambda: self._show_load_failure(event))
            case ModelLoadFailed(error=MemoryShortError() as shortage) if ours and load is not None:
                self._show_load_failure(event)
                ask_for_memory(self._screen, shortage, load.spec)
            case ModelLoadFailed() if ours:
                self._show_load_failure(event)
            case PromptProcessing() if ours:
                self._show_prefill(event)
            case PromptProcessed() if ours:
                self._show_prompt(event)
            case TokensGenerated() if ours:
                self._show_tokens(event)
            case GenerationFinished() | GenerationFailed() if ours:
                self._show_end(event)

    def _awaited(self) -> set[int]:
        """The ids of the requests whose events are still of interest."""
        running, load = self._screen.session.running, self._screen.session.load
        ids = {load.request_id} if load is not None else set()
        return ids | {running.request.request_id} if running is not None else ids

    def _show_loading(self, event: ModelLoading) -> None:
        if self._screen.session.running is not None:
            return
        fetching = event.stage.startswith("fetching")
        self._screen.status.show_state("fetching" if fetching else "loading", event.stage, event.fraction)

    def _show_prepared(self, event: ModelPrepared) -> None:
        if self._screen.session.state == "generating":
            self._screen.notify(f"{event.name} opens when this reply is done; Esc stops it.", markup=False)

    def _remember_model(self) -> None:
        """Offer the model again another time; of a run, the pattern, and not each checkpoint."""
        spec = self._screen.session.spec
        if self._screen.checkpoints.timeline is None or is_pattern(spec.model):
            remember(spec)

    def _show_model(self) -> None:
        info = self._screen.session.model
        self._screen.refresh_bars()
        self._screen.refresh_turns()
        if words := other_model(self._screen.session):
            self._screen.note(words)
        # The checkpoints of a run have much the same to say.
        notes = [note for note in info.notes if note not in self._notes_told] if info is not None else []
        self._notes_told.update(notes)
        if info is not None:
            # A template that another model brought need not know what this one was told.
            notes.append(unknown_arguments(self._screen.session.config.template_args, info.template_variables))
        for note in filter(None, notes):
            self._screen.notify(note, title="The model", severity="warning", timeout=10, markup=False)

    def _show_load_failure(self, event: ModelLoadFailed) -> None:
        self._screen.give_back(self._screen.session.returned)
        if event.info is None:
            self._screen.notes.fail(event.error.message)
        else:
            self._screen.note(event.words, is_error=True)
        self._screen.refresh_bars()
        self._screen.refresh_turns()
        self._screen.view.follow()

    def _show_prefill(self, event: PromptProcessing) -> None:
        if event.total_tokens > event.done_tokens:
            self._screen.status.show_state("generating", "reading the prompt", event.done_tokens / event.total_tokens)

    def _show_prompt(self, event: PromptProcessed) -> None:
        self._screen.refresh_bars()
        self._screen.status.context_used = min(event.prompt_tokens, event.context_length)
        if event.dropped_turns:
            self._screen.refresh_turns()

    def _show_tokens(self, event: TokensGenerated) -> None:
        running = self._screen.session.running
        assert running is not None
        # A thought that grows, and the answer's beginning, which folds it, change more than the text's end.
        changes_thought = bool(event.thought.written) or (self._thinking == running.turn_id and bool(event.text))
        self._thinking = running.turn_id if event.thought.written else "" if event.text else self._thinking
        if changes_thought or event.changes or (running.repetition is not None and self._loop_told != running.turn_id):
            self._loop_told = running.turn_id if running.repetition is not None else self._loop_told
            (block,) = self._screen.dressed([running_block(running, self._screen.session)])
            self._screen.view.update_block(running.turn_id, block)
        else:
            self._screen.view.stream(running.turn_id, event.text, **self._screen.laboratory.streamed(running))
        self._screen.status.context_used = event.context_tokens
        self._screen.status.tokens_per_second = event.tokens_per_second

    def _give_back(self) -> None:
        """Put what was not said into the prompt; an edit is one still, and what was written meanwhile is set aside."""
        session, screen = self._screen.session, self._screen
        if session.returned_edit is not None:
            screen.prompt.set_aside()
            screen.editing = session.returned_edit
        screen.give_back(session.returned)

    def _show_end(self, event: GenerationFinished | GenerationFailed) -> None:
        self._screen.refresh_turns()
        self._screen.refresh_bars()
        if isinstance(event, GenerationFailed):
            self._give_back()
            is_back = isinstance(event.error, PromptTooLongError) and self._screen.session.returned
            self._screen.note(f"{event.error.message}{_IS_BACK if is_back else ''}", is_error=True)
