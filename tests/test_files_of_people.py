"""Files that a person or another program wrote: whatever stands in them, llmchat says one sentence."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from llmchat.chat.archive import list_transcripts, read_transcript
from llmchat.errors import SettingsError, TranscriptError
from llmchat.files import describe_toml, parse_toml
from llmchat.settings import load_settings
from llmchat.themes import load_themes
from llmchat.ui.prompt_history import PromptHistory

STRANGE_TOML = {
    "a number of 5,000 digits": "model = " + "1" * 5000,
    "a number of many bits": "model = 0x" + "f" * 5000,
    "nesting": "model = " + "[" * 5000 + "]" * 5000,
    "nesting by dots": "model" + ".a" * 200 + " = 1",
    "the first year": "model = 0001-01-01T00:00:00+12:00",
    "the last year": "model = 9999-12-31T23:59:59-12:00",
    "a year that is none": "model = 0000-01-01",
    "a time zone that is none": "model = 2026-01-01T00:00:00+99:00",
}
"""TOML, or nearly, at which readers stumble."""


@pytest.mark.parametrize("text", STRANGE_TOML.values(), ids=list(STRANGE_TOML))
def test_toml_is_read_or_refused_with_one_error(text: str) -> None:
    """Whatever the library raises, or what would fail later when it is shown, is the error of a wrong file."""
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        parse_toml(text)
    assert len(describe_toml(caught.value, text)) < 100


def test_ordinary_toml_is_read() -> None:
    """Up to the limits."""
    text = f"a = {2**63 - 1}\nb = -0x10\nc = 0002-01-01\nd = {'[' * 90}{']' * 90}\n".replace("-0x10", "0x10")
    assert parse_toml(text)["a"] == 2**63 - 1


@pytest.mark.parametrize("text", STRANGE_TOML.values(), ids=list(STRANGE_TOML))
def test_no_file_of_a_person_stops_the_program(tmp_path: Path, text: str) -> None:
    """Settings, themes and transcripts that are strange are llmchat's own errors, and lists pass over them."""
    path = tmp_path / "strange.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_settings(path)
    assert [failure.message for failure in load_themes(tmp_path).failures if "strange.toml" in failure.message]
    for line in (text, text.replace("model", "schema"), f"schema = 1\n{text.replace('model', 'created')}"):
        path.write_text(line)
        with pytest.raises(TranscriptError, match=r"strange\.toml"):
            read_transcript(path)
        assert list_transcripts(tmp_path) == []


def test_a_list_passes_over_what_is_no_file(tmp_path: Path) -> None:
    """A pipe of that name would wait for somebody who writes; a time that no calendar has is no reason to fail."""
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name, moment in (("old", -62_000_000_000), ("new", 253_402_300_000)):
        (tmp_path / f"{name}.toml").write_text("schema = 1\n")
        os.utime(tmp_path / f"{name}.toml", (moment, moment))
    assert [summary.modified.year for summary in list_transcripts(tmp_path)]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"text": ' + "1" * 5000 + "}"])
def test_a_strange_line_of_the_prompt_history_stops_nothing(tmp_path: Path, line: str) -> None:
    """Nested without end, or with a number without end, it is passed over."""
    path = tmp_path / "history.jsonl"
    path.write_text(f'{line}\n{{"text": "whole"}}\n')
    assert PromptHistory(path).entries == ("whole",)
