"""The line-by-line conversation, for screen readers and simple terminals: `llmchat --plain`.

The same worker and the same `ChatSession` as the window, without a single
escape code: plain lines down the screen. Errors go to standard error. Lines can
also be piped in; the conversation then ends after the reply to the last of them.
"""

from __future__ import annotations

import contextlib
import io
import queue
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from llmchat.chat.plain_text import VisibleStream, visible
from llmchat.chat.template_args import unknown_arguments
from llmchat.chat.turn import Reply, token_count
from llmchat.errors import FetchQuestionError, LlmchatError, ModelLoadError, PromptTooLongError
from llmchat.files import describe
from llmchat.options import StartOptions
from llmchat.plain_commands import PlainCommands
from llmchat.plain_input import LineInput
from llmchat.session import ChatSession
from llmchat.session.asking import prompt_request
from llmchat.session.standing import standing_words
from llmchat.ui.commands import LiteralText, parse
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    ModelChanged,
    ModelLoaded,
    ModelLoadFailed,
    ModelLoading,
    PromptProcessed,
    PromptTokens,
    RequestFailed,
    TokensGenerated,
)

PROGRESS_SECONDS = 5.0
"""While a model is fetched and opened, at most one line of progress in this time."""


def run_plain(options: StartOptions) -> None:
    """Hold the conversation until it is left, its input ends, or its output closes.

    Raises:
        LlmchatError: The model or the transcript could not be opened, or the output cannot be written.
        BrokenPipeError: Nobody reads the output any more.
        KeyboardInterrupt: It was interrupted while the model was opened, or twice during a reply.
    """
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    conversation = PlainConversation(options)
    try:
        conversation.hold()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LlmchatError(f"The conversation cannot be written: {describe(error)}.") from error
    finally:
        conversation.close()


