"""The command line: help, the small commands, where prompts come from, and how the program ends."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from llmchat import __version__
from llmchat.chat.generation_config import SAMPLING_SPECS, GenerationConfig
from llmchat.cli import cli
from llmchat.cli_options import OPTIONS, start_options
from llmchat.errors import TranscriptError, UsageError
from llmchat.prompt_source import read_prompt
from tests.checkpoints.test_fetch import configure_pip
from tests.patience import PATIENCE_SECONDS
from tests.program import TINY, Here, Outcome, command, needs_full_device, run_program


def options(*arguments: str) -> dict[str, object]:
    """What click makes of a command line."""
    context = cli.make_context("llmchat", [*arguments])
    return context.params


# ── help and the small commands ──────────────────────────────────────────────


def test_help_has_a_flag_for_every_parameter(here: Here) -> None:
    """Every row of SAMPLING_SPECS has its flag, with its range and default; so have all the documented options."""
    done = here("--help")
    assert (done.code, done.err) == (0, "")
    words = " ".join(done.out.split())
    for spec in SAMPLING_SPECS:
        assert f"--{spec.name.replace('_', '-')}" in words
        assert f"{spec.range_text}; default {spec.default:g}." in words
    documented = """--model --tokenizer --chat-template --device --dtype --engine --threads --heads --prompt
        --prompt-file --system --prefill --raw --stop --greedy --seed --max-tokens --preset --once --json --jsonl
        --stats --num-samples --quiet --continue --resume --save --no-save --setup --interactive --theme --plain
        --config --paths --version models pull replay export bench"""
    assert not [name for name in documented.split() if name not in words]
    assert here("-h").out == done.out


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        ("portable", "models run on: native portable · "),
        ("none", "models run on: torch, because LLMCHAT_KERNELS=none asks for torch · "),
        ("altivec", "models run on: torch, because this machine cannot run LLMCHAT_KERNELS=altivec · "),
    ],
)
def test_the_version_in_full(here: Here, monkeypatch: pytest.MonkeyPatch, kernels: str, words: str) -> None:
    """A bug report can say which path models take, and why it is not the native one."""
    monkeypatch.setenv("LLMCHAT_KERNELS", kernels)
    monkeypatch.setattr("llmchat.engine.opening.torch_finds_gpu", lambda: False)
    done = here("--version", "-v")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"llmchat {__version__}\n{words}")
    assert "torch 2." in done.out


def test_version_and_paths(here: Here, sandbox: Path) -> None:
    """Both need neither settings nor a model; a broken settings file does not stand in their way."""
    (sandbox / "config").mkdir()
    (sandbox / "config" / "settings.toml").write_text("broken")
    assert here("--version") == here("-V") == Outcome(0, f"llmchat {__version__}\n", "")
    assert here("-v").code == 2
    done = here("--paths")
    assert (done.code, done.err) == (0, "")
    places = dict(line.split(":", 1) for line in done.out.splitlines())
    assert list(places) == ["settings", "themes", "models", "transcripts", "history", "log", "caches"]
    assert all(place.strip().startswith(str(sandbox)) for place in places.values())
    assert not list(sandbox.glob("[!c]*"))


def test_models_are_listed(here: Here, sandbox: Path) -> None:
    """The list says what each model is, and where it lies or how to get it."""
    done = here("models", "--json")
    default, tiny, *recommended = json.loads(done.out)
    assert list(default) == ["name", "description", "size_bytes", "path", "on_disk", "source", "licence"]
    assert {row["source"] for row in recommended} == {"recommended"} and len(recommended) > 10
    assert (default["name"], default["on_disk"], tiny["name"], tiny["on_disk"]) == ("smollm2", False, "tiny", True)
    assert Path(tiny["path"]).stat().st_size == tiny["size_bytes"]
    done = here("models")
    assert (done.code, done.err) == (0, "")
    assert "not fetched; llmchat pull smollm2" in done.out and tiny["path"] in done.out
    assert max(len(line) for line in done.out.splitlines() if "/" not in line) <= 80


def test_pull(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is there is named at once; without a network the one error names the ways out."""
    done = here("pull", "tiny")
    assert (done.code, done.err) == (0, "")
    assert Path(done.out.strip()).is_file()
    done = here("pull", "smolm2")
    assert (done.code, done.out) == (4, "")
    assert "There is no model called 'smolm2', nor a file of that name. Did you mean smollm2" in done.err
    nowhere = "http://127.0.0.1:9/simple"
    configure_pip(tmp_path, monkeypatch, index_url=nowhere, extra_index_url="", find_links="", retries="0")
    done = here("pull")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert "no working connection" in done.err and "llmchat pull smollm2" in done.err and "--model tiny" in done.err


