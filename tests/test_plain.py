"""The line-by-line conversation, with the real model, through pipes and in a real terminal."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmchat.chat.archive import list_transcripts, read_transcript
from llmchat.chat.generation_config import GenerationConfig
from llmchat.engine.engine import Engine
from llmchat.engine.opened import PreparedModel
from llmchat.errors import ModelLoadError, TranscriptError
from llmchat.once import OnceOptions, run
from llmchat.options import StartOptions
from llmchat.plain import run_plain
from llmchat.settings import ResolvedGeneration, Settings
from llmchat.tokenizers.gguf_vocab import load_gguf_vocab
from llmchat.tokenizers.prompt_style import load_prompt_style
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import Request
from tests.fakes import ByteTokenizer, ChangingEngine, ScriptedEngine
from tests.patience import PATIENCE_SECONDS
from tests.tokenizers.vocabularies import byte_level_metadata

GREEDY = GenerationConfig(do_sample=False, max_new_tokens=12)


def options_of(config: GenerationConfig = GREEDY, **settings: object) -> StartOptions:
    """A start with the tiny model that comes with llmchat."""
    return StartOptions(Settings().merged(model="tiny", **settings), ResolvedGeneration(config))


def talk(monkeypatch: pytest.MonkeyPatch, lines: str, options: StartOptions | None = None) -> None:
    """Hold a conversation with these lines on standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    run_plain(options or options_of())


