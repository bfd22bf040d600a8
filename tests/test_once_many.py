"""Many prompts without the window: the same replies as one by one, in order, gone on with after a break."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.job import Job
from llmchat.errors import UsageError
from llmchat.once_lines import Given, ResultsFile, read_lines
from tests.patience import PATIENCE_SECONDS, until
from tests.program import Here, command

GIVEN = Given(GenerationConfig(), 100, system="Be kind.")

LINES = (
    "the queen",
    [{"role": "user", "content": "a ship"}],
    {"prompt": "the sea", "temperature": 1.5, "seed": 9, "id": {"n": 3}, "max_tokens": 4},
    {"prompt": "a garden", "prefill": "and", "stop": ["the"]},
)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A file of four prompts, each written in another way."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n\n" for line in LINES))
    return path


def told(text: str) -> list[dict[str, Any]]:
    """The objects of a text in JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_each_reply_is_the_one_that_is_made_alone(here: Here, prompts: Path) -> None:
    """Token for token, in the order of the lines, each under its own settings and seed."""
    code, out, err = here.tiny("--prompt-file", prompts, "--jsonl-in", "-n", "12", "--seed", "5")
    assert (code, err) == (0, "")
    first, second, third, fourth = told(out)
    assert [one["line"] for one in (first, second, third, fourth)] == [1, 3, 5, 7]
    assert [one["seed"] for one in (first, second, third, fourth)] == [5, 7, 9, 11]
    assert third["id"] == {"n": 3} and third["settings"]["temperature"] == 1.5
    alone = (
        ("-p", "the queen", "-n", "12", "--seed", "5"),
        ("-p", "a ship", "-n", "12", "--seed", "7"),
        ("-p", "the sea", "-n", "4", "--seed", "9", "--temperature", "1.5"),
        ("-p", "a garden", "-n", "12", "--seed", "11", "--prefill", "and", "--stop", "the"),
    )
    for one, words in zip((first, second, third, fourth), alone, strict=True):
        assert one["token_ids"] == json.loads(here.tiny(*words, "--json").out)["token_ids"]


def test_a_bad_line_is_told_by_its_number_and_the_others_go_on(here: Here, tmp_path: Path) -> None:
    """Whether the line or the model refuses it; the exit code says that something is missing."""
    path = tmp_path / "prompts.jsonl"
    bad = ("not JSON", '{"prompt": "the sea", "temprature": 1}', '{"prompt": "a", "banned_tokens": [9999999]}')
    path.write_text("\n".join(('"the queen"', *bad, '"a ship"')))
    code, out, err = here.tiny("--prompt-file", path, "--jsonl-in", "-n", "3", "--quiet")
    assert code == 1 and [one["line"] for one in told(out)] == [1, 5]
    two, three, four = err.splitlines()
    assert two.startswith("llmchat: error: line 2: It is no JSON.") and "Did you mean temperature" in three
    assert four.startswith("llmchat: error: line 4: banned_tokens has 9999999")


def test_a_run_that_broke_off_goes_on_where_it_was(here: Here, prompts: Path, tmp_path: Path) -> None:
    """What the file has is not made again, and what a break tore is."""
    results = tmp_path / "replies.jsonl"
    words = ("--prompt-file", prompts, "--jsonl-in", "-n", "6", "--seed", "5", "--output", results)
    assert here.tiny(*words) == (0, "", "")
    whole = results.read_bytes()
    rows = whole.splitlines(keepends=True)
    marked = rows[0].replace(b'"model": "tiny"', b'"model": "kept"')
    results.write_bytes(marked + rows[1] + rows[2][:40])
    assert here.tiny(*words).code == 0
    again = told(results.read_text())
    assert again[0]["model"] == "kept" and [one["line"] for one in again] == [1, 3, 5, 7]
    assert [one["token_ids"] for one in again] == [one["token_ids"] for one in told(whole.decode())]