def test_export_in_three_forms(here: Here, tmp_path: Path) -> None:
    """Each form is printed with one line end after it; an unknown form is refused with the known ones."""
    path = tmp_path / "story.toml"
    assert here.tiny("-p", "The sea", "-n", "4", "--save", path).code == 0
    for kind, begins in (("markdown", "# The sea\n"), ("text", "You:\nThe sea\n"), ("json", "{\n")):
        done = here("export", path, "--format", kind)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(begins) and done.out.endswith("\n") and not done.out.endswith("\n\n")
    assert here("export", path) == here("export", path, "--format", "markdown")
    assert json.loads(here("export", path, "--format", "json").out)["model"] == "tiny"
    done = here("export", path, "--format", "html")
    assert done.code == 2 and "'markdown', 'text', 'json'" in done.err


@needs_full_device
def test_a_closed_pipe_and_a_full_disk_end_every_command() -> None:
    """`llmchat --help | head` ends quietly, and a disk that is full is told in one line."""
    line = " ".join(f"'{word}'" for word in command("--help"))
    done = subprocess.run(
        ["sh", "-c", f"({line}; echo $? >&2) | true; {line} >/dev/full"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    # The pipe may close after all has been written; then there is nothing to notice.
    first, *rest = done.stderr.splitlines()
    assert first in ("141", "0")
    assert rest == ["llmchat: error: Reading or writing failed: the disk is full."]


def test_shells_can_complete() -> None:
    """The program tells a shell its options, as click programs do."""
    done = run_program(env={"_LLMCHAT_COMPLETE": "bash_complete", "COMP_WORDS": "llmchat --temp", "COMP_CWORD": "1"})
    assert (done.code, done.err) == (0, "")
    assert "plain,--temperature" in done.out.splitlines()


def test_an_interrupt_of_any_command_is_no_error(monkeypatch: pytest.MonkeyPatch, here: Here) -> None:
    """Ctrl-C ends with 130 and without a word."""

    def interrupted(*, as_json: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmchat.commands_models.list_models", interrupted)
    assert here("models") == Outcome(130, "", "")


def test_errors_are_one_line_whatever_they_hold(monkeypatch: pytest.MonkeyPatch, here: Here) -> None:
    """File names and library messages can neither break the line nor steer the terminal."""

    def failing(*, as_json: bool) -> None:
        raise TranscriptError("a\nb\x1b[2Jc\u202e.")

    monkeypatch.setattr("llmchat.commands_models.list_models", failing)
    assert here("models") == Outcome(1, "", "llmchat: error: a b␛[2Jc⇄.\n")


# ── prompts ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("data", [b"Once upon\na time", b"Once upon\r\na time\r\n", b"\xef\xbb\xbfOnce upon\na time\n"])
def test_prompts_are_the_same_wherever_they_come_from(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files with either line end, with or without a mark, "-" and a pipe give the same text."""
    path = tmp_path / "prompt.txt"
    path.write_bytes(data)

    def piped(text: str | None, file: str | None) -> str | None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return read_prompt(text, file, piped=True)

    assert {piped(None, str(path)), piped("-", None), piped(None, "-"), piped(None, None)} == {"Once upon\na time"}


def test_a_prompt_may_begin_with_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash, a sign; standard input that is no file of the system is left alone beside it."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the loop's")))
    for text in ("-5 degrees", "--help", "a\r\nb", "@file"):
        assert start_options(options("--once", "--prompt", text)).prompt == text
        assert start_options(options("--once", f"-p{text}")).prompt == text
    assert sys.stdin.read() == "the loop's"


def test_an_endless_input_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt is never read beyond what any context could hold."""
    with open("/dev/zero") as endless, pytest.raises(UsageError, match="longer than 16 MiB"):
        monkeypatch.setattr(sys, "stdin", endless)
        read_prompt("-", None)


def test_a_pipe_into_the_program() -> None:
    """Text that is piped in is the prompt."""
    done = run_program(*TINY, "-n", "4", "--seed", "1", "--json", stdin="Ünder\r\nthe sea\r\n".encode())
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["prompt"] == "Ünder\nthe sea"


# ── what flags come to ───────────────────────────────────────────────────────


def test_flags_go_over_presets_and_settings(sandbox: Path) -> None:
    """From weakest to strongest: defaults, the file's preset and values, the preset flag, the flags."""
    (sandbox / "config").mkdir()
    (sandbox / "config" / "settings.toml").write_text(
        "model = 'tiny'\npreset = 'creative'\n[generation]\ntop_k = 7\nmax_new_tokens = 9\n"
    )
    start = start_options(options())
    config = start.config
    assert (start.settings.model, config.temperature, config.top_k, config.max_new_tokens) == ("tiny", 1.5, 7, 9)
    flags = (
        "--preset",
        "conservative",
        "--top-p",
        "0.5",
        "--max-tokens",
        "3",
        "--temp",
        "0.1",
        "--stop",
        "a",
        "--stop",
        "b",
    )
    config = start_options(options(*flags, "--seed", "5", "-m", "x.gguf")).config
    assert (config.temperature, config.top_k, config.top_p, config.max_new_tokens) == (0.1, 50, 0.5, 3)
    assert (config.stop, config.seed, config.do_sample) == (("a", "b"), 5, True)
    assert start_options(options("--greedy")).config.is_greedy
    assert start_options(options("--seed", "roll", "--min-p", "off")).config.seed is None


def test_every_setting_of_a_reply_has_a_flag() -> None:
    """What can be set in the window can be set in a script."""
    flags = {option.name for option in OPTIONS}
    assert {item.name for item in fields(GenerationConfig)} - flags == {"do_sample"}  # that is --greedy
    order = "temperature penalties dry top_n_sigma top_k top_p min_p typical_p xtc"
    given: tuple[str, ...] = (
        "--sampler-order",
        order,
        "--banned-tokens",
        "7 5",
        "--dry-breakers",
        r"\n ;",
        "--temperature-last",
    )
    given += ("--xtc-spares-ends", "off")
    config = start_options(options(*given)).config
    assert config.sampler_order == tuple(order.split())
    assert (config.banned_tokens, config.dry_breakers, config.temperature_last) == ((5, 7), ("\n", ";"), True)
    assert not config.xtc_spares_ends


def test_a_conversation_brings_its_model(tmp_path: Path, here: Here) -> None:
    """Without --model a conversation goes on with the model it began with, if that is still there."""
    path = tmp_path / "story.toml"
    assert here.tiny("-p", "The sea", "-n", "2", "--save", path).code == 0
    own = start_options(options("--resume", str(path))).settings
    assert own.model.endswith("tiny.pt") and own.tokenizer
    assert start_options(options("--save", str(path))).settings.model == own.model
    assert start_options(options("--resume", str(path), "-m", "other.gguf")).settings.model == "other.gguf"
    path.write_text(path.read_text().replace("tiny.pt", "gone.pt"))
    assert start_options(options("--resume", str(path))).settings.model == ""
    done = here("--once", "--resume", path, "-p", "x", "--system", "y")
    assert done.code == 2 and "--system begins a conversation" in done.err
