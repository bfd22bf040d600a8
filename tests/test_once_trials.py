"""Comparisons and sweeps without the window: what is printed, what is written, and what is refused."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.program import Here, command, run_program

QUEEN = ("--prompt", "the queen", "--seed", "5", "--max-tokens", "16")


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs command lines in this process."""
    return Here(capsys)


def test_a_comparison_as_a_program() -> None:
    """A heading and a text for each of the settings on standard output, nothing else anywhere."""
    code, out, err = run_program(
        "--model", "tiny", "--once", *QUEEN, "--compare", "greedy", "--compare", "temperature=1.6"
    )
    assert (code, err) == (0, "")
    first, second = out.split("\n\n## ")
    assert first.startswith("## Greedy\n") and second.startswith("temperature=1.6 (parts from the first at token ")
    assert out.endswith("\n")


def test_a_comparison_as_json(here: Here) -> None:
    """One object with every reply, its figures, and where it parts; equal settings give equal ids."""
    words = ("--compare", "now", "--compare", "temperature=0.8", "--compare", "temperature=1.6")
    code, out, err = here.tiny(*QUEEN, *words, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["seed"], told["prompt"], told["model"]) == (5, "the queen", "tiny")
    first, second, third = told["replies"]
    assert first["token_ids"] == second["token_ids"] and second["parts_at"] is None
    at = third["parts_at"]
    assert first["token_ids"][:at] == third["token_ids"][:at] and first["token_ids"][at] != third["token_ids"][at]
    assert third["settings"]["temperature"] == 1.6 and third["metrics"]["tokens"] == 16
    alone = json.loads(here.tiny(*QUEEN, "--json").out)
    assert alone["token_ids"] == first["token_ids"] and alone["text"] == first["text"]


def test_a_sweep_is_a_table_and_a_file(here: Here, tmp_path: Path) -> None:
    """A row for each value, and the whole texts in the file."""
    path = tmp_path / "sweep.csv"
    code, out, err = here.tiny(*QUEEN, "--sweep", "temperature:0.2..1.4:3", "--table", path)
    assert (code, err) == (0, "")
    heading, *rows = out.splitlines()
    assert heading.split()[:2] == ["temperature", "tokens"]
    assert [row.split()[:2] for row in rows] == [["0.20", "16"], ["0.80", "16"], ["1.40", "16"]]
    assert all(len(row) <= 80 for row in rows)
    with open(path, newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert texts[1] == json.loads(here.tiny(*QUEEN, "--json").out)["text"]


def test_a_sweep_as_json_and_toml(here: Here, tmp_path: Path) -> None:
    """The parameter is named; the file has settings and ids."""
    path = tmp_path / "sweep.toml"
    told = json.loads(here.tiny(*QUEEN, "--sweep", "top_k:1,5", "--json", "--table", path).out)
    assert told["parameter"] == "top_k" and [reply["label"] for reply in told["replies"]] == ["1", "5"]
    table = tomllib.loads(path.read_text())
    assert table["parameter"] == "top_k" and [row["settings"]["top_k"] for row in table["replies"]] == [1, 5]


def test_a_conversation_is_answered_but_not_changed(here: Here, tmp_path: Path) -> None:
    """Going on with a conversation, the replies are made in it; none is kept."""
    path = tmp_path / "talk.toml"
    here.tiny(*QUEEN, "--save", path)
    before = path.read_bytes()
    code, out, _ = here.tiny("--resume", path, "--prompt", "and", "-n", "4", "--compare", "greedy", "--json")
    assert code == 0 and json.loads(out)["replies"][0]["usage"]["prompt_tokens"] > 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--compare", "temprature=1"), "Did you mean temperature"),
        (("--compare", "temperature=9"), "from 0 to 5"),
        (("--compare", "greedy", "--sweep", "top_k:1,2"), "--compare or --sweep, not both"),
        (("--sweep", "top_k:1,2", "--jsonl"), "--sweep or --jsonl, not both"),
        (("--compare", "greedy", "--num-samples", "2"), "--compare or --num-samples, not both"),
        (("--compare", "greedy", "--save", "x.toml"), "--compare or --save, not both"),
        (("--sweep", "top_k"), "needs a parameter and its values"),
        (("--sweep", "top_k:1,2", "--table", "x.xls"), ".toml or .csv"),
        (("--table", "x.csv"), "--table goes with"),
    ],
)
def test_mistakes_end_with_code_2_before_a_model_is_opened(here: Here, arguments: tuple[str, ...], said: str) -> None:
    """One line that says what to do."""
    code, out, err = here("--model", "no-such-model", "--once", *QUEEN, *arguments)
    assert (code, out) == (2, "") and err.startswith("llmchat: error: ") and err.count("\n") == 1
    assert said in err


def test_they_go_with_once(here: Here) -> None:
    """The window has its own commands for them."""
    code, _, err = here("--compare", "greedy")
    assert code == 2 and "--compare goes with --once" in err


def test_a_table_that_cannot_be_written_is_told_after_the_replies(here: Here, tmp_path: Path) -> None:
    """What was made is printed all the same."""
    code, out, err = here.tiny(*QUEEN, "--sweep", "top_k:1,5", "--table", tmp_path / "no" / "x.csv")
    assert code == 1 and len(out.splitlines()) == 3 and "cannot be written" in err


def test_a_signal_stops_all_replies_and_prints_what_there_is() -> None:
    """As for one reply: what was made stays, and the code tells of the signal."""
    words = ("--compare", "max_new_tokens=2", "--compare", "now")
    line = command("--model", "tiny", "--once", "--prompt", "the queen", "--max-tokens", "200000", *words)
    program = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert program.stdout is not None
    # The short reply is printed when it ends; the other one would go on for minutes.
    assert program.stdout.readline() == b"## max_new_tokens=2\n"
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=PATIENCE_SECONDS)
    assert (program.returncode, err) == (130, b"")
    assert b"## now" in out and out.endswith(b"\n")
