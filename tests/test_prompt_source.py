"""What is piped in beside a prompt is joined with it, and what stands where a command could is a question."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import pytest

from llmchat import prompt_source
from llmchat.errors import UsageError
from llmchat.prompt_source import read_prompt
from tests.patience import PATIENCE_SECONDS
from tests.program import Here, Outcome, command, run_program
from tests.terminals import terminal

SHOWN = ("--model", "tiny", "--raw", "--dry-run")
SHORT = ("--model", "tiny", "-n", "4", "--seed", "1")


def shown(done: Outcome) -> str:
    """The prompt that a dry run printed, as the storyteller's tokenizer has it: small letters and single spaces."""
    assert (done.code, done.err) == (0, "")
    return done.out.rpartition("\n---\n")[0].strip()


@contextmanager
def as_stdin(descriptor: int) -> Iterator[None]:
    """Have a descriptor be standard input."""
    with pytest.MonkeyPatch.context() as patch, os.fdopen(descriptor) as stream:
        patch.setattr(sys, "stdin", stream)
        yield


def piped(data: bytes) -> int:
    """The reading end of a pipe that has some bytes in it and has been closed."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def joined(data: bytes, prompt: str | None) -> str | None:
    """What comes of piped bytes and a prompt."""
    with as_stdin(piped(data)):
        return read_prompt(prompt, None, piped=True)


@pytest.mark.parametrize(
    ("data", "prompt", "whole"),
    [
        (b"the diff\n", "Summarise", "the diff\n\nSummarise"),
        (b"a\r\nb\r\n\n", "Summarise\n", "a\nb\n\n\nSummarise"),
        (b"the diff\n", "Read {stdin} twice: {stdin}.", "Read the diff twice: the diff."),
        (b"a {stdin} b", "<{stdin}>", "<a {stdin} b>"),
        (b"the diff", "What is {{stdin}} in Jinja?", "the diff\n\nWhat is {{stdin}} in Jinja?"),
        (b"the diff", "What is {stdin }?", "the diff\n\nWhat is {stdin }?"),
        (b"\\1 \\g<0>", "{stdin}", "\\1 \\g<0>"),
        (b"", "What is {stdin}?", "What is {stdin}?"),
        (b" \n\n", "What?", "What?"),
        (b"the diff\n", "", "the diff"),
        (b"the diff\n", None, "the diff"),
        (b"", None, None),
    ],
)
def test_what_is_piped_in_is_joined_with_the_prompt(data: bytes, prompt: str | None, whole: str | None) -> None:
    """It stands first and a blank line behind it, or in its place; the prompt's braces else mean nothing."""
    assert joined(data, prompt) == whole


def test_the_diff_is_seen(tmp_path: Path) -> None:
    """With --prompt, with --prompt-file and with a file for standard input; --no-stdin leaves it alone."""
    (tmp_path / "q.txt").write_text("Summarise\n")
    for flags in (("-p", "Summarise"), ("--prompt-file", tmp_path / "q.txt")):
        assert shown(run_program("--once", *SHOWN, *flags, stdin=b"the diff\n")) == "the diff summarise"
        assert shown(run_program("--once", *SHOWN, *flags, "--no-stdin", stdin=b"the diff\n")) == "summarise"
    (tmp_path / "diff").write_text("the diff\n")
    with (tmp_path / "diff").open() as file:
        done = subprocess.run(command("--once", *SHOWN, "-p", "S"), stdin=file, capture_output=True, check=True)
    assert done.stdout.startswith(b" the diff s\n")


