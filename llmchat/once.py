"""The headless front end: one prompt in, the reply on standard output, everything else on standard error.

It drives the same worker and the same `ChatSession` as the window. Standard error
stays empty when it is no terminal, unless statistics were asked for, something was left
out, a large model is fetched or something went wrong. The first Ctrl-C ends the reply and keeps it, the second
ends the program.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING

from llmchat.chat.archive import read_transcript
from llmchat.chat.generation_config import SEED_LIMIT
from llmchat.chat.template_args import unknown_arguments
from llmchat.chat.turn import Reply
from llmchat.errors import FetchQuestionError, LlmchatError
from llmchat.files import describe
from llmchat.once_output import Narrator, Output, make_printer, print_prompt
from llmchat.options import StartOptions
from llmchat.session import ChatSession
from llmchat.session.asking import prompt_request
from llmchat.session.restoring import other_model
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    LaneGenerated,
    ModelChanged,
    ModelLoaded,
    ModelLoadFailed,
    ModelLoading,
    PromptProcessed,
    PromptProcessing,
    PromptTokens,
    RequestFailed,
    TokensGenerated,
)

if TYPE_CHECKING:
    from llmchat.once_many import ManyOptions, ManyRun
    from llmchat.once_trials import TrialOptions
    from llmchat.session.laboratory import Experiment

EXIT_CLOSED_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended."""

_DRAIN_SECONDS = 5.0
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

MakeWorker = Callable[[Callable[[Event], object]], InferenceWorker]


@dataclass(frozen=True, slots=True)
class OnceOptions:
    """One headless run."""

    start: StartOptions
    """With a prompt."""
    output: Output = "text"
    show_thinking: bool = False
    """Whether the thought before an answer is printed as well."""
    stats: bool = False
    quiet: bool = False
    num_samples: int = 1
    """How many replies; each has a seed 1 above the one before."""
    keep: bool = True
    """Whether a conversation that is gone on with is kept."""
    trials: TrialOptions | None = None
    """Settings to be tried side by side, in place of one reply."""
    many: ManyOptions | None = None
    """Many prompts, in place of one."""
    dry_run: bool = False
    """Whether the prompt is printed as the model is given it, in place of a reply."""


def run(options: OnceOptions, make_worker: MakeWorker = InferenceWorker) -> int:
    """Make the replies and print them.

    Returns:
        The exit code: 0, 1 if one of many prompts could not be answered, 141 if nobody reads the output any more, or
        128 and the number of the signal that ended it.

    Raises:
        LlmchatError: The model could not be opened, or a reply could not be made, printed or kept.
    """
    once = _Run(options, make_worker)
    with _signals_to(once.interrupt):
        try:
            once.drive()
            exit_code = once.exit_code
        except KeyboardInterrupt:
            exit_code = 0
        except BrokenPipeError:
            exit_code = EXIT_CLOSED_PIPE
            once.give_up()
        except OSError as error:
            once.give_up()
            raise LlmchatError(f"The reply cannot be written: {describe(error)}.") from error
        finally:
            once.close()
    if once.faults:
        raise once.faults[0]
    return 128 + once.signal_number if once.signal_number else exit_code


