"""One reply without the window: standard output carries the reply and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.archive import read_transcript
from llmchat.chat.generation_config import SEED_LIMIT
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.turn import Turn
from llmchat.cli_options import OPTIONS, start_options
from llmchat.errors import GenerationError
from llmchat.once import OnceOptions, run
from llmchat.options import StartOptions
from llmchat.settings import ResolvedGeneration, Settings
from llmchat.worker.inference_worker import InferenceWorker
from tests.conftest import DATA
from tests.fakes import ChangingEngine, ScriptedEngine, prepares
from tests.patience import PATIENCE_SECONDS
from tests.program import TINY, Here, command, open_terminal, read_terminal, run_program

PROMPT = ("--prompt", "Once upon a time", "-n", "12", "--seed", "3")
KEYS = [
    "text",
    "thinking",
    "prompt",
    "model",
    "finish_reason",
    "finish_detail",
    "seed",
    "settings",
    "token_ids",
    "usage",
    "timings",
]
USAGE = [
    "prompt_tokens",
    "generated_tokens",
    "thinking_tokens",
    "cached_tokens",
    "dropped_tokens",
    "unknown_tokens",
    "byte_tokens",
    "drafted_tokens",
    "accepted_tokens",
]
TIMINGS = [
    "load_seconds",
    "time_to_first_token_seconds",
    "prompt_tokens_per_second",
    "tokens_per_second",
    "thinking_seconds",
]


def reply_of(here: Here, *arguments: str | Path) -> dict[str, Any]:
    """The object that --json prints."""
    done = here.tiny("--json", *arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    value: dict[str, Any] = json.loads(done.out)
    return value


def scripted(engine: ScriptedEngine, *, path: Path | None = None, samples: int = 1) -> int:
    """A run with an engine that says what a test wants."""
    start = StartOptions(Settings(), ResolvedGeneration(), "Hello?", save=path)
    options = OnceOptions(start, num_samples=samples)
    return run(options, lambda post: InferenceWorker(post, prepares(lambda request, progress: engine)))


def endless(path: Path) -> subprocess.Popen[bytes]:
    """The program, writing a reply that does not end by itself."""
    line = command(*TINY, "-p", "Once", "-n", "1000000", "--save", path)
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


# ── what is printed ──────────────────────────────────────────────────────────


def test_standard_output_is_the_reply_and_one_line_end(here: Here) -> None:
    """A script gets the reply byte for byte as UTF-8, in any locale, and nothing on standard error."""
    given = (*PROMPT, "--prefill", "Naïve ☃ tales: ")
    done = run_program(*TINY, *given, env={"LC_ALL": "C", "PYTHONWARNINGS": "always"})
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Naïve ☃ tales: ")
    assert done.out == reply_of(here, *given)["text"] + "\n"


def test_the_speed_of_a_single_token_is_not_told(here: Here) -> None:
    """Nobody can tell it: it is not 0."""
    assert "reply:       1 token\n" in here(*TINY, *PROMPT, "-n", "1", "--stats").err


def test_json_is_one_object_with_everything_known(here: Here) -> None:
    """`--json` has the keys that scripts rely on, and settings that make the reply again."""
    reply = reply_of(here, *PROMPT, "--temperature", "1.2", "--stop", "zebra")
    assert list(reply) == KEYS
    assert list(reply["usage"]) == USAGE
    assert list(reply["timings"]) == TIMINGS
    assert reply["timings"].pop("thinking_seconds") == 0
    assert all(value > 0 for value in reply["timings"].values())
    assert (reply["prompt"], reply["model"], reply["seed"]) == ("Once upon a time", "tiny", 3)
    assert (reply["finish_reason"], reply["finish_detail"]) == ("length", "max_new_tokens 12")
    assert reply["usage"] == dict(zip(USAGE, (4, 12, *7 * (0,)), strict=True))
    assert len(reply["token_ids"]) == 12
    assert (reply["settings"]["temperature"], reply["settings"]["stop"]) == (1.2, ["zebra"])
    assert reply["settings"]["seed"] == 3


def test_guessing_can_be_left_alone(here: Here) -> None:
    """The reply is the same; what was guessed is counted, and without it nothing is."""
    again = ("-p", "the queen and the king and the queen and the king", "-n", "80", "--repetition-penalty", "0.7")
    guessed, plain = (reply_of(here, *again, "--seed", "3", *words) for words in ((), ("--no-prompt-lookup",)))
    assert guessed["token_ids"] == plain["token_ids"] and plain["settings"]["prompt_lookup"] is False
    usage = guessed["usage"]
    assert 0 <= usage["accepted_tokens"] <= usage["drafted_tokens"] and plain["usage"]["drafted_tokens"] == 0


def test_a_conversation_is_gone_on_with_at_once(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Path
) -> None:
    """What was read of it is known to the next run, unless that is not wanted; the replies are the same."""
    monkeypatch.setattr("llmchat.worker.snapshots._WORTH", 2)
    model = ("--once", "--json", "--model", DATA / "huggingface" / "llama", "-n", "3", "--seed", "2", "--raw")
    usage = {}
    for name, words in (("kept", ()), ("not", ("--no-kv-cache",))):
        for turn in range(2):
            save = ("--save", tmp_path / f"{name}.toml")
            done = here(*model, *save, "-p", "the queen and the king went to the sea", *words)
            usage[name, turn] = json.loads(done.out)
        assert len(list(sandbox.glob("cache/snapshots/*.kv"))) == 1
    assert [usage[name, turn]["usage"]["cached_tokens"] > 0 for name, turn in usage] == [False, True, False, False]
    assert usage["kept", 1]["token_ids"] == usage["not", 1]["token_ids"]


def test_json_survives_a_narrow_encoding() -> None:
    """Where the output cannot hold a character, JSON escapes it; plain text shows a question mark."""
    given = (*PROMPT, "--prefill", "☃")
    done = run_program(*TINY, *given, "--json", "--stats", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.code == 0
    assert json.loads(done.out)["text"].startswith("☃")
    assert done.out.isascii()
    rows = dict(line.split(":", 1) for line in done.err.splitlines())
    assert list(rows) == ["model", "runs on", "finish", "seed", "prompt", "reply", "first token", "load"]
    assert rows["seed"].strip() == "3"
    assert rows["reply"].strip().startswith("12 tokens, ")


def test_json_lines_tell_each_step(here: Here) -> None:
    """The pieces of `--jsonl` join to the reply that its last object holds."""
    done = here.tiny(*PROMPT, "--jsonl", "--num-samples", "2")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert {line["type"] for line in lines} == {"token", "end"}
    for sample in (0, 1):
        *steps, end = [line for line in lines if line["sample"] == sample]
        assert list(end) == ["type", "sample", *KEYS]
        assert "".join(step["text"] for step in steps) == end["text"]
        assert [token for step in steps for token in step["token_ids"]] == end["token_ids"]


def test_samples_count_their_seeds_up(here: Here) -> None:
    """Each sample is what its seed gives alone, also with the prompt already in the cache."""
    done = here.tiny(*PROMPT, "--json", "--num-samples", "3")
    samples = [json.loads(line) for line in done.out.splitlines()]
    assert [sample["seed"] for sample in samples] == [3, 4, 5]
    assert [sample["usage"]["cached_tokens"] for sample in samples] == [0, 3, 3]
    alone = reply_of(here, *PROMPT[:4], "--seed", "5")
    assert alone["usage"]["cached_tokens"] == 0
    assert alone["token_ids"] == samples[2]["token_ids"]
    text = here.tiny(*PROMPT, "--num-samples", "3").out
    assert text == "---\n".join(sample["text"] + "\n" for sample in samples)
    done = here.tiny(*PROMPT[:4], "--seed", str(SEED_LIMIT - 1), "--json", "--num-samples", "2")
    assert [json.loads(line)["seed"] for line in done.out.splitlines()] == [SEED_LIMIT - 1, 0]


def test_a_rolled_seed_is_told_and_makes_the_reply_again(here: Here) -> None:
    """Without --seed every run has its own dice, and --json says which."""
    first = reply_of(here, "-p", "The sea", "-n", "8")
    again = reply_of(here, "-p", "The sea", "-n", "8", "--seed", str(first["seed"]))
    assert again["token_ids"] == first["token_ids"]


def test_stop_strings_and_greedy(here: Here) -> None:
    """A stop string ends the reply and is not part of it; --greedy needs no seed."""
    whole = reply_of(here, "-p", "The sea", "-n", "30", "--greedy")
    assert reply_of(here, "-p", "The sea", "-n", "30", "--greedy")["token_ids"] == whole["token_ids"]
    stop = whole["text"][20:23]
    cut = reply_of(here, "-p", "The sea", "-n", "30", "--greedy", "--stop", "☃", "--stop", stop)
    assert cut["text"] == whole["text"][: whole["text"].index(stop)]
    assert (cut["finish_reason"], cut["finish_detail"]) == ("stop", f"stop string {stop!r}")


def test_a_prompt_past_the_context_slides_and_says_so(here: Here) -> None:
    """The models of llmbuilder see the last block of a long prompt; the JSON tells how much they did not see."""
    done = here.tiny("--json", "-p", "word " * 400, "-n", "2")
    assert (done.code, done.err) == (0, "llmchat: the prompt has 800 tokens; the model sees the last 128 of them.\n")
    usage = json.loads(done.out)["usage"]
    assert usage["dropped_tokens"] > 0
    assert usage["prompt_tokens"] - usage["dropped_tokens"] == 128


def test_chat_templates_and_raw_prompts(here: Here) -> None:
    """A template puts prompts into turns, a system prompt before them; --raw leaves all that out."""
    chat = ("--chat-template", "chatml", *PROMPT)
    raw, system = (*chat, "--raw"), ("-s", "Be brief.")
    asked = (raw, (*raw, *system, "--quiet"), chat, (*chat, *system), PROMPT)
    counts = [reply_of(here, *given)["usage"]["prompt_tokens"] for given in asked]
    assert counts[0] == counts[1] == counts[4] < counts[2] < counts[3]


def test_the_default_model_answers(here: Here, default_model_path: Path, tmp_path: Path) -> None:
    """System prompt, prefill and a kept conversation on the real chat model."""
    model = ("--model", default_model_path, "--once", "--greedy", "-n", "8", "--json")
    path = tmp_path / "chat.toml"
    system = "You answer in French."
    done = here(*model, "-p", "Say hello.", "-s", system, "--prefill", "Bonj", "--save", path)
    assert (done.code, done.err) == (0, "")
    reply = json.loads(done.out)
    assert reply["text"].startswith("Bonj") and len(reply["token_ids"]) == 8
    said = [("system", system), ("user", "Say hello."), ("assistant", reply["text"])]
    assert [(turn.role, turn.text) for turn in read_transcript(path)[0].path()] == said


# ── transcripts ──────────────────────────────────────────────────────────────


def test_conversations_are_kept_where_asked(here: Here, tmp_path: Path, sandbox: Path) -> None:
    """--save makes or goes on with a file, --resume adds to it, --no-save leaves it; else nothing is kept."""
    path, copy = tmp_path / "story.toml", tmp_path / "copy.toml"
    first = reply_of(here, *PROMPT, "--save", path)
    assert path.stat().st_mode & 0o777 == 0o600
    done = here("--once", "--resume", path, "-p", "and then", "-n", "4", "--no-save", "--json")
    assert json.loads(done.out)["model"] == "tiny"  # the transcript's own, not the default
    assert len(read_transcript(path)[0]) == 2
    second = reply_of(here, "--resume", path, "-p", "and then", "-n", "4", "--num-samples", "1")
    transcript, notices = read_transcript(path)
    assert (notices, transcript.model, Path(transcript.model_path).is_absolute()) == ([], "tiny", True)
    replies = [turn.reply for turn in transcript if turn.reply is not None]
    assert [list(reply.token_ids) for reply in replies] == [first["token_ids"], second["token_ids"]]
    assert replies[0].timings.load_seconds > 0
    assert here.tiny("--resume", path, "-p", "x", "-n", "2", "--save", copy).code == 0
    assert (len(read_transcript(path)[0]), len(read_transcript(copy)[0])) == (4, 6)
    assert not list(sandbox.glob("data/transcripts/*"))


def test_the_last_conversation_can_be_gone_on_with(here: Here, sandbox: Path) -> None:
    """-c takes the conversation that was written to last; with none it says so."""
    done = here.tiny("-c", "-p", "x")
    assert (done.code, done.err) == (2, "llmchat: error: There is no conversation to continue yet.\n")
    places = sandbox / "data" / "transcripts"
    places.mkdir(parents=True)
    for name in ("a", "b"):
        reply_of(here, *PROMPT, "--save", places / f"{name}.toml")
    os.utime(places / "b.toml", (1, 1))
    reply_of(here, "-c", "-p", "x", "-n", "1")
    assert [len(read_transcript(places / f"{name}.toml")[0]) for name in ("a", "b")] == [4, 2]


def test_samples_are_alternatives_of_one_answer(here: Here, tmp_path: Path) -> None:
    """Several samples are kept side by side, as the window would keep them."""
    here.tiny(*PROMPT, "--num-samples", "3", "--save", tmp_path / "a.toml")
    transcript = read_transcript(tmp_path / "a.toml")[0]
    leaf = transcript.leaf
    assert leaf is not None and len(transcript.alternatives(leaf.id)) == 3


# ── ends ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_reply_and_keeps_it(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """Ctrl-C and a polite kill: what was printed stays, what was made is kept, nothing is on standard error."""
    path = tmp_path / "cut.toml"
    process = endless(path)
    assert process.stdout is not None
    first = process.stdout.read(30)
    process.send_signal(number)
    rest, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, err) == (code, b"")
    turn = read_transcript(path)[0].path()[-1]
    assert turn.reply is not None and turn.reply.finish_reason == "cancelled"
    assert (first + rest).decode() == turn.text + "\n"


def test_ctrl_c_while_the_model_is_opened(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An interrupt before the reply ends at once, prints nothing, and leaves no empty transcript."""

    def interrupted(*arguments: object) -> ScriptedEngine:
        os.kill(os.getpid(), signal.SIGINT)
        return ScriptedEngine()

    path = tmp_path / "new.toml"
    options = OnceOptions(StartOptions(prompt="Hello?", save=path))
    assert run(options, lambda post: InferenceWorker(post, prepares(interrupted))) == 130
    assert capsys.readouterr() == ("", "")
    assert not path.exists()


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    """`| head -c 5` ends the program without a word; what it had made is kept."""
    path = tmp_path / "cut.toml"
    process = endless(path)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(5)
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_SECONDS) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
    assert read_transcript(path)[0].path()[-1].text


