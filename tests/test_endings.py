"""A file's name says what is in it: nothing is written under a name that says something else."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from llmchat.chat.export import for_file
from llmchat.chat.transcript import Transcript
from llmchat.errors import UsageError
from tests.program import Here

SHORT = ("--model", "tiny", "-n", "3")


def test_a_conversation_is_exported_as_its_name_says() -> None:
    """Markdown also without an ending; what is not known is refused and what is known is named."""
    transcript = Transcript()
    transcript.say("user", "Hello")
    for name in ("talk.md", "talk.MD", "talk", ".talk"):
        assert for_file(transcript, Path(name)).startswith("# Hello")
    assert for_file(transcript, Path("talk.txt")).startswith("You:\n")
    assert json.loads(for_file(transcript, Path("talk.json")))["title"] == "Hello"
    for name in ("x.html", "x.svg", "x.toml", "x.md.gz", "x.docx"):
        with pytest.raises(UsageError, match=r"give a name that ends in \.md or \.txt or \.json"):
            for_file(transcript, Path(name))


def test_plain_refuses_it_and_goes_on(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/export and /save write nothing under such a name."""
    lines = [f"/export {tmp_path / 'x.html'}", f"/save {tmp_path / 'x.md'}", f"/export {tmp_path / 'x.txt'}"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in ("Once", *lines))))
    done = here("--plain", *SHORT)
    assert done.code == 0
    assert "A conversation is not written to 'x.html'" in done.err
    assert "'x.md': give a name that ends in .toml." in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_save_refuses_it_before_anything_is_done(here: Here, tmp_path: Path) -> None:
    """--save, with and without the model at hand; without an ending it is kept."""
    done = here.tiny("-p", "Once", "-n", "3", "--save", tmp_path / "story.html")
    assert (done.code, done.out) == (2, "") and "ends in .toml" in done.err
    assert here.tiny("-p", "Once", "-n", "3", "--save", tmp_path / "story").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["story"]
