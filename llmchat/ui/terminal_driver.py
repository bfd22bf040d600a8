"""What comes from the terminal: bytes that are no text, pastes that hold anything, and its end.

Textual's driver ends the window at the first byte that is no UTF-8, and takes an
escape inside a paste for a key. This one reads on.
"""

from __future__ import annotations

import os
import re
import selectors
from codecs import getincrementaldecoder
from collections.abc import Generator, Iterable
from types import TracebackType

from textual import events
from textual._parser import ParseTimeout, Peek1, Read1, TokenCallback
from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

TICK_SECONDS = 0.1
"""How long an end, or a lone Esc, can go unnoticed."""
LONE_BYTE_TICKS = 5
"""After so many quiet ticks the first bytes of a character are taken for bytes that are none."""
UNMARKED_PASTE_LENGTH = 16
"""Characters; as many come at once, with line breaks among them, from no keyboard."""

_READ_BYTES = 1 << 16
_EARLY_END = re.compile(r"\x1b(?=\[201~(?:(?!\x1b\[20[01]~).)*\x1b\[201~)", re.DOTALL)
"""The escape of an end mark that another end mark follows: it was part of what was copied."""
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~])")
"""What arrows, function keys and the mouse send."""
_COMMANDS = re.compile(
    r"(?<=[^\x00-\x1f\x7f])[\x02-\x04\x06\x07\x0c\x0e-\x14\x16\x18-\x1a\x1c-\x1f]+(?=[^\x00-\x1f\x7f])"
)
"""Control keys with text before and behind them, but for those that move the cursor or take text away."""
_CORRECTIONS = re.compile(r"[\x08\x15\x17\x7f]")
"""What takes away what was typed, as only a person does it."""


class TerminalGone(Message):
    """The terminal has been closed."""


class InputFailed(Message):
    """Nothing more can be read: the window must end."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class TerminalParser(XTermParser):
    """Keys and pastes from text. A paste is one event with all that was between its marks, in order."""

    _is_pasting = False

    def feed(self, data: str) -> Iterable[Message]:
        """Take some text, as much as came at once, and give the events that are complete."""
        if not self._is_pasting and BRACKETED_PASTE_START not in data:
            is_paste = _is_unmarked_paste(data)
            # Whoever pastes means no command, and whoever types does not go on before it has been carried out.
            data = f"{BRACKETED_PASTE_START}{data}{BRACKETED_PASTE_END}" if is_paste else _COMMANDS.sub("", data)
        return super().feed(_EARLY_END.sub("", data))

    def parse(self, token_callback: TokenCallback[Message]) -> Generator[Read1 | Peek1, str, None]:
        """Let Textual see the marks of a paste and nothing between them, where it would look for keys."""
        pasted = ""

        def pass_on(token: Message) -> None:
            token_callback(events.Paste(pasted) if isinstance(token, events.Paste) else token)

        keys = super().parse(pass_on)
        awaited, recent = next(keys), ""
        while True:
            try:
                character = yield awaited
            except ParseTimeout as pause:
                awaited, recent = keys.throw(pause), ""
                continue
            awaited = keys.send(character)
            recent = (recent + character)[-len(BRACKETED_PASTE_START) :]
            if recent == BRACKETED_PASTE_START:
                pasted, recent = (yield from self._pasted()), ""
                for character in BRACKETED_PASTE_END:
                    awaited = keys.send(character)

    def _pasted(self) -> Generator[Read1 | Peek1, str, str]:
        """Everything up to the end mark."""
        characters: list[str] = []
        length, self._is_pasting = len(BRACKETED_PASTE_END), True
        while "".join(characters[-length:]) != BRACKETED_PASTE_END:
            characters.append((yield Read1()))
        self._is_pasting = False
        return "".join(characters[:-length]).replace("\x00", "")


class TerminalDriver(LinuxDriver):
    """Textual's driver for a real terminal, with input that survives anything and an end that is told."""

    is_started = False
    """Whether the terminal is in the window's modes."""

    def start_application_mode(self) -> None:
        """Take the terminal."""
        self.is_started = True
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def stop_application_mode(self) -> None:
        """Give the terminal back as it was."""
        super().stop_application_mode()
        self.is_started = False

    def _run_input_thread(self) -> None:
        with _Reporting(self):
            self.run_input_thread()

    def run_input_thread(self) -> None:
        """Read from the terminal and send what happened to the app, until the driver is told to stop."""
        decoder = getincrementaldecoder("utf-8")(errors="replace")
        parser, quiet_ticks = TerminalParser(), 0
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                text, quiet_ticks = "", quiet_ticks + 1
                if selector.select(TICK_SECONDS):
                    if not (data := os.read(self.fileno, _READ_BYTES)):
                        raise EOFError
                    text, quiet_ticks = decoder.decode(data), 0
                elif quiet_ticks == LONE_BYTE_TICKS:
                    text = decoder.decode(b"", final=True)
                if text:
                    for event in parser.feed(text):
                        self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)


class _Reporting:
    """Tells the app of whatever ends the input thread."""

    def __init__(self, driver: TerminalDriver) -> None:
        self._driver = driver

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, (OSError, EOFError)):
            self._driver.send_message(TerminalGone())
        elif isinstance(error, Exception):
            self._driver.send_message(InputFailed(error))
        return isinstance(error, Exception)


def _is_unmarked_paste(data: str) -> bool:
    """Whether this is a paste from a terminal that does not mark them: its line breaks are no Enter."""
    lines = _SEQUENCES.sub("", data).replace("\r", "\n").strip("\n")
    return len(lines) >= UNMARKED_PASTE_LENGTH and "\n" in lines and not _CORRECTIONS.search(lines)
