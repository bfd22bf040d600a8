"""Whatever is wrong, a person gets one line that says what to do, the right exit code, and keeps what there was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from llmchat.chat.archive import read_transcript
from llmchat.engine.engine import Logits
from llmchat.errors import TranscriptError
from llmchat.once import OnceOptions, run
from llmchat.options import StartOptions
from llmchat.worker.inference_worker import InferenceWorker
from tests.checkpoints.torch_files import Call, write_archive
from tests.conftest import DATA
from tests.fakes import ScriptedEngine, prepares
from tests.faults import file_size_limit, open_directory, read_only
from tests.patience import PATIENCE_SECONDS
from tests.program import TINY, Here, Outcome, command, needs_full_device, run_program

FORMATS = DATA / "llmbuilder-formats" / "2.0.0"
SHORT = ("-p", "Once upon a time", "-n", "4", "--seed", "1")


def failed(done: Outcome, code: int, *words: str) -> None:
    """Check the form of a failure: its code, one line on standard error, nothing on standard output."""
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("llmchat: error: ") and done.err.count("\n") == 1 and done.err.endswith("\n")
    assert not [word for word in words if word not in done.err], done.err


# ── models ───────────────────────────────────────────────────────────────────


def truncated(directory: Path, tiny: Path) -> Path:
    """A download that broke off."""
    path = directory / "model.pt"
    path.write_bytes((tiny / "model" / "model.pt").read_bytes()[:300_000])
    return path


def broken_gguf(directory: Path, tiny: Path) -> Path:
    """The right beginning and nothing sound after it."""
    path = directory / "model.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + bytes(40))
    return path


def empty_directory(directory: Path, tiny: Path) -> Path:
    """A directory that holds no model."""
    (directory / "notes.txt").touch()
    return directory


def zip_bomb(directory: Path, tiny: Path) -> Path:
    """A few kilobytes that unpack to gigabytes."""
    big = {"model/data/1": bytes(50 * 2**20)}
    return write_archive(directory / "model.pt", {}, records=big, compression=zipfile.ZIP_DEFLATED)


def code_in_a_pickle(directory: Path, tiny: Path) -> Path:
    """A file that would leave a mark if it were loaded as torch once did."""
    return write_archive(directory / "model.pt", Call(os.mkdir, str(directory / "mark")))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda directory, tiny: directory / "nothing.pt", ["There is no file or directory", "nothing.pt"]),
        (lambda directory, tiny: "smolm2", ["There is no model called 'smolm2'", "llmchat models"]),
        (truncated, ["model.pt", "is damaged or cut short"]),
        (broken_gguf, ["model.gguf"]),
        (empty_directory, ["is a directory without a model", ".gguf"]),
        (zip_bomb, ["model.pt"]),
        (code_in_a_pickle, ["model.pt"]),
        (lambda directory, tiny: os.devnull, ["null"]),
    ],
)
def test_models_that_cannot_be_opened(
    make: Callable[[Path, Path], Path | str], words: list[str], here: Here, tmp_path: Path, tiny_dir: Path
) -> None:
    """Exit code 4, the file's name and a way out; no code of the file is run."""
    failed(here("--once", "--model", make(tmp_path, tiny_dir), *SHORT), 4, *words)
    assert not (tmp_path / "mark").exists()


def test_a_failing_model_costs_no_transcript(here: Here, tmp_path: Path) -> None:
    """A transcript that is gone on with is not changed, and none is made, when the model cannot be opened."""
    path, new = tmp_path / "story.toml", tmp_path / "new.toml"
    assert here.tiny(*SHORT, "--save", path).code == 0
    before = path.read_bytes()
    failed(here("--once", "--model", "none.pt", *SHORT, "--save", path), 4)
    failed(here("--once", "--model", "none.pt", *SHORT, "--save", new), 4)
    assert path.read_bytes() == before
    assert not new.exists()


def test_tokenizers_of_another_size_never_crash(here: Here, tiny_dir: Path) -> None:
    """Tokens that only the model has are never drawn; those that only the tokenizer has are read as unknown."""
    larger = tiny_dir / "model" / "model.pt"
    smaller = FORMATS / "save_model" / "model.pt"
    for model, tokenizer in ((larger, FORMATS / "tokenizers" / "sp_bpe"), (smaller, tiny_dir / "tokenizer")):
        done = here("--once", "--model", model, "--tokenizer", tokenizer, *SHORT, "--json", "--temperature", "5")
        assert (done.code, done.err) == (0, "")
        assert len(json.loads(done.out)["token_ids"]) <= 4