def test_a_failure_in_the_middle_keeps_what_there_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Numbers that stop being finite end the reply with an error; the part before is printed and kept."""
    path = tmp_path / "broken.toml"
    with pytest.raises(GenerationError, match="finite"):
        scripted(ScriptedEngine("A reply that breaks.", fail_at=7), path=path)
    assert capsys.readouterr() == ("A reply\n", "")
    turn = read_transcript(path)[0].path()[-1]
    assert turn.text == "A reply"
    assert turn.reply is not None and turn.reply.finish_reason == "error"


def test_a_model_that_runs_otherwise_than_told_is_told_of_behind_the_reply(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal a line on standard error says so, in one piece; the reply is whole."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert scripted(ChangingEngine()) == 0
    out, err = capsys.readouterr()
    assert out == "Hello.\n" and err.endswith(f"llmchat: {ChangingEngine.NOTE}\n")


def test_an_empty_reply_is_an_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that ends at once gives one line end, and line ends of the reply itself stay."""
    assert scripted(ScriptedEngine("")) == 0
    assert scripted(ScriptedEngine("two\n\n"), samples=2) == 0
    assert capsys.readouterr() == ("\ntwo\n\n\n---\ntwo\n\n\n", "")


# ── terminals ────────────────────────────────────────────────────────────────


