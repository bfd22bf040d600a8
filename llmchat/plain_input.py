"""Lines from a person or a pipe, for the line-by-line conversation."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator

from llmchat.chat.plain_text import visible
from llmchat.paths import history_path
from llmchat.ui.completion import complete
from llmchat.ui.prompt_history import PromptHistory

PROMPT = "You: "

WAKE_SECONDS = 0.1
"""How long a Ctrl-C can go unnoticed while a line is waited for."""


class LineInput:
    """Asks for messages. At a terminal, with the arrows, Tab and past prompts where readline is there."""

    def __init__(self) -> None:
        """Prepare the terminal, if there is one."""
        self.is_interactive = sys.stdin is not None and sys.stdin.isatty()
        self._history = PromptHistory(history_path() if self.is_interactive else None)
        if self.is_interactive and sys.stdout.isatty():
            _prepare_readline(self._history.entries)

    def read(self) -> str | None:
        """The next message that is not empty; None when the person leaves or the input ends.

        A line that ends in a backslash goes on with the next. Ctrl-C drops what was
        typed; pressed twice in a row it leaves.
        """
        interrupted = False
        while True:
            try:
                if interrupted:
                    print("\nPress Ctrl-C again to leave.", flush=True)
                message = self._read_message()
            except KeyboardInterrupt:
                if interrupted:
                    print(flush=True)
                    return None
                interrupted = True
                continue
            if message is None or message.strip():
                if message is not None:
                    self._history.add(message)
                return message
            interrupted = False

    def _read_message(self) -> str | None:
        """A message of one or more lines; "" for an empty line, None at the end of the input."""
        lines: list[str] = []
        while True:
            line = self._next_line("... " if lines else PROMPT)
            if line is None:
                return "\n".join(lines) if lines else None
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def _next_line(self, prompt: str) -> str | None:
        if not self.is_interactive:
            return _next_piped(prompt)
        try:
            with _wakened():
                return input(prompt)
        except EOFError:
            print(flush=True)
            return None


def _next_piped(prompt: str) -> str | None:
    """A line that is piped in, printed as if it had been typed."""
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        return None
    line = line.rstrip("\r\n")
    if line.strip():
        print(prompt + visible(line), flush=True)
    return line


@contextlib.contextmanager
def _wakened() -> Iterator[None]:
    """Interrupt the wait for a line now and then.

    Python looks for signals only when one ends that wait. One that comes just before it would be slept over.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, WAKE_SECONDS, WAKE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _prepare_readline(past: Iterable[str]) -> None:
    """Give `input` past prompts and the completion of commands; without readline, it does without."""
    with contextlib.suppress(ImportError):
        import readline

        # Both would send the terminal escape codes of their own accord.
        readline.parse_and_bind("set enable-bracketed-paste off")
        readline.parse_and_bind("set enable-meta-key off")
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
        readline.set_completer_delims("")
        readline.set_completer(_completed)
        readline.clear_history()
        for prompt in past:
            readline.add_history(visible(" ".join(prompt.split("\n"))))


def _completed(line: str, number: int) -> str | None:
    """The line with its last word completed in the `number`th way; None after the last way."""
    completion = complete(line)
    # readline writes to the terminal itself: a name that would act there is not offered.
    ways = [] if completion is None else [way for way in completion.candidates if visible(way) == way]
    return line[: completion.start] + ways[number] if completion is not None and number < len(ways) else None