@pytest.mark.parametrize(
    ("template", "code", "words"),
    [
        ("{% for message in messages %}", 2, ["template.jinja", "is not valid", "--chat-template"]),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", 1, ["--chat-template"]),
        ("Hello.", 2, ["template.jinja leaves out what you say", "--chat-template"]),
        ("{{ 'a' * 10 ** 10 }}", 1, ["--chat-template"]),
        ("{{ raise_exception('only code\nreviews') }}", 1, ["only code reviews"]),
    ],
)
def test_hostile_chat_templates(template: str, code: int, words: list[str], here: Here, tmp_path: Path) -> None:
    """A template can neither reach into Python nor hold up the program."""
    (tmp_path / "template.jinja").write_text(template)
    failed(here.tiny(*SHORT, "--chat-template", tmp_path / "template.jinja"), code, *words)


@pytest.mark.parametrize(("name", "code"), [("reading", 4), ("encoding", 1)])
def test_a_library_that_panics(name: str, code: int) -> None:
    """A panic of Rust is one sentence like any other fault: nobody waits, and its own words stay off the terminal."""
    model, tokenizer = DATA / "huggingface" / "llama", DATA / "tokenizer-panics" / f"{name}.json"
    failed(run_program("--once", "--model", model, "--tokenizer", tokenizer, *SHORT), code, "tokenizer")


def test_an_interrupt_ends_a_run_whose_model_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One signal is enough, also where the thread that should stop the reply hangs."""
    monkeypatch.setattr("llmchat.once._DRAIN_SECONDS", 0.01)
    gate = threading.Semaphore(0)

    class Stuck(ScriptedEngine):
        def decode(self, token_id: int, draft: Sequence[int] = ()) -> Logits:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().decode(token_id)

    options = OnceOptions(StartOptions(prompt="hi"))
    try:
        code = run(
            options, lambda post: InferenceWorker(post, prepares(lambda request, progress: Stuck("abc", gate=gate)))
        )
    finally:
        gate.release(1000)
    assert code == 128 + signal.SIGTERM


def test_a_chat_template_that_is_not_there(here: Here) -> None:
    """The built-in names are listed."""
    failed(here.tiny(*SHORT, "--chat-template", "chatlm"), 2, "chatlm", "chatml")


def test_numbers_that_are_not_finite(here: Here, tmp_path: Path, tiny_dir: Path) -> None:
    """A model whose numbers overflow ends with an error, not with nonsense."""
    payload = torch.load(tiny_dir / "model" / "model.pt", weights_only=True)
    payload["model_state_dict"]["token_embedding.weight"] *= 1e37
    torch.save(payload, tmp_path / "model.pt")
    given = ("--model", tmp_path / "model.pt", "--tokenizer", tiny_dir / "tokenizer")
    failed(here("--once", *given, *SHORT), 1, "not finite")


def test_a_prompt_longer_than_the_context(here: Here) -> None:
    """A Llama's context cannot slide: the numbers are named, and what to do."""
    done = here("--once", "--model", DATA / "huggingface" / "llama", "-p", "the sea " * 5000)
    failed(done, 1, "tokens, but the model's context holds", "Shorten the prompt.")


# ── prompts ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The prompt is empty"),
        (b" \r\n\t\n", "The prompt is empty"),
        (b"caf\xe9", "is not UTF-8 text"),
        (b"PK\x03\x04\0\0", "holds a zero byte"),
        (b"a" * (16 * 2**20 + 1), "is longer than 16 MiB"),
    ],
)
def test_prompt_files_that_are_no_prompt(content: bytes, words: str, here: Here, tmp_path: Path) -> None:
    """What is wrong with a prompt file is said before a model is opened."""
    (tmp_path / "prompt.txt").write_bytes(content)
    failed(here.tiny("--prompt-file", tmp_path / "prompt.txt"), 2, words)


def test_prompts_that_are_not_there(here: Here, tmp_path: Path) -> None:
    """A missing file, a directory, an empty text and no prompt at all have each their own words."""
    failed(here.tiny("--prompt-file", tmp_path / "none.txt"), 2, "none.txt cannot be read: there is no")
    failed(here.tiny("--prompt-file", tmp_path), 2, "is a directory")
    failed(here.tiny("--prompt", ""), 2, "The prompt is empty")
    failed(here.tiny("--prompt", "  "), 2, "The prompt is empty")
    failed(here.tiny("--prompt", "a\udcffb"), 2, "The prompt is not UTF-8 text")
    failed(here.tiny(*SHORT, "--system", "a\udcffb"), 2, "The system prompt is not UTF-8 text")
    failed(here.tiny(*SHORT, "--stop", "\udcff"), 2, "The stop string is not UTF-8 text")