class _Run:
    """The state of one headless run: the worker, and the conversation it serves."""

    def __init__(self, options: OnceOptions, make_worker: MakeWorker) -> None:
        start = options.start
        self.signal_number = 0
        """The signal that ended it; 0 if none did."""
        self.faults: list[LlmchatError] = []
        """What could not be kept on the way."""
        self._options = options
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._worker = make_worker(self._events.put)
        self._session = ChatSession(
            self._worker.submit,
            self.faults.append,
            config=start.config,
            raw=start.settings.raw,
            system=start.settings.system,
            prefill_text=start.prefill_text,
            autosave=False,
            kv_cache=start.settings.kv_cache,
        )
        self._printer = make_printer(options.output, show_thinking=options.show_thinking)
        self._narrator = Narrator(quiet=options.quiet)
        self._held_notes: list[str] = []  # of a running reply, for when it has been printed
        self._side_by_side: Experiment | ManyRun | None = None
        self.exit_code = 0

    def drive(self) -> None:
        """Open transcript and model, make every reply, print as they come."""
        start, session = self._options.start, self._session
        self._open_transcript()
        self._worker.start()
        self._open_model()
        if self._options.dry_run:
            self._print_prompt()
            return
        if self._options.many is not None:
            self._answer_all(self._options.many)
            return
        if self._options.trials is not None:
            self._try_all(self._options.trials)
            return
        session.send(start.prompt or "")
        self._settle()
        for number in range(1, self._options.num_samples):
            if self.signal_number:
                return
            assert session.last_seed is not None
            session.config = session.config.changed(seed=(session.last_seed + 1) % SEED_LIMIT)
            self._printer.begin(number)
            session.regenerate()
            self._settle()

    def _open_model(self) -> None:
        """Open the model; that much is to be fetched is told before."""
        spec = self._options.start.settings.model_spec()
        self._session.load_model(spec)
        try:
            self._settle()
        except FetchQuestionError as question:
            self._narrator.warn(question.message)
            self._session.load_model(spec, asks=False)
            self._settle()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Stop the running reply, so that it is kept; end at once if there is none, or the second time."""
        is_first = not self.signal_number
        self.signal_number = number
        if self._session.load is None and is_first:
            self._session.stop()
            if self._side_by_side is not None:
                self._side_by_side.stop()
            return
        if self._session.load is not None:
            self._session.load.cancel.set()
        raise KeyboardInterrupt

    def give_up(self) -> None:
        """Stop the running reply and take in what it had made."""
        session = self._session
        session.stop()
        with contextlib.suppress(queue.Empty):
            while session.running is not None:
                session.handle(self._events.get(timeout=_DRAIN_SECONDS))

    def close(self) -> None:
        """End the session and the worker."""
        self._narrator.clear()
        path = self._session.path
        self._session.close()
        self._worker.close()
        # A file that was made for a conversation in which nothing was said is of no use.
        if path is not None and path == self._options.start.save and not len(self._session.transcript):
            with contextlib.suppress(OSError):
                path.unlink()

    def _open_transcript(self) -> None:
        """Take up the conversation to go on with, and the file to keep it in.

        Raises:
            TranscriptError: It cannot be read, or the file cannot be written.
        """
        start, session = self._options.start, self._session
        if start.resume is not None and not self._options.keep:
            transcript, notices = read_transcript(start.resume)
            session.take_over(transcript, start.given)
        elif (path := start.resume or start.save) is not None and (start.resume or path.exists()):
            notices = session.open(path, start.given)
        else:
            notices = []
        for notice in notices:
            self._narrator.warn(notice)
        if session.brought_back:
            self._narrator.say(session.brought_back)
        if start.save is not None and start.save != session.path:
            session.save(start.save)

    def _settle(self) -> None:
        """Take in events and show them until nothing runs or waits.

        Raises:
            LlmchatError: The model could not be opened, or the reply failed.
        """
        session = self._session
        while session.state in ("loading", "generating", "stopping"):
            event = self._next_event()
            session.handle(event)
            self._show(event)

    def _next_event(self) -> Event:
        """The next event, whenever it comes; after a signal it is not waited for long."""
        while True:
            try:
                return self._events.get(timeout=_DRAIN_SECONDS)
            except queue.Empty:
                if self.signal_number:
                    raise KeyboardInterrupt from None

    def _print_prompt(self) -> None:
        """Print what the model would be given.

        Raises:
            GenerationError: It does not fit.
        """
        request = prompt_request(self._session, self._options.start.prompt or "")
        self._worker.submit(request)
        event = self._next_event()
        if isinstance(event, RequestFailed):
            raise event.error
        assert isinstance(event, PromptTokens) and self._session.model is not None
        self._narrator.clear()
        print_prompt(event, self._session.model, as_json=self._options.output == "json")
        self._narrator.warn_dropped(event)
        self._narrator.add_to_prompt(event)

    def _try_all(self, options: TrialOptions) -> None:
        """Make replies under all settings side by side; nothing of them is kept in a conversation.

        Raises:
            LlmchatError: They could not be made, or their table not be written.
        """
        from llmchat.once_trials import TrialPrinter
        from llmchat.session.laboratory import Experiment

        session = self._session
        assert session.model is not None
        experiment = self._side_by_side = Experiment(session, options.variants, self._options.start.prompt)
        printer = TrialPrinter(experiment, options, session.model, as_json=self._options.output == "json")
        self._worker.submit(experiment.request)
        while not experiment.is_done:
            event = self._next_event()
            experiment.handle(event)
            self._show(event)
            if isinstance(event, LaneGenerated):
                self._narrator.progress("writing", experiment.progress)
            elif not isinstance(event, PromptProcessing):
                self._narrator.clear()
                printer.print_ended()
        if experiment.error is not None:
            raise experiment.error
        printer.finish()
        self._tell_held_notes()
        if self._options.stats:
            for outcome in experiment.outcomes():
                self._narrator.statistics(outcome.reply, session.model)

    def _answer_all(self, options: ManyOptions) -> None:
        """Answer many prompts side by side.

        Raises:
            LlmchatError: The results cannot be written there, or all of it failed.
        """
        from llmchat.once_many import ManyRun

        model, seconds = self._session.model, self._session.load_seconds
        assert model is not None
        many = self._side_by_side = ManyRun(options, model, seconds, self._narrator)
        with contextlib.closing(many):
            self._worker.submit(many.request)
            while not many.is_done:
                event = self._next_event()
                self._show(event)
                many.handle(event)
        self._tell_held_notes()
        if many.error is not None:
            raise many.error
        self.exit_code = LlmchatError.exit_code if many.has_failed else 0

    def _show(self, event: Event) -> None:
        narrator = self._narrator
        match event:
            case ModelLoading():
                narrator.progress(event.stage, event.fraction)
            case ModelLoaded():
                for note in (*event.info.notes, other_model(self._session)):
                    narrator.say(note)
                if words := unknown_arguments(self._session.config.template_args, event.info.template_variables):
                    narrator.warn(words)
                if self._session.system and not event.info.has_chat_template and not self._session.raw:
                    narrator.warn("the system prompt is left out: this model has no chat template to put it into.")
                if self._session.config.lora_scale != 1.0 and not event.info.lora:
                    narrator.warn("the LoRA scale does nothing: no adapter is open. Give one with --lora.")
                if self._session.system and self._session.raw:
                    narrator.warn("the system prompt is left out: --raw gives the model the text alone.")
            case ModelChanged():
                self._held_notes.append(event.info.notes[-1])
            case PromptProcessing():
                narrator.progress("reading the prompt", event.done_tokens / max(event.total_tokens, 1))
            case PromptProcessed():
                narrator.clear()
                narrator.warn_dropped(event)
            case TokensGenerated():
                self._printer.add(event)
            case GenerationFinished():
                self._finish(event.reply)
            case GenerationFailed():
                self._printer.break_off()
                raise event.error
            case ModelLoadFailed():
                raise event.error

    def _finish(self, reply: Reply) -> None:
        session = self._session
        assert session.model is not None
        reply = replace(reply, timings=replace(reply.timings, load_seconds=session.load_seconds))
        self._printer.finish(reply, self._options.start.prompt or "", session.model)
        self._tell_held_notes()
        if reply.thought.is_open and not self._options.show_thinking:
            self._narrator.warn("the reply ended while the model was still thinking: raise --max-tokens.")
        if self._options.stats:
            self._narrator.statistics(reply, session.model)

    def _tell_held_notes(self) -> None:
        while self._held_notes:
            self._narrator.say(self._held_notes.pop())


@contextlib.contextmanager
def _signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let signals that ask for an end come to the handler, but for those that are ignored, as under nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, handler) for number in heeded]
    try:
        yield
    finally:
        for number, action in zip(heeded, before, strict=True):
            signal.signal(number, action)