def test_a_loop_keeps_its_lines() -> None:
    """With --no-stdin a run inside a loop that reads lines does not eat them."""
    program = " ".join(command("--once", *SHOWN, "--no-stdin", "-p"))
    loop = f'while read -r line; do {program} "$line" </dev/stdin || exit; done'
    done = subprocess.run(["sh", "-c", loop], input=b"one\ntwo\n", capture_output=True, timeout=PATIENCE_SECONDS)
    assert done.stdout.decode().splitlines()[::3] == [" one", " two"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"diff \xe9\x80", "from standard input is not UTF-8"),
        (b"\0\1\2", "from standard input is no text"),
        ("Hallo".encode("utf-16"), "from standard input is text in UTF-16"),
        (b"x" * (prompt_source.PROMPT_LIMIT + 1), "from standard input is longer than 16 MiB"),
    ],
)
def test_what_is_no_text_is_refused_beside_a_prompt_too(data: bytes, words: str, tmp_path: Path) -> None:
    """The same sentences as for a prompt of its own."""
    (tmp_path / "data").write_bytes(data)
    for prompt in ("Summarise", "-", None):
        with as_stdin(os.open(tmp_path / "data", os.O_RDONLY)), pytest.raises(UsageError, match=words):
            read_prompt(prompt, None, piped=True)


def test_nothing_is_piped_in() -> None:
    """From /dev/null, and with standard input closed."""
    null = os.open(os.devnull, os.O_RDONLY)
    with as_stdin(null):
        assert read_prompt("What?", None, piped=True) == "What?"
    line = " ".join(command("--once", *SHOWN, "-p", "What?"))
    done = subprocess.run(["sh", "-c", f"{line} <&-"], capture_output=True, timeout=PATIENCE_SECONDS)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.startswith(b" what?\n")