# ── flags and settings ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--temperature 9", "temperature must be from 0 to 5, not 9."),
        ("--temperature nan", "temperature takes a number from 0 to 5"),
        ("--top-k -1", "top_k must be from 0 to 1000000, not -1."),
        ("--top-p x", "top_p takes a number from 0 to 1, not 'x'."),
        ("-n 0", "max_new_tokens must be from 1 to 1000000, not 0."),
        ("-n 1.5", "max_new_tokens takes a whole number"),
        ("-n 5 --min-new-tokens 6", "min_new_tokens (6) must not be above max_new_tokens (5)."),
        ("--seed many", "seed takes a whole number, or roll; not 'many'."),
        ("--seed -2", "seed must be a whole number from 0 to"),
        ("--seed 9223372036854775808", "from 0 to 9223372036854775807"),
        ("--stop=", "stop must not hold an empty string"),
        ("--preset wild", "Known: Greedy, Conservative, Balanced, Creative, Thinking."),
        ("--num-samples 0", "1<=x<=10000"),
        ("--threads 0", "threads takes a whole number from 1 to 1024"),
        ("--device tpu", "device takes auto, cpu, cuda"),
        ("--dtype int4", "dtype takes one of auto, float32"),
        ("--temprature 1", "'--temperature'"),
        ("--json --jsonl", "Give --json or --jsonl, not both."),
        ("--interactive", "Give --once or --interactive, not both."),
        ("--plain", "Give --once or --plain, not both."),
        ("--setup", "Give --once or --setup, not both."),
        ("--prompt-file x", "Give --prompt or --prompt-file, not both."),
        ("-c --resume x", "Give --continue or --resume, not both."),
        ("--save x --no-save", "Give --save or --no-save, not both."),
        ("--save ~nosuchuser/x.toml", "There is no home directory for ~nosuchuser"),
        ("extra", "No such command 'extra'."),
        ("modles", "Did you mean 'models'?"),
        ("--prompt", "requires an argument"),
    ],
)
def test_flags_that_cannot_be_meant(flags: str, words: str, here: Here) -> None:
    """Exit code 2, and the range, the choices or the nearest name."""
    failed(here.tiny("-p", "x", *flags.split()), 2, words)


def test_an_empty_name_is_no_file(here: Here) -> None:
    """As a shell's variable gives it that is not set: nothing would be kept, without a word."""
    failed(here.tiny("-p", "x", "--save", ""), 2, "A file's name is empty.")


@pytest.mark.parametrize("flags", ["--json", "--jsonl", "--stats", "--num-samples 2"])
def test_flags_that_need_once(flags: str, here: Here) -> None:
    """A flag that would do nothing in the window is refused."""
    failed(here(*flags.split()), 2, f"{flags.split()[0]} goes with --once.")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("modle = 'x'", ["there is no setting called 'modle'", "Did you mean model?"]),
        ("[generation]\ntemprature = 1", ["Did you mean temperature?"]),
        ("[generation]\ntemperature = 9", ["temperature must be from 0 to 5"]),
        ("model = ", ["is not valid TOML", "line 1"]),
        ("threads = 'four'", ["threads takes a whole number from 1 to 1024"]),
        ("model = '\xff'", ["is not UTF-8 text"]),
    ],
)
def test_settings_files_that_are_wrong(content: str, words: list[str], here: Here, sandbox: Path) -> None:
    """The file, the key and the nearest known key."""
    path = sandbox / "config" / "settings.toml"
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    failed(here.tiny(*SHORT), 2, str(path), *words)
    failed(here.tiny(*SHORT, "--config", sandbox / "other.toml"), 2, "There is no settings file", "other.toml")


def test_the_window_needs_a_terminal() -> None:
    """Without a terminal the window is refused, and the way out is named."""
    done = run_program("--model", "tiny")
    failed(done, 2, "The window needs a terminal.", "llmchat --once --prompt TEXT")


# ── disks and descriptors ────────────────────────────────────────────────────


