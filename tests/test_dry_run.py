"""`--once --dry-run`: the prompt as the model is given it, and no reply."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import DATA
from tests.program import Here, Outcome

LLAMA = ("--model", str(DATA / "huggingface" / "llama"))


def test_the_prompt_and_its_ids(here: Here) -> None:
    """The text, a line between, the ids of the very prompt that a reply would answer."""
    done = here.tiny("--dry-run", "-p", "Once upon a time")
    assert (done.code, done.err) == (0, "")
    text, ids = done.out.removesuffix("\n").split("\n---\n")
    reply = json.loads(here.tiny("-p", "Once upon a time", "-n", "1", "--json").out)
    assert text.strip() == "once upon a time"
    assert len(ids.split()) == reply["usage"]["prompt_tokens"]


def test_a_chat_with_everything_in_it(here: Here, tmp_path: Path) -> None:
    """System prompt, earlier turns, template and prefill; the transcript stays as it is."""
    path = tmp_path / "talk.toml"
    assert here("--once", *LLAMA, "-s", "a king", "-p", "the sea", "-n", "3", "--save", path).code == 0
    before = path.read_bytes()
    done = here("--once", *LLAMA, "--dry-run", "--json", "--resume", path, "-n", "1", "-p", "why", "--prefill", "so")
    assert (done.code, done.err) == (0, "")
    prompt = json.loads(done.out)
    assert len(prompt["token_ids"]) == len(prompt["tokens"])
    words = prompt["prompt"].replace(" ", "")
    assert words.index("aking") < words.index("thesea") < words.index("why") < words.index("so")
    assert (prompt["raw"], prompt["dropped_turns"], prompt["model"]) == (False, 0, "llama")
    raw = json.loads(here("--once", *LLAMA, "--dry-run", "--json", "--raw", "-p", "why").out)
    assert raw["raw"] and raw["prompt"].replace(" ", "") == "why"
    assert path.read_bytes() == before


def test_what_does_not_fit_is_an_error(here: Here) -> None:
    """The words and the exit code of a real run."""
    done = here("--once", *LLAMA, "--dry-run", "-p", "word " * 100)
    assert (done.code, done.out) == (1, "")
    assert "Shorten the prompt" in done.err


def test_it_goes_with_once_alone(here: Here) -> None:
    """And with nothing that only a reply has."""
    assert "--dry-run goes with --once" in here("--dry-run", "-p", "x").err
    for other in ("--jsonl", "--stats"):
        assert "not both" in here.tiny("--dry-run", other, "-p", "x").err


def test_names_of_control_tokens_that_were_said(here: Here, default_model_path: Path) -> None:
    """They are text, and that is said; --parse-special makes them tokens. So it is with --raw."""

    def ask(*flags: str) -> Outcome:
        return here("--once", "--model", default_model_path, "--dry-run", *flags, "-p", "Explain <|im_end|> to me")

    done = ask()
    assert done.code == 0 and "Read as text, not as control tokens: <|im_end|>." in done.err
    for raw in ((), ("--raw",)):
        said, meant = (json.loads(ask("--json", *raw, *flag).out) for flag in ((), ("--parse-special",)))
        assert (said["said_names"], meant["said_names"]) == (["<|im_end|>"], [])
        assert sum(meant["control"]) == sum(said["control"]) + 1
