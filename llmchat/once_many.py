"""Many prompts without the window: their replies as JSON lines, in the order of the prompts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmchat.chat.generation_config import roll_seed
from llmchat.chat.job import Job
from llmchat.chat.model import ModelInfo
from llmchat.chat.turn import Reply
from llmchat.errors import LlmchatError, UsageError
from llmchat.files import describe, expanded
from llmchat.once_lines import Given, Line, ResultsFile, read_lines
from llmchat.once_output import Narrator, describe_reply, write_json
from llmchat.options import StartOptions
from llmchat.worker.messages import Event, JobFinished, ManyFinished, ManyProgress, ManyRequest, RequestFailed

_BAR_CELLS = 20


@dataclass(frozen=True, slots=True)
class ManyOptions:
    """Prompts to be answered in one go."""

    lines: tuple[Line, ...]
    output: Path | None = None
    """The file that takes the replies; None is standard output."""


def many_options(options: Mapping[str, Any], start: StartOptions) -> ManyOptions:
    """What --jsonl-in and --output ask for.

    Args:
        options: The command line's options by name.
        start: What holds for every prompt.

    Raises:
        UsageError: The file cannot be read, or has no prompts.
    """
    file, settings = options["prompt_file"], start.settings
    seed = roll_seed() if start.config.seed is None else start.config.seed
    given = Given(start.config, seed, settings.system, start.prefill_text, settings.raw)
    try:
        if file == "-":
            lines = read_lines(sys.stdin.buffer, given)
        else:
            with expanded(file).open("rb") as handle:
                lines = read_lines(handle, given)
    except OSError as error:
        raise UsageError(f"The prompt file {file} cannot be read: {describe(error)}.") from None
    if not lines:
        raise UsageError(f"The prompt file {file} has no prompts: give one a line, as JSON.")
    return ManyOptions(tuple(lines), options["output"] and expanded(options["output"]))


class ManyRun:
    """The prompts that are still to be answered. Give `request` to the worker, and every event to `handle`."""

    def __init__(self, options: ManyOptions, info: ModelInfo, load_seconds: float, narrator: Narrator) -> None:
        """Open what takes the replies, and tell of lines that are no prompts.

        Args:
            options: What was asked for.
            info: The model that answers.
            load_seconds: How long it took to be opened.
            narrator: Says on standard error what is to be said.

        Raises:
            UsageError: The results cannot be written there.
        """
        self._info, self._load_seconds, self._narrator = info, load_seconds, narrator
        self._results = None if options.output is None else ResultsFile(options.output, options.lines)
        done = frozenset() if self._results is None else self._results.done
        self._lines = [line for line in options.lines if line.number not in done]
        self._jobs: list[tuple[Line, Job]] = [(line, line.job) for line in self._lines if isinstance(line.job, Job)]
        self._total, self._answered = len(options.lines), len(options.lines) - len(self._lines)
        self._outcomes: dict[int, Reply | LlmchatError] = {}
        self._next = 0
        self._began = time.monotonic()
        self.error: LlmchatError | None = None
        """Why none of them can be answered any more."""
        self.is_done = False
        self.has_failed = False
        """Whether a line could not be answered."""
        self.request = ManyRequest(tuple(job for _, job in self._jobs))
        for line in self._lines:
            if isinstance(line.job, LlmchatError):
                self._refuse(line, line.job)

    def handle(self, event: Event) -> None:
        """Take in what the worker reports, and print what can be printed now."""
        match event:
            case ManyProgress():
                self._show(event.tokens)
            case JobFinished():
                self._outcomes[event.job] = event.outcome
                self._answered += 1
                self._print_ended()
            case ManyFinished():
                self._print_ended(all_that_is_there=True)
                self.is_done = True
            case RequestFailed():
                self._print_ended(all_that_is_there=True)
                self.error, self.is_done = event.error, True

    def stop(self) -> None:
        """Ask the worker to stop."""
        self.request.cancel.set()

    def close(self) -> None:
        """Give the results free."""
        if self._results is not None:
            self._results.close()

    def _print_ended(self, *, all_that_is_there: bool = False) -> None:
        """Print the replies whose turn has come, or behind a break all that there are."""
        while self._next < len(self._jobs) and (all_that_is_there or self._next in self._outcomes):
            outcome = self._outcomes.pop(self._next, None)
            line, _ = self._jobs[self._next]
            self._next += 1
            if isinstance(outcome, Reply):
                self._print(line, outcome)
            elif outcome is not None:
                self._refuse(line, outcome)

    def _print(self, line: Line, reply: Reply) -> None:
        reply = replace(reply, timings=replace(reply.timings, load_seconds=self._load_seconds))
        named = {} if line.name is None else {"id": line.name}
        told = {"line": line.number, **named, **describe_reply(reply, line.question, self._info)}
        self._narrator.clear()
        if self._results is None:
            write_json(told)
        else:
            self._results.add(json.dumps(told))

    def _refuse(self, line: Line, error: LlmchatError) -> None:
        """Tell which line cannot be answered, whoever listens: it is an error."""
        self.has_failed = True
        self._narrator.complain(f"line {line.number}: {error.message}")

    def _show(self, tokens: int) -> None:
        seconds = max(time.monotonic() - self._began, 1e-6)
        share = self._answered / max(self._total, 1)
        bar = "█" * round(share * _BAR_CELLS)
        words = f"{self._answered} of {self._total} answered · {tokens / seconds:.0f} tokens/s"
        self._narrator.progress(f"{bar:·<{_BAR_CELLS}} {words}", None)