@needs_full_device
def test_a_full_disk_under_the_reply() -> None:
    """A reply that cannot be written ends with exit code 1 and its cause."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(*TINY, *SHORT), stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE_SECONDS)
    failed(Outcome(done.returncode, "", done.stderr.decode()), 1, "cannot be written: the disk is full.")


def test_streams_that_are_closed() -> None:
    """A closed standard input is no prompt, a closed output is told, a closed error harms nothing."""
    shell = '"$@" <&- ; "$@" -p x -n 1 >&- ; "$@" -p x -n 4 2>&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *command(*TINY)], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    first, second = done.stderr.splitlines()
    assert first.startswith("llmchat: error: --once needs a prompt: --prompt TEXT")
    assert second == "llmchat: error: The reply cannot be written: bad file descriptor."
    assert done.returncode == 0 and done.stdout.strip()


def test_a_full_disk_under_the_transcript(here: Here, tmp_path: Path) -> None:
    """The reply is printed all the same, the failure told, and what was kept before is whole."""
    path = tmp_path / "story.toml"
    assert here.tiny(*SHORT, "--save", path).code == 0
    before = path.read_bytes()
    with file_size_limit(len(before) + 100):
        done = here.tiny(*SHORT, "--save", path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "story.toml cannot be written (the file would be larger than allowed)" in done.err
    assert done.out.endswith("\n") and len(done.out) > 5
    assert path.read_bytes() == before
    assert here("export", path).code == 0


def test_a_transcript_directory_that_may_only_be_read(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be made is told before a model is opened; a reply without one goes through."""
    with open_directory() as directory:
        (directory / "file").touch()
        monkeypatch.setenv("LLMCHAT_HOME", str(directory / "home"))
        missing = ("--once", "--model", "none.pt", *SHORT)
        failed(here(*missing, "--save", directory / "file" / "new.toml"), 1, "is a file, not a directory")
        with read_only(directory):
            failed(here(*missing, "--save", directory / "new.toml"), 1, "new.toml cannot be written (no permission")
        failed(here(*missing, "--save", directory / "none" / "new.toml"), 1, "there is no")


def test_a_transcript_that_may_only_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not changed: the reply is printed, then the failure told; with keep=False there is no failure."""

    def ask(path: Path, *, keep: bool = True) -> int:
        start = StartOptions(
            prompt="And?", save=None if path.exists() else path, resume=path if path.exists() else None
        )
        options = OnceOptions(start, keep=keep)
        return run(
            options, lambda post: InferenceWorker(post, prepares(lambda request, progress: ScriptedEngine("Yes.")))
        )

    with open_directory() as directory:
        path = directory / "story.toml"
        assert ask(path) == 0
        before = path.read_bytes()
        with read_only(directory, path):
            with pytest.raises(TranscriptError, match="it may only be read"):
                ask(path)
            assert ask(path, keep=False) == 0
        assert path.read_bytes() == before
    assert capsys.readouterr() == (
        "Yes.\n" * 3,
        "llmchat: story.toml may only be read: the conversation goes on unsaved.\n",
    )


def test_a_home_that_cannot_be_written() -> None:
    """One reply needs no place on the disk at all."""
    done = run_program(*TINY, *SHORT, env={"LLMCHAT_HOME": "/proc/llmchat"})
    assert (done.code, done.err) == (0, "")
    assert done.out


def test_transcripts_that_cannot_be_read(here: Here, tmp_path: Path) -> None:
    """A missing, a foreign and a newer transcript are refused by every command that reads one, unchanged."""
    foreign, newer = tmp_path / "foreign.toml", tmp_path / "newer.toml"
    foreign.write_text("name = 'x'\n")
    newer.write_text("schema = 99\n")
    for path, words in ((tmp_path / "none.toml", "there is no"), (foreign, "foreign.toml"), (newer, "newer.toml")):
        for given in (("--once", *SHORT, "--model", "tiny", "--resume", path), ("replay", path), ("export", path)):
            failed(here(*given), 1, words)
    assert (foreign.read_text(), newer.read_text()) == ("name = 'x'\n", "schema = 99\n")


def test_a_transcript_that_is_open_elsewhere(here: Here, tmp_path: Path) -> None:
    """Two programs never write to one transcript."""
    path = tmp_path / "story.toml"
    line = command(*TINY, "-p", "Once", "-n", "1000000", "--save", path)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        other.stdout.read(1)
        failed(here.tiny(*SHORT, "--save", path), 1, "is open in another llmchat")
        other.send_signal(signal.SIGINT)
        other.communicate(timeout=PATIENCE_SECONDS)
    assert len(read_transcript(path)[0]) == 2