def test_a_silent_pipe_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody writes and nobody closes: nothing is answered without what was to come, and nothing hangs."""
    monkeypatch.setattr(prompt_source, "SILENT_SECONDS", 0.02)
    monkeypatch.setattr(prompt_source, "_TOLD_AFTER_SECONDS", 0.01)
    reading, writing = os.pipe()
    near, far = socket.socketpair()
    for descriptor in (reading, near.detach()):
        with as_stdin(descriptor), pytest.raises(UsageError, match="Leave it alone with --no-stdin"):
            read_prompt("What?", None, piped=True)
    os.close(writing)
    far.close()
    assert capsys.readouterr() == ("", "")


def test_a_person_is_told_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line at a terminal, and what comes then is whole."""
    monkeypatch.setattr(prompt_source, "_TOLD_AFTER_SECONDS", 0.01)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with subprocess.Popen(
        [sys.executable, "-c", "input(); print('late')"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as producer:
        assert producer.stdin is not None and producer.stdout is not None
        waiting = os.dup(producer.stdout.fileno())

        def told(text: str, file: IO[str]) -> Any:
            producer.stdin.write(b"\n")  # type: ignore[union-attr]
            producer.stdin.flush()  # type: ignore[union-attr]
            return file.write(text)

        monkeypatch.setattr(prompt_source, "print", told, raising=False)
        with as_stdin(waiting):
            assert read_prompt("What?", None, piped=True) == "late\n\nWhat?"
    assert capsys.readouterr().err == "llmchat: waiting for standard input; --no-stdin leaves it alone."


def test_a_slow_producer_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once something has come, however long the rest takes; and a prompt with a place for it waits in any case."""
    monkeypatch.setattr(prompt_source, "SILENT_SECONDS", 0.02)
    monkeypatch.setattr(prompt_source, "_TOLD_AFTER_SECONDS", 0.01)
    usual, is_read = prompt_source._read, threading.Event()

    def read(handle: BinaryIO, source: str) -> str:
        is_read.set()
        return usual(handle, source)

    def write(descriptor: int, first: bytes) -> None:
        os.write(descriptor, first)
        is_read.wait(PATIENCE_SECONDS)
        os.write(descriptor, b"ab"[len(first) :])
        os.close(descriptor)

    monkeypatch.setattr(prompt_source, "_read", read)
    for first, prompt, whole in ((b"a", "What?", "ab\n\nWhat?"), (b"", "<{stdin}>", "<ab>")):
        is_read.clear()
        reading, writing = os.pipe()
        thread = threading.Thread(target=write, args=(writing, first))
        thread.start()
        with as_stdin(reading):
            assert read_prompt(prompt, None, piped=True) == whole
        thread.join()


# ── without --once ───────────────────────────────────────────────────────────


def test_a_pipe_alone_is_answered() -> None:
    """As --once does, with its flags; for the window a terminal is still needed where nothing comes."""
    asked = run_program("--once", *SHORT, stdin=b"Once upon a time\n")
    assert asked.code == 0 and asked.out.strip()
    assert run_program(*SHORT, stdin=b"Once upon a time\n") == asked
    assert run_program(*SHORT, "-p", "upon a time", stdin=b"Once").code == 0
    assert '"prompt": "Once"' in run_program(*SHORT, "--json", stdin=b"Once\n").out
    for flags in ((), ("--interactive",)):
        done = run_program(*SHORT, *flags)
        assert done.code == 2 and "The window needs a terminal. For one reply: llmchat --once" in done.err


def test_a_question_is_answered() -> None:
    """Options stand before it and behind it; what is piped in is joined with it."""
    asked = run_program("--once", *SHORT, "-p", "Once upon a time")
    assert run_program(*SHORT, "Once upon a time") == asked
    assert run_program("Once upon a time", *SHORT) == asked
    assert run_program(*SHORT[2:], "Once upon a time", *SHORT[:2]) == asked
    assert shown(run_program("What is it?", *SHOWN, "--once", stdin=b"the diff")) == "the diff what is it?"
    assert '"stop": ["a", "b"]' in run_program("--once", "--stop", "a", *SHORT, "Once on", "--stop", "b", "--json").out


def test_a_question_in_a_terminal_is_answered_and_that_is_all() -> None:
    """No window is opened."""
    with terminal("-n", "3", "Once upon a time") as it:
        assert it.wait_for_end() == 0
        assert "\x1b[?1049h" not in it.raw and it.text.strip()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("modles", "No such command 'modles'. Did you mean 'models'?"),
        ("modles --help", "No such command 'modles'. Did you mean 'models'?"),
        ("exprot story.toml", "No such command 'exprot'. Did you mean 'export'?"),
        ("hi", "No such command 'hi'. To ask that: llmchat --once --prompt hi"),
        ("--interactive hi", "No such command 'hi'. To ask that: llmchat --interactive --prompt hi"),
        ("hi --plain", "No such command 'hi'. To ask that: llmchat --plain --prompt hi"),
        ("what is this", "A question stands in quotes: llmchat 'Why is the sea salty?'"),
        ("no/such.gguf", "No such command 'no/such.gguf'."),
        (".", "'.' is a file or directory. A model is given with --model"),
    ],
)
def test_what_is_no_question_is_told(words: str, sentence: str, here: Here) -> None:
    """A mistyped command, a file and words without quotes are not asked; one line says what to do."""
    done = here(*words.split())
    assert done.code == 2 and sentence in done.err and len(done.err.splitlines()) == 1


def test_a_question_that_contradicts(here: Here, tmp_path: Path) -> None:
    """Two prompts, an empty one, and the name of a file with a space in it."""
    assert "Give the question or --prompt, not both." in here("-p", "x", "What is it?").err
    assert "The prompt is empty." in here("").err
    assert "Give --no-stdin or -, not both." in here("--once", "--no-stdin", "-p", "-").err
    (tmp_path / "my model.gguf").touch()
    assert "is a file or directory" in here(tmp_path / "my model.gguf").err


@pytest.mark.parametrize("text", ["a question\n", "a question"])
def test_the_last_line_feed_is_left_out_wherever_a_prompt_comes_from(text: str, tmp_path: Path) -> None:
    """A flag, a file and a pipe give the same prompt; of two line feeds, one stays."""
    path = tmp_path / "q.txt"
    for whole, prompt in ((text, "a question"), (f"{text.strip()}\n\n", "a question\n")):
        path.write_text(whole)
        assert read_prompt(whole, None) == read_prompt(None, str(path)) == prompt
        with as_stdin(piped(whole.encode())):
            assert read_prompt("-", None) == prompt