@pytest.mark.parametrize(
    "content", ["my notes", "my notes\n", '{"line": 1, "prompt": "another"}\n', '{"line": 99, "prompt": "the queen"}\n']
)
def test_a_file_that_holds_something_else_is_left_alone(
    here: Here, prompts: Path, tmp_path: Path, content: str
) -> None:
    """Neither notes nor replies to other prompts are written behind or cut off."""
    path = tmp_path / "notes.txt"
    path.write_text(content)
    code, out, err = here.tiny("--prompt-file", prompts, "--jsonl-in", "--output", path)
    assert (code, out) == (2, "") and "Give another file" in err and path.read_text() == content


def test_a_signal_keeps_what_has_been_answered(tmp_path: Path) -> None:
    """Also what had to wait for an earlier line; the next run makes the rest."""
    path, results = tmp_path / "prompts.jsonl", tmp_path / "replies.jsonl"
    short = '{"prompt": "a ship", "max_tokens": 2}\n'
    path.write_text(f'{short}{{"prompt": "the queen", "max_tokens": 200000}}\n{short}')
    words = ("--prompt-file", str(path), "--jsonl-in", "--output", str(results))
    program = subprocess.Popen(command("--model", "tiny", "--once", *words), stderr=subprocess.PIPE)
    # The third ends in the same step as the first, and waits for the second.
    until(lambda: results.exists() and results.stat().st_size)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=PATIENCE_SECONDS)
    assert (program.returncode, err) == (130, b"")
    assert [one["line"] for one in told(results.read_text())] == [1, 3]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("5", "neither a string"),
        ("{}", 'either "prompt" or "messages"'),
        ('{"prompt": "a", "messages": []}', 'either "prompt" or "messages"'),
        ('{"prompt": 5}', "takes a string"),
        ('{"prompt": " "}', "is empty"),
        ('{"prompt": "a", "raw": 1}', "true or false"),
        ('{"prompt": "a", "temperature": "hot"}', "temperature"),
        ('{"prompt": "a", "sytem": "b"}', "'system'"),
        ("[]", "list of messages"),
        ('[{"role": "user"}]', "A message is"),
        ('[{"role": "robot", "content": "a"}]', "A message is"),
        ('[{"role": "assistant", "content": "a"}]', "must be the user's"),
        ('"a\\u0000b"', "zero byte"),
        ('"\\ud800"', "not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        ('"\xff', "not UTF-8"),
    ],
)
def test_what_a_line_may_be(line: str, said: str) -> None:
    """Each mistake has its words."""
    (read,) = read_lines(io.BytesIO(line.encode("latin-1")), GIVEN)
    assert isinstance(read.job, UsageError) and said in read.job.message


def test_what_holds_for_all_lines() -> None:
    """A line's own system prompt and seed go before those that are given; -1 rolls none of its own."""
    lines = ['"a"', '{"prompt": "b", "system": ""}', '[{"role":"system","content":"S"},{"role":"user","content":"c"}]']
    text = "\ufeff" + "\n".join([*lines, '{"prompt": "d", "seed": 3}', '{"prompt": "e", "seed": -1}'])
    jobs = [line.job for line in read_lines(io.BytesIO(text.encode()), GIVEN)]
    assert all(isinstance(job, Job) for job in jobs)
    made = [job for job in jobs if isinstance(job, Job)]
    assert [job.seed for job in made] == [100, 101, 102, 3, 104]
    assert [job.turns[0].text for job in made] == ["Be kind.", "b", "S", "Be kind.", "Be kind."]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--jsonl-in",), "--jsonl-in needs the file"),
        (("--output", "x", "-p", "a"), "--output goes with --jsonl-in"),
        (("--jsonl-in", "--prompt-file", "x", "--num-samples", "2"), "--jsonl-in or --num-samples, not both"),
        (("--jsonl-in", "--prompt-file", "no-such-file"), "cannot be read"),
        (("--jsonl-in", "--prompt-file", "/dev/null"), "has no prompts"),
    ],
)
def test_mistakes_end_with_code_2_before_a_model_is_opened(here: Here, words: tuple[str, ...], said: str) -> None:
    """One line that says what to do."""
    code, out, err = here("--model", "no-such-model", "--once", *words)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


def test_results_go_into_a_file() -> None:
    """A device keeps nothing that could be gone on with."""
    with pytest.raises(UsageError, match="is no file"):
        ResultsFile(Path("/dev/null"), [])
