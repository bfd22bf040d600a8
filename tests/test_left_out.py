"""Whatever does not reach the model is said on standard error, also where that is no terminal."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llmchat.chat.storage import TranscriptFile, read_transcript
from tests.conftest import DATA
from tests.program import Here

LLAMA = ("--model", DATA / "huggingface" / "llama")
RAW = "llmchat: the system prompt is left out: --raw gives the model the text alone.\n"
SYSTEM = "llmchat: the system prompt is left out: this model has no chat template to put it into.\n"


@pytest.mark.parametrize("flags", [("--model", "tiny"), ("--model", "tiny", "--dry-run")])
def test_a_system_prompt_for_a_model_without_a_template(flags: tuple[str, ...], here: Here) -> None:
    """It has no place; --quiet says nothing. Where there is a template, --raw goes past it."""
    asked = ("--once", *flags, "-p", "hi", "--system", "Be brief.", "-n", "3")
    assert here(*asked)[::2] == (0, SYSTEM)
    assert here(*asked, "--quiet")[::2] == (0, "")
    with_template = ("--once", *LLAMA, "-p", "hi", "--system", "Be brief.", "-n", "3")
    assert here(*with_template).err == ""
    assert here(*with_template, "--raw").err == here(*with_template, "--raw", "--dry-run").err == RAW


def test_a_lora_scale_without_an_adapter(here: Here) -> None:
    """It would scale nothing."""
    said = here("--once", "-m", "tiny", "-p", "hi", "-n", "3", "--lora-scale", "0.5").err
    assert said == "llmchat: the LoRA scale does nothing: no adapter is open. Give one with --lora.\n"


def test_plain_says_it_too(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among what holds for every reply."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "For every reply: system left out." in here("--plain", "-m", "tiny", "--system", "Be brief.").out


def test_a_reply_in_progress_that_lies_beside_the_file(here: Here, tmp_path: Path) -> None:
    """Left there by a killed llmchat: export, replay and a dry run read the conversation without it, and say so."""
    path = tmp_path / "story.toml"
    assert here("--once", *LLAMA, "-p", "hi", "-n", "3", "--save", path).code == 0
    side = path.with_name("story.toml.partial")
    transcript = read_transcript(path)[0]
    with TranscriptFile.open(path)[0] as file:
        leaf = transcript.path()[-1]
        file.checkpoint(replace(leaf, id="again", parent=leaf.id))
    said = f"llmchat: A reply in progress was left out: it lies in {side.name} until the conversation is opened again."
    for asked in (("export", path), ("replay", path), ("--once", *LLAMA, "-p", "hi", "--dry-run", "--resume", path)):
        done = here(*asked)
        assert (done.code, done.err.splitlines()) == (0, [said])
    side.write_text("torn")
    assert f"was left out: {side.name} cannot be read." in here("export", path).err
    TranscriptFile.open(path)[0].close()
    assert here("export", path).err == ""


def test_turns_that_a_dry_run_leaves_out(here: Here, tmp_path: Path) -> None:
    """The prompt that is printed is not the whole conversation."""
    path, long = tmp_path / "story.toml", "tell me more about the sea and the ships that sail on it"
    for _ in range(8):
        assert here("--once", *LLAMA, "-p", long, "-n", "3", "--save", path).code == 0
    done = here("--once", *LLAMA, "-p", long, "--dry-run", "--resume", path)
    assert done.code == 0
    assert "oldest turns do not fit into the context and were left out." in done.err
