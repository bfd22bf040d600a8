"""The whole program in a real pseudo-terminal: what it draws, what it leaves behind, how it ends."""

from __future__ import annotations

import signal
from pathlib import Path
from time import monotonic

import pytest

from llmchat.chat.storage import TranscriptFile, latest_transcript, read_transcript
from llmchat.paths import history_path
from llmchat.ui.prompt_history import PromptHistory
from tests.patience import PATIENCE_SECONDS
from tests.terminals import ENTERED, LEFT, terminal

NATIVE_NOISE = """
import os, sys
import llmchat.engine.opening as opening
def noisy(spec, progress, cancel=None, may_fetch=None, usual=opening.prepare_model):
    os.write(1, b"noise on one")
    os.write(2, b"noise on two")
    return usual(spec, progress, cancel)
opening.prepare_model = noisy
from llmchat.cli import main
main()
"""
"""Starts llmchat with an engine whose native code writes to the terminal's descriptors."""

AT_HOME = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from llmchat.cli import main
main()
"""
"""Starts llmchat as a shell does, so that it hears when its terminal is closed."""


def test_a_conversation_from_start_to_end() -> None:
    """Ready, write, text streams, Esc stops, ^Q leaves a clean terminal and the transcript."""
    with terminal("-n", "100000") as it:
        it.wait_for("ready")
        it.press("Alice was\r")
        place = it.wait_for("generating")
        it.wait_for("tok/s", place)
        it.press("\x1b")
        it.wait_for("stopped by you", place)
        it.press("\x11")
        assert it.wait_for_end() == 0
        path = latest_transcript()
        assert path is not None
        assert it.last_words == f"Saved: {path}\nGo on with: llmchat --continue"
        assert it.raw.count(ENTERED) == it.raw.count(LEFT) == 1
        assert it.modes_now == it.modes
        message, reply = read_transcript(path)[0].path()
        assert message.text == "Alice was"
        assert reply.reply is not None and reply.reply.finish_reason == "cancelled" and reply.reply.token_ids
        assert oct(path.stat().st_mode & 0o777) == "0o600"


def test_where_no_log_can_be_kept_the_window_is_as_ever(sandbox: Path) -> None:
    """A home that cannot be written, or is full: what native code writes goes nowhere then."""
    (sandbox / "state").write_text("in the way")
    with terminal("-n", "5") as it:
        it.wait_for("ready")
        it.press("Alice was\r")
        it.wait_for("5 tok")
        assert "\u241b" not in it.text
        it.press("\x11")
        it.wait_for_end()
        assert it.raw.count(ENTERED) == it.raw.count(LEFT) == 1 and it.modes_now == it.modes


def test_a_signal_in_mid_reply_keeps_what_there_is() -> None:
    """A shutdown loses nothing and leaves the terminal clean."""
    with terminal("-n", "100000") as it:
        it.wait_for("ready")
        it.press("Alice was\r")
        it.wait_for("tok/s", it.wait_for("generating"))
        it.process.send_signal(signal.SIGTERM)
        assert it.wait_for_end() == 128 + signal.SIGTERM
        assert it.raw.count(LEFT) == 1 and it.modes_now == it.modes
        path = latest_transcript()
        assert path is not None
        kept, notices = read_transcript(path)
        assert notices == []
        reply = kept.path()[-1].reply
        assert reply is not None and reply.token_ids and reply.finish_detail == "llmchat was closed"


def test_a_terminal_that_is_closed_ends_the_program() -> None:
    """It keeps the reply and does not linger."""
    with terminal("-n", "100000", program=("-c", AT_HOME)) as it:
        it.wait_for("ready")
        it.press("Alice was\r")
        it.wait_for("tok/s", it.wait_for("generating"))
        it.hang_up()
        assert it.process.wait(PATIENCE_SECONDS) == 128 + signal.SIGHUP
        path = latest_transcript()
        assert path is not None
        reply = read_transcript(path)[0].path()[-1].reply
        assert reply is not None and reply.token_ids and reply.finish_detail == "llmchat was closed"


def test_a_killed_program_loses_a_second_or_two() -> None:
    """What was kept beside the transcript is recovered by --continue."""
    with terminal("-n", "100000") as it:
        it.wait_for("ready")
        it.press("Alice was\r")
        it.wait_for("tok/s", it.wait_for("generating"))
        path = latest_transcript()
        assert path is not None
        side, deadline = path.with_name(path.name + ".partial"), monotonic() + PATIENCE_SECONDS
        while not side.exists():
            assert monotonic() < deadline
            it.read(0.1)
        it.process.kill()
        it.wait_for_end()
    file, notices = TranscriptFile.open(path)
    file.close()
    assert "recovered" in notices[0]
    assert file.transcript.path()[-1].role == "assistant" and file.transcript.path()[-1].text


def test_what_native_code_writes_goes_into_the_log(sandbox: Path) -> None:
    """Nothing of it is seen, neither in the window nor after it."""
    with terminal(program=("-c", NATIVE_NOISE)) as it:
        it.wait_for("ready")
        it.press("\x11")
        assert it.wait_for_end() == 0
        assert "noise" not in it.raw
        assert it.last_words == ""
    log = (sandbox / "state" / "llmchat.log").read_text()
    assert "noise on one" in log and "noise on two" in log


def test_the_editor_of_ones_own_gets_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """^G: it draws on the terminal and reads from it; what it saved stands in the prompt, not sent."""
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "editor is here"\nread answer\necho "typed: $answer" > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    with terminal() as it:
        it.wait_for("ready")
        it.press("\x07")
        place = it.wait_for("editor is here")
        it.press("hello\n")
        it.wait_for("typed: hello", place)
        it.press("\x11")
        assert it.wait_for_end() == 0
        assert it.raw.count(ENTERED) == it.raw.count(LEFT) == 2 and it.modes_now == it.modes
        assert latest_transcript() is None


def test_settings_that_are_wrong_are_one_line(sandbox: Path) -> None:
    """Nothing is drawn; the line names the file, the key and the nearest one."""
    (sandbox / "config").mkdir()
    (sandbox / "config" / "settings.toml").write_text('[keys]\nsidebra = "f9"\n')
    with terminal() as it:
        assert it.wait_for_end() == 2
        assert ENTERED not in it.raw
        assert it.text.strip() == ("llmchat: error: [keys]: there is no action called 'sidebra'. Did you mean sidebar?")


def test_the_window_is_drawn_before_torch_is_loaded() -> None:
    """The first paint waits for nothing; importing the window never loads torch or a tokenizer."""
    script = """