class PlainConversation:
    """One conversation: reads a line, carries it out, prints what comes of it."""

    def __init__(self, options: StartOptions) -> None:
        """A conversation that has not begun: nothing is loaded or printed yet."""
        settings = options.settings
        self._options = options
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._worker = InferenceWorker(self._events.put)
        self.session = ChatSession(
            self._worker.submit,
            print_error,
            config=options.config,
            raw=settings.raw,
            system=settings.system,
            prefill_text=options.prefill_text,
            autosave=settings.autosave,
            kv_cache=settings.kv_cache,
        )
        self._commands = PlainCommands(self.session, settings, say, self._show_prompt)
        self._input = LineInput()
        self._voice = _ReplyVoice()
        self._held_notes: list[str] = []  # of a running reply, for when its line has ended
        self._progress_at = time.monotonic()

    def hold(self) -> None:
        """Open the transcript and the model, then talk until it is over."""
        if self._options.resume is not None:
            self._commands.open(self._options.resume, self._options.given)
        self._worker.start()
        spec = self._options.settings.model_spec()
        say(f"Opening {Path(spec.model).name or 'the default model'}.")
        self.session.load_model(spec)
        self._settle()
        self._keep_where_asked()
        if words := standing_words(self.session):
            say(f"For every reply: {', '.join(words)}.")
        if self._input.is_interactive:
            say("Type a message and press Enter. /help lists commands. Ctrl-C stops a reply, Ctrl-D leaves.")
        if self._options.prompt is not None:
            say(f"You: {self._options.prompt}")
            self._carry_out(self._options.prompt)
        while not self._commands.is_over and (line := self._input.read()) is not None:
            self._carry_out(line)

    def close(self) -> None:
        """Keep what there is of a running reply, end the worker, and say where the conversation is."""
        words = self.session.close()
        self._worker.close()
        if words and sys.stderr.isatty():
            print(words, file=sys.stderr)

    def _keep_where_asked(self) -> None:
        """Begin, or go on with, the file that was named at the start."""
        path = self._options.save
        if path is None:
            return
        if path.exists() and self._options.resume is None:
            self._commands.open(path, self._options.given)
        else:
            self.session.save(path)

    def _carry_out(self, line: str) -> None:
        """Do what a line says, a command or something for the model; an error is one line."""
        try:
            parsed = parse(line)
            with self._interruptible():
                if isinstance(parsed, LiteralText):
                    self.session.send(parsed.text)
                else:
                    self._commands.carry_out(parsed)
                self._settle()
        except LlmchatError as error:
            print_error(error)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C stop what runs instead of ending the program; pressed again, it does end it."""

        def stop(number: int, frame: FrameType | None) -> None:
            load = self.session.load
            if self.session.state == "stopping" or (load is not None and load.cancel.is_set()):
                raise KeyboardInterrupt
            if load is not None:
                load.cancel.set()
            self.session.stop()

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _settle(self) -> None:
        """Take in events and print them until nothing runs or waits.

        Raises:
            ModelLoadError: The model could not be opened.
        """
        while self.session.state in ("loading", "generating", "stopping"):
            event, load = self._events.get(), self.session.load
            is_ours = self._is_ours(event)
            name = "Model" if self.session.model is None else self.session.model.name
            if is_ours:
                self._show(event, name)
            self.session.handle(event)
            if is_ours and isinstance(event, ModelLoadFailed):
                if load is None or not isinstance(event.error, FetchQuestionError):
                    raise ModelLoadError(event.words)
                say(f"{event.error.message} Ctrl-C stops it.")
                self.session.load_model(load.spec, asks=False)

    def _show_prompt(self, text: str) -> None:
        """Print what the model is given for a message, or for the last reply.

        Raises:
            LlmchatError: There is nothing to show, or it does not fit.
        """
        request = prompt_request(self.session, text)
        self._worker.submit(request)
        while (event := self._events.get()).request_id != request.request_id:
            self.session.handle(event)
        if isinstance(event, RequestFailed):
            raise event.error
        assert isinstance(event, PromptTokens)
        say("".join(part.text for part in event.parts))
        names = Counter(part.text for part in event.parts if part.is_control)
        counted = ", ".join(f"{name} ×{times}" for name, times in names.items())
        say(f"{token_count(len(event.tokens))}; control tokens: {counted or 'none'}. {event.said_words}".rstrip())

    def _is_ours(self, event: Event) -> bool:
        """Whether an event is about what runs at present; a given-up load may still report."""
        running, load = self.session.running, self.session.load
        ids = (running.request.request_id if running else None, load.request_id if load else None)
        return event.request_id in ids

    def _show(self, event: Event, name: str) -> None:
        """Print what an event has to say."""
        match event:
            case ModelLoading():
                self._show_progress(event)
            case ModelLoaded():
                for note in event.info.notes:
                    say(note)
                if words := unknown_arguments(self.session.config.template_args, event.info.template_variables):
                    say(words)
                say(f"{event.info.name} is ready on {event.info.device}.")
            case ModelChanged():
                self._held_notes.append(event.info.notes[-1])
            case PromptProcessed() if event.dropped_turns:
                say(f"The {len(event.dropped_turns)} oldest turns no longer fit into the context.")
            case PromptProcessed() if event.dropped_tokens:
                say(f"The prompt has {event.prompt_tokens} tokens; the model sees the last {event.context_length}.")
            case TokensGenerated():
                if event.thought.text:
                    self._voice.think()
                if event.text:
                    self._voice.speak(name, event.text)
            case GenerationFinished():
                self._voice.finish(name, event.reply)
                while self._held_notes:
                    say(self._held_notes.pop())
            case GenerationFailed():
                self._voice.break_off()
                print_error(event.error)
                if isinstance(event.error, PromptTooLongError):
                    say("Your message was not said. ↑ brings it back.")

    def _show_progress(self, event: ModelLoading) -> None:
        """Say what takes long, now and then."""
        if time.monotonic() - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = time.monotonic()
            say(event.stage if event.fraction is None else f"{event.stage}, {event.fraction:.0%}")


class _ReplyVoice:
    """Prints a reply as it comes, under the model's name."""

    def __init__(self) -> None:
        self._stream: VisibleStream | None = None
        self._line_open = False
        self._is_thinking = False

    def think(self) -> None:
        """Say, once, that the model thinks before it answers; what it thinks is kept, and not read out."""
        if not self._is_thinking:
            self._is_thinking = True
            say("(thinking …)")

    def speak(self, name: str, text: str) -> None:
        """Print some more of the reply."""
        if self._stream is None:
            self._stream = VisibleStream()
            self._write(f"{visible(name)}: ")
        self._write(self._stream.add(text))

    def finish(self, name: str, reply: Reply) -> None:
        """End the reply, with a line on why if that was not its own end."""
        self.speak(name, "")
        self.break_off()
        self._is_thinking = False
        if reply.thought.is_open:
            say("(it was still thinking)")
        if reply.finish_reason == "cancelled":
            say("(stopped)")
        elif reply.finish_reason == "length":
            say(f"(ended by {reply.finish_detail}; /continue goes on)")
        elif not reply.text and not reply.thought.is_open:
            say("(the reply is empty)")

    def break_off(self) -> None:
        """End the line that is being printed."""
        if self._stream is not None:
            self._write(self._stream.finish())
            self._stream = None
        if self._line_open:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            _write(text)
            self._line_open = not text.endswith("\n")


def say(text: str) -> None:
    """Print a line, or several, with control characters made visible."""
    _write(visible(text) + "\n")


def print_error(error: LlmchatError) -> None:
    """One line on standard error."""
    print(f"Error: {visible(error.message)}", file=sys.stderr, flush=True)


def _write(text: str) -> None:
    print(text, end="", flush=True)