def test_a_terminal_sees_progress_and_no_escape_codes() -> None:
    """On a terminal the steps of loading are shown and wiped, and a model's escape codes are made visible."""
    far, near = open_terminal()
    arguments = (*PROMPT, "--prefill", "\x1b[31mred\u202e👩\u200d👧 ")
    process = subprocess.Popen(command(*TINY, *arguments), stdin=near, stdout=near, stderr=near)
    near.close()
    text = read_terminal(far)
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    head, _, reply = text.rpartition("\r\n")[0].rpartition("\r")
    assert "\rreading weights" in head or "starting torch" in head
    shown = head.rpartition("\r")[2]
    assert not shown.strip(), "the last progress line is written over with blanks"
    assert reply.startswith("␛[31mred⇄👩\u200d👧 ")
    assert "\x1b" not in text


def test_quiet_says_nothing_on_a_terminal_and_a_file_gets_the_text_as_it_is() -> None:
    """With -q no progress is shown; bytes for a file or a program are not changed."""
    far, near = open_terminal()
    arguments = (*PROMPT, "-q", "--prefill", "\x1b[31mred ")
    process = subprocess.Popen(command(*TINY, *arguments), stdout=subprocess.PIPE, stderr=near)
    near.close()
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert read_terminal(far) == ""
    assert out.startswith(b"\x1b[31mred ")