import sys
from textual.drivers.linux_driver import LinuxDriver
def write(self, data, usual=LinuxDriver.write):
    usual(self, data)
    if "rite a message" in data:
        heavy = {"torch", "gguf", "tokenizers", "sentencepiece", "jinja2", "numpy"} & set(sys.modules)
        usual(self, f"<heavy: {sorted(heavy)}>")
LinuxDriver.write = write
from llmchat.cli import main
main()
"""
    with terminal(program=("-c", script)) as it:
        start = it.wait_for("<heavy: ")
        assert it.text[start : it.wait_for(">", start)] == "[]>"
        it.wait_for("ready")
        it.press("\x04")
        assert it.wait_for_end() == 0


FAULT = """
import sys, threading
from textual.drivers.linux_driver import LinuxDriver
from llmchat.ui.screens.chat import ChatScreen
from llmchat.ui.widgets.status_bar import StatusBar
from llmchat.ui import terminal_driver
def fail(*arguments, **options):
    raise RuntimeError("a fault of the test")
async def fail_later():
    fail()
usual = ChatScreen.send
def send(screen, text):
    usual(screen, "kept")
    screen.prompt.write("a draft")
    place = text.split()[0]
    if place == "handler": fail()
    if place == "timer": screen.set_timer(0.01, fail)
    if place == "task": screen.run_worker(fail_later())
    if place == "callback": screen.app._loop.call_soon(fail)
    if place == "render": StatusBar.render = fail; screen.status.refresh()
    if place == "input": terminal_driver.TerminalParser.feed = fail
ChatScreen.send = send
from llmchat.cli import main
main()
"""
"""Starts llmchat with a window that fails in the place that a message names."""


@pytest.mark.parametrize("place", ["handler", "timer", "task", "callback", "render", "input"])
def test_a_fault_is_told_and_loses_nothing(place: str, sandbox: Path) -> None:
    """One sentence with the log and the conversation, code 1, a clean terminal, the draft among the past prompts."""
    with terminal(program=("-c", FAULT)) as it:
        it.wait_for("ready")
        it.press(f"{place} and\r")
        if place == "input":
            it.wait_for("generating")
            it.press("x")
        assert it.wait_for_end() == 1
        path, log = latest_transcript(), sandbox / "state" / "llmchat.log"
        assert path is not None
        assert it.last_words.replace("\n", "") == (
            f"llmchat: error: The window ended over an unexpected RuntimeError. The conversation is in {path}; "
            f"go on with: llmchat --continue. The log tells more: {log}"
        )
        assert it.raw.count(ENTERED) == it.raw.count(LEFT) == 1 and it.modes_now == it.modes
        assert "a fault of the test" in log.read_text()
        assert read_transcript(path)[0].path()[0].text == "kept"
        assert "a draft" in PromptHistory(history_path()).entries
