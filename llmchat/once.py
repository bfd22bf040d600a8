"""The headless front end: one prompt in, the reply on standard output, everything else on standard error.

It drives the same worker as the window. Standard error stays empty when it is
no terminal, unless statistics were asked for or something went wrong.
"""

from __future__ import annotations

import json
import os
import queue
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from llmchat.chat.generation_config import SEED_LIMIT, GenerationConfig, roll_seed
from llmchat.chat.model import ModelInfo, ModelSpec
from llmchat.chat.plain_text import visible
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, Turn
from llmchat.errors import LlmchatError
from llmchat.files import describe
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    LiveConfig,
    LoadRequest,
    ModelLoaded,
    ModelLoadFailed,
    ModelLoading,
    PromptProcessed,
    Request,
    TokensGenerated,
)

EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended."""

Output = Literal["text", "json", "jsonl"]


@dataclass(frozen=True, slots=True)
class OnceOptions:
    """One headless run."""

    spec: ModelSpec
    prompt: str
    config: GenerationConfig
    system: str = ""
    raw: bool = False
    prefill_text: str = ""
    output: Output = "text"
    stats: bool = False
    quiet: bool = False
    num_samples: int = 1
    """How many replies; each has a seed 1 above the one before."""
    file: TranscriptFile | None = None
    """The conversation to go on with and to keep the turns in."""


def run(options: OnceOptions) -> int:
    """Make the replies and print them.

    Returns:
        The exit code: 0, or 130 or 141 if it was interrupted.

    Raises:
        LlmchatError: The model could not be opened or the reply could not be made.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    run_once = _Run(options)
    try:
        return run_once.drive()
    except KeyboardInterrupt:
        run_once.give_up()
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        run_once.give_up()
        # The interpreter flushes standard output at exit; it must not find the broken pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CLOSED_PIPE
    except OSError as error:
        raise LlmchatError(f"The reply cannot be written: {describe(error)}.") from error
    finally:
        run_once.close()