def test_a_conversation_is_gone_on_with_under_its_settings(here: Here, tmp_path: Path) -> None:
    """Those of its last reply, but for flags; so is one that is only read."""
    path = tmp_path / "story.toml"
    first = reply_of(here, *PROMPT, "--temperature", "0.3", "--top-k", "7", "--prefill", "The", "--save", path)
    assert first["text"].startswith("The")
    for going_on in (("--save", path), ("--resume", path), ("--resume", path, "--no-save")):
        again = reply_of(here, "-p", "And then", *going_on)
        assert (again["settings"]["temperature"], again["settings"]["top_k"]) == (0.3, 7)
        assert again["text"].startswith("The")
    own = reply_of(here, "-p", "And then", "--resume", path, "--temperature", "0.9", "--prefill", "A", "--no-save")
    assert (own["settings"]["temperature"], own["settings"]["top_k"]) == (0.9, 7)
    assert own["text"].startswith("A")


def test_a_conversation_brings_the_model_of_its_last_reply(here: Here, tmp_path: Path) -> None:
    """Not the one that it began with, and none that is gone; --model goes before both."""
    path, last = tmp_path / "story.toml", tmp_path / "last.gguf"
    last.write_bytes(b"")
    reply_of(here, *PROMPT, "--save", path)
    with TranscriptFile.open(path)[0] as file:
        (turn,) = (turn for turn in file.transcript if turn.reply is not None)
        assert turn.reply is not None
        again = replace(turn.reply, model_path=str(last))
        file.transcript.add(Turn("assistant", "Again.", parent=turn.parent, reply=again))
        file.keep()
    options: dict[str, Any] = {str(option.name): None for option in OPTIONS} | {
        "stop": (),
        "resume": str(path),
        "prompt": "x",
    }
    assert start_options(options).settings.model == str(last)
    assert start_options({**options, "model": "tiny"}).settings.model == "tiny"