def opens(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """Let every model be this one."""
    model = PreparedModel("scripted", lambda: engine)
    monkeypatch.setattr("llmchat.engine.opening.prepare_model", lambda spec, progress, cancel, may_fetch: model)


def said_by_model(output: str) -> list[str]:
    """The replies in what was printed."""
    return [line.removeprefix("tiny: ") for line in output.splitlines() if line.startswith("tiny: ")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("front_end", ["plain", "once"])
def test_a_worker_that_has_ended_is_told(
    front_end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody waits for ever: the one error is said, and the program ends."""

    def end_the_thread(worker: InferenceWorker, request: Request) -> None:
        raise SystemExit

    monkeypatch.setattr(InferenceWorker, "_serve", end_the_thread)
    with pytest.raises(ModelLoadError, match="has stopped: start llmchat again"):
        if front_end == "plain":
            talk(monkeypatch, "Once upon a time\n")
        else:
            run(OnceOptions(StartOptions(Settings().merged(model="tiny"), prompt="hi")))


# ── piped in ──


def test_lines_from_a_pipe_are_answered_until_the_input_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script can pipe lines in; each is echoed and answered, the last one too without a line end."""
    talk(monkeypatch, "Once upon a time\n\nThe lion said")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "Opening tiny."
    assert "tiny is ready on cpu." in lines
    assert [line for line in lines if line.startswith("You: ")] == ["You: Once upon a time", "You: The lion said"]
    assert len(said_by_model(out)) == 2
    assert "\x1b" not in out
    assert err == ""


def test_a_model_that_runs_otherwise_than_told_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why an engine had to go on without its CUDA graph is a line of the conversation."""
    opens(monkeypatch, ChangingEngine())
    talk(monkeypatch, "hi\nhi\n")
    out, err = capsys.readouterr()
    assert out.splitlines().count(ChangingEngine.NOTE) == 1 and err == ""


def test_a_model_that_does_not_open_leaves_the_one_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped name is one line on standard error, and the next line is answered."""
    talk(monkeypatch, "/model tinny\nOnce upon a time\n")
    out, err = capsys.readouterr()
    assert err.startswith("Error: There is no model called 'tinny', nor") and err.endswith(". tiny stays open.\n")
    assert len(said_by_model(out)) == 1


def test_a_message_that_is_too_long_is_said_and_is_no_turn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The numbers are on standard error; the next message is answered with all that was said before."""
    style = load_prompt_style("plain", ByteTokenizer())
    engine = ScriptedEngine("Yes.", context_length=120, prompt_style=style)
    opens(monkeypatch, engine)
    talk(monkeypatch, f"one\n{'much too long ' * 20}\ntwo\n")
    out, err = capsys.readouterr()
    assert "context holds 120" in err and "was not said" in out and "no longer fit" not in out
    (summary,) = list_transcripts()
    assert [turn.text for turn in read_transcript(summary.path)[0]] == ["one", "Yes.", "two", "Yes."]


def test_the_conversation_is_kept_like_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every turn is in a transcript file afterwards, with its tokens."""
    talk(monkeypatch, "Once upon a time\n")
    (summary,) = list_transcripts()
    turns = read_transcript(summary.path)[0].path()
    assert [turn.role for turn in turns] == ["user", "assistant"]
    assert turns[1].reply is not None and len(turns[1].reply.token_ids) == 12


def test_nothing_is_kept_without_autosave(monkeypatch: pytest.MonkeyPatch) -> None:
    """--no-save leaves no file behind."""
    talk(monkeypatch, "Once upon a time\n", options_of(autosave=False))
    assert list_transcripts() == []


def test_commands_act_and_a_wrong_one_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings change, an unknown command never reaches the model, and the conversation goes on."""
    talk(monkeypatch, "/set max_new_tokens 3\n/sett top_k 1\n/theme day\n/seed lock\n/set stop\nOnce\n/stats\n")
    out, err = capsys.readouterr()
    assert "max_new_tokens 3." in out
    assert "stop off" in out
    assert "Reply: 3 tokens" in out
    errors = err.splitlines()
    assert [line.startswith("Error: ") for line in errors] == [True] * 3
    assert "/sett" in errors[0] and "window only" in errors[1] and "/seed 8417" in errors[2]


def test_every_command_of_the_window_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each command of the window that acts here does so."""
    exported, saved = tmp_path / "talk.md", tmp_path / "talk.toml"
    lines = [
        "/help", "/help set", "Once", f"/save {saved}", f"/export {exported}", "/continue", "/regen 2", *["/undo"] * 4,
        "/redo", "/undo", "/compact", "/compact yes", "/raw on", "/system Be kind", "/prefill The", "/preset creative",
        "/reset top_k", "/model", "/new",
        f"/load {saved}", "/reset", "/seed roll", "/seed 7", "/exit", "never read",
    ]  # fmt: skip
    talk(monkeypatch, "\n".join(lines))
    out, err = capsys.readouterr()
    assert err == ""
    assert "Taken back: Once" in out
    assert "Dropped for good: 0 turns." in out
    assert "Going on with talk.toml, 0 turns so far." in out
    assert "seed 7." in out
    assert "never read" not in out
    assert exported.read_text().startswith("# Once")


def test_what_holds_for_every_reply_can_be_switched_off_and_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Off is off for a prefill, a system prompt and stop strings; what is on at the start is said then."""
    lines = [
        "/prefill Once",
        "/prefill off",
        r'/set stop "\n" "User:"',
        "/set stop off",
        "/system Be kind",
        "/system off",
    ]
    talk(monkeypatch, "\n".join(lines), options_of(GREEDY.changed(stop=("@",))))
    out = capsys.readouterr().out
    assert 'For every reply: stop "@".' in out
    assert "Every reply begins with: Once\n" in out and "Replies begin by themselves." in out
    assert r'stop "\n" "User:".' in out and "stop off." in out
    assert "There is no system prompt now." in out
    assert "with: off" not in out and "now: off" not in out


def test_the_prompt_is_shown_with_its_control_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """/prompt prints what the model is given, and which names in it are text and which are tokens."""
    vocabulary = load_gguf_vocab(byte_level_metadata()).tokenizer
    engine = ScriptedEngine(context_length=500, prompt_style=load_prompt_style("chatml", vocabulary))
    monkeypatch.setattr(engine, "tokenizer", vocabulary)
    engine.info = replace(engine.info, vocab_size=vocabulary.vocab_size)
    opens(monkeypatch, engine)
    talk(monkeypatch, "/prompt hello <|im_end|>\n/prompt\n")
    out, err = capsys.readouterr()
    assert "<|im_start|>user\nhello <|im_end|><|im_end|>\n<|im_start|>assistant" in out
    assert "control tokens: <|im_start|> ×2, <|im_end|> ×1. Read as text, not as control tokens: <|im_end|>." in out
    assert "Nothing was said yet" in err


def test_what_needs_the_window_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that only the window has are refused in words, and not offered by /help."""
    lines = ["/copy", "/theme", "/compare temperature=0 creative", "/checkpoint newest", "/heat off"]
    talk(monkeypatch, "\n".join(["/help", *lines]))
    out, err = capsys.readouterr()
    assert (out + err).count("works in the window only.") == len(lines)
    assert "/regen [N]" in out and "/checkpoint [" not in out


def test_regenerating_greedily_says_the_same_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """/regen answers the same message once more, and waits for each of several."""
    talk(monkeypatch, "Once upon a time\n/regen 2\n")
    replies = said_by_model(capsys.readouterr().out)
    assert len(replies) == 3
    assert len(set(replies)) == 1


def test_a_backslash_carries_a_message_over_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that ends in a backslash and the next are one message."""
    talk(monkeypatch, "Once upon\\\na time\n")
    (summary,) = list_transcripts()
    assert read_transcript(summary.path)[0].path()[0].text == "Once upon\na time"


def test_a_prompt_of_the_command_line_is_answered_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """--prompt is sent as soon as the model is open; --save names the file."""
    path = tmp_path / "kept.toml"
    start = options_of()
    talk(monkeypatch, "", StartOptions(start.settings, start.generation, prompt="Once", save=path))
    assert "You: Once" in capsys.readouterr().out
    assert len(read_transcript(path)[0]) == 2


def test_a_conversation_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """--resume repeats how the conversation ended and adds to the same file."""
    path = tmp_path / "kept.toml"
    start = options_of()
    talk(monkeypatch, "Once\n", StartOptions(start.settings, start.generation, save=path))
    talk(monkeypatch, "And then\n", StartOptions(start.settings, start.generation, resume=path))
    assert "Going on with kept.toml, 2 turns so far." in capsys.readouterr().out
    assert [turn.text for turn in read_transcript(path)[0].path()][0::2] == ["Once", "And then"]


def test_text_of_a_transcript_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An escape sequence in a message comes back as a visible stand-in."""
    talk(monkeypatch, "Once \x1b[31m red\n")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "You: Once ␛[31m red" in out


def test_a_model_that_is_not_there_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes to the command line, which prints its one line and exits with 4."""
    start = StartOptions(Settings(model="/nowhere/model.pt"))
    with pytest.raises(ModelLoadError, match="nowhere"):
        talk(monkeypatch, "Once\n", start)


def test_another_model_that_is_not_there_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed /model is one line; another one can be opened then."""
    talk(monkeypatch, "/model /nowhere/model.pt\n/model tiny\nOnce\n")
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "nowhere" in err
    assert len(said_by_model(out)) == 1


def test_a_damaged_transcript_ends_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is no transcript is refused before a model is opened."""
    path = tmp_path / "kept.toml"
    path.write_text("no transcript")
    start = options_of()
    with pytest.raises(TranscriptError):
        talk(monkeypatch, "", StartOptions(start.settings, start.generation, resume=path))


def test_a_closed_pipe_ends_it_quietly() -> None:
    """When nobody reads any more, nothing is printed about it and the exit code is SIGPIPE's."""
    with subprocess.Popen(
        [sys.executable, "-m", "llmchat", "--plain", "-m", "tiny", "-n", "400"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"Once upon a time\n" * 5)
            process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=PATIENCE_SECONDS) == 141
        process.stdin = None


# ── in a terminal ──


class Terminal:
    """`llmchat --plain` in a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        import pty

        environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
        self.process, self.handle = pty.fork()
        if self.process == 0:
            command = [sys.executable, "-m", "llmchat", "--plain", "-m", "tiny", *arguments]
            os.execve(sys.executable, command, environment)
        self.output = ""

    def type(self, text: str) -> None:
        """Type some text."""
        os.write(self.handle, text.encode())

    def read_until(self, words: str, times: int = 1) -> None:
        """Read the screen until these words were printed so many times."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.output.count(words) < times:
            readable, _, _ = select.select([self.handle], [], [], max(deadline - time.monotonic(), 0))
            assert readable, self.output
            self._read()

    def until_edited(self) -> None:
        """Read on until the terminal hands over key by key: the line is being edited."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while termios.tcgetattr(self.handle)[3] & termios.ICANON:
            assert time.monotonic() < deadline, self.output
            if select.select([self.handle], [], [], 0.01)[0]:
                self._read()

    def wait(self) -> int:
        """Read to the end and return the exit code."""
        with contextlib.suppress(OSError):
            while self._read():
                pass
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def _read(self) -> bytes:
        data = os.read(self.handle, 4096)
        self.output += data.decode(errors="replace")
        return data


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals to be closed, and their programs ended, after the test."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(terminal.process, signal.SIGKILL)
            os.waitpid(terminal.process, 0)
        os.close(terminal.handle)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_stops_a_reply_and_twice_at_the_prompt_leaves(terminals: list[Terminal]) -> None:
    """The whole way in a terminal: type, stop, go on, leave; no escape code is ever sent."""
    terminal = Terminal("-n", "100000", "--min-new-tokens", "100000")
    terminals.append(terminal)
    terminal.read_until("You: ")
    terminal.type("Once upon a time\r")
    terminal.read_until("tiny: ")
    terminal.type("\x03")
    terminal.read_until("(stopped)")
    terminal.read_until("You: ", times=2)
    terminal.until_edited()
    terminal.type("half a line")
    terminal.read_until("half a line")
    terminal.type("\x03")
    terminal.read_until("Press Ctrl-C again to leave.")
    terminal.read_until("You: ", times=3)
    terminal.type("\x03")
    assert terminal.wait() == 0
    assert "\x1b" not in terminal.output
    (summary,) = list_transcripts()
    assert f"Saved: {summary.path}" in terminal.output
    assert summary.turn_count == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_d_leaves(terminals: list[Terminal]) -> None:
    """The end of input leaves at once; without a conversation there is nothing to have saved."""
    terminal = Terminal()
    terminals.append(terminal)
    terminal.read_until("You: ")
    terminal.type("\x04")
    assert terminal.wait() == 0
    assert "Saved:" not in terminal.output


@pytest.mark.stress
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_is_heard_as_the_wait_for_a_line_begins(terminals: list[Terminal]) -> None:
    """Pressed once, as soon as the prompt is there, it is answered each time."""
    terminal = Terminal()
    terminals.append(terminal)
    for time_pressed in range(1, 101):
        terminal.read_until("You: ", times=2 * time_pressed - 1)
        terminal.type("\x03")
        terminal.read_until("Press Ctrl-C again to leave.", times=time_pressed)
        terminal.read_until("You: ", times=2 * time_pressed)
        terminal.type("\r")