class _Run:
    """The state of one headless run: the worker, and what has come from it."""

    def __init__(self, options: OnceOptions) -> None:
        self._options = options
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._worker = InferenceWorker(self._events.put)
        self._request: Request | None = None
        self._info: ModelInfo | None = None
        self._load_seconds = 0.0
        self._seed = roll_seed() if options.config.seed is None else options.config.seed
        self._turns = self._say()
        self._narrator = _Narrator(quiet=options.quiet)
        self._terminal = sys.stdout.isatty()

    def drive(self) -> int:
        """Open the model, make every reply, print as they come."""
        self._worker.start()
        for event in self._serve(LoadRequest(self._options.spec)):
            self._show_loading(event)
        for number in range(self._options.num_samples):
            if number and self._options.output == "text":
                self._write("---\n")
            self._reply(number)
        return 0

    def _say(self) -> tuple[Turn, ...]:
        """The conversation with the prompt at its end, already kept if there is a file."""
        options = self._options
        transcript = Transcript() if options.file is None else options.file.transcript
        if options.system and not len(transcript):
            self._keep(transcript.say("system", options.system))
        self._keep(transcript.say("user", options.prompt))
        return transcript.path()

    def _keep(self, turn: Turn) -> None:
        if self._options.file is not None:
            self._options.file.append(turn)

    def _keep_reply(self, reply: Reply | None) -> None:
        if reply is not None and self._options.file is not None:
            turn = Turn("assistant", reply.text, parent=self._turns[-1].id, reply=reply)
            self._options.file.transcript.add(turn)
            self._keep(turn)

    def give_up(self) -> None:
        """Stop the running request and keep what it had made."""
        self._narrator.clear()
        request = self._request
        if request is None:
            return
        request.cancel.set()
        if isinstance(request, LoadRequest):
            return
        try:
            while not isinstance(event := self._events.get(timeout=5), GenerationFinished | GenerationFailed):
                pass
        except (queue.Empty, KeyboardInterrupt):
            return
        if event.reply is not None and event.reply.token_ids:
            self._keep_reply(event.reply)

    def close(self) -> None:
        """End the worker."""
        self._narrator.clear()
        self._worker.close()

    def _serve(self, request: Request) -> Iterator[Event]:
        """Every event of a request; a failure is raised."""
        self._request = request
        self._worker.submit(request)
        while True:
            event = self._events.get()
            yield event
            match event:
                case ModelLoadFailed() | GenerationFailed():
                    raise event.error
                case ModelLoaded() | GenerationFinished():
                    self._request = None
                    return

    def _show_loading(self, event: Event) -> None:
        match event:
            case ModelLoading():
                self._narrator.progress(event.stage, event.fraction)
            case ModelLoaded():
                self._narrator.clear()
                self._info, self._load_seconds = event.info, event.load_seconds
                for note in event.info.notes:
                    self._narrator.say(note)

    def _reply(self, number: int) -> None:
        options = self._options
        request = GenerationRequest(
            turns=self._turns,
            config=LiveConfig(options.config),
            seed=(self._seed + number) % SEED_LIMIT,
            raw=options.raw,
            prefill_text=options.prefill_text,
        )
        for event in self._serve(request):
            match event:
                case PromptProcessed():
                    self._narrator.warn_dropped(event)
                case TokensGenerated():
                    self._show_tokens(event)
                case GenerationFailed():
                    self._finish_line(event.reply)
                    self._keep_reply(event.reply)
                case GenerationFinished():
                    self._finish(event.reply)

    def _show_tokens(self, event: TokensGenerated) -> None:
        if self._options.output == "text":
            # Escape sequences of a model must not reach a terminal; a file gets the text as it is.
            self._write(visible(event.text) if self._terminal else event.text)
        elif self._options.output == "jsonl":
            self._write_json({"type": "token", "text": event.text, "token_ids": list(event.token_ids)})

    def _finish(self, reply: Reply) -> None:
        reply = replace(reply, timings=replace(reply.timings, load_seconds=self._load_seconds))
        self._finish_line(reply)
        if self._options.output != "text":
            assert self._info is not None
            result = describe_reply(reply, self._options.prompt, self._info)
            self._write_json({"type": "end", **result} if self._options.output == "jsonl" else result)
        if self._options.stats:
            self._narrator.statistics(reply)
        self._keep_reply(reply)

    def _finish_line(self, reply: Reply | None) -> None:
        """End the reply's last line, once."""
        if self._options.output == "text" and reply is not None and not reply.text.endswith("\n"):
            self._write("\n")

    def _write_json(self, value: dict[str, Any]) -> None:
        self._write(json.dumps(value, ensure_ascii=False) + "\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class _Narrator:
    """What is said on standard error: nothing, unless someone is there to read it or asked."""

    def __init__(self, *, quiet: bool) -> None:
        self._speaks = sys.stderr.isatty() and not quiet
        self._line = ""

    def progress(self, stage: str, fraction: float | None) -> None:
        """Show a step of loading on one line that is written over."""
        if self._speaks:
            share = "" if fraction is None else f" {fraction:4.0%}"
            line = f"{stage}{share}"[:70]
            sys.stderr.write("\r" + line.ljust(len(self._line)))
            sys.stderr.flush()
            self._line = line

    def clear(self) -> None:
        """Wipe the progress line."""
        if self._line:
            sys.stderr.write("\r" + " " * len(self._line) + "\r")
            sys.stderr.flush()
            self._line = ""

    def say(self, text: str) -> None:
        """One line for a person at a terminal."""
        if self._speaks:
            self.clear()
            print(f"llmchat: {text}", file=sys.stderr)

    def warn_dropped(self, event: PromptProcessed) -> None:
        """Say that part of the prompt did not fit."""
        if event.dropped_turns:
            self.say(f"the {len(event.dropped_turns)} oldest turns do not fit into the context and were left out.")
        elif event.dropped_tokens:
            self.say(
                f"the prompt has {event.prompt_tokens} tokens; the model sees the last {event.context_length} of them."
            )

    def statistics(self, reply: Reply) -> None:
        """The figures of a reply, a line each; they were asked for, so always printed."""
        times = reply.timings
        rows = {
            "model": reply.model,
            "finish": f"{reply.finish_reason} ({reply.finish_detail})",
            "seed": str(reply.seed),
            "prompt": f"{reply.prompt_tokens} tokens, {reply.cached_tokens} from the cache, "
            f"{times.prompt_tokens_per_second:.1f} tokens/s",
            "reply": f"{len(reply.token_ids)} tokens, {times.tokens_per_second:.1f} tokens/s",
            "first token": f"{times.time_to_first_token_seconds:.3f} s",
            "load": f"{times.load_seconds:.3f} s",
        }
        self.clear()
        for name, value in rows.items():
            print(f"{name + ':':<13}{value}", file=sys.stderr)


def describe_reply(reply: Reply, prompt: str, info: ModelInfo) -> dict[str, Any]:
    """A reply as the object that `--json` prints."""
    return {
        "text": reply.text,
        "prompt": prompt,
        "model": info.name,
        "finish_reason": reply.finish_reason,
        "finish_detail": reply.finish_detail,
        "seed": reply.seed,
        "settings": reply.config.to_mapping(),
        "token_ids": list(reply.token_ids),
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "generated_tokens": len(reply.token_ids),
            "cached_tokens": reply.cached_tokens,
            "dropped_tokens": reply.dropped_tokens,
        },
        "timings": asdict(reply.timings),
    }
