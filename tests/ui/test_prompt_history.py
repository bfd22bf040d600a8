"""The prompt history: walking, the file, and damage to it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from llmchat.ui.prompt_history import PromptHistory


def test_walks_back_and_forth_and_keeps_the_draft() -> None:
    """Up goes to older prompts, Down comes back to what was being typed."""
    history = PromptHistory()
    history.add("one")
    history.add("two")
    assert history.older("draft") == "two"
    assert history.older("two") == "one"
    assert history.older("one") is None
    assert history.newer("one") == "two"
    assert history.newer("two") == "draft"
    assert history.newer("draft") is None


def test_changes_on_the_way_are_found_again_until_something_is_sent() -> None:
    """A recalled prompt that was changed is not lost by walking on; sending forgets the change."""
    history = PromptHistory()
    history.add("one")
    history.add("two")
    history.older("")
    assert history.older("two, changed") == "one"
    assert history.newer("one") == "two, changed"
    history.add("three")
    assert history.older("") == "three"
    assert history.older("three") == "two"


def test_drops_empty_prompts_and_repeats() -> None:
    """Nothing blank is kept, and sending the same twice keeps one entry."""
    history = PromptHistory()
    for text in ("a", "a", "  \n", "b", "a"):
        history.add(text)
    assert history.entries == ("a", "b", "a")


def test_comes_back_from_its_file(tmp_path: Path) -> None:
    """A new session finds the prompts of the last one, whatever characters they hold."""
    path = tmp_path / "state" / "prompts.history"
    texts = ("plain", "two\nlines\u2028three", "größer 🌊", "lone \ud800 surrogate")
    history = PromptHistory(path)
    for text in texts:
        history.add(text)
    assert PromptHistory(path).entries == texts
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert history.problem == ""


def test_reading_writes_nothing(tmp_path: Path) -> None:
    """Opening the window creates no file."""
    path = tmp_path / "prompts.history"
    PromptHistory(path)
    assert not path.exists()


def test_keeps_only_the_newest(tmp_path: Path) -> None:
    """The history is bounded in memory at once and in its file when it is next read."""
    path = tmp_path / "prompts.history"
    history = PromptHistory(path, limit=3)
    for number in range(5):
        history.add(str(number))
    assert history.entries == ("2", "3", "4")
    assert PromptHistory(path, limit=3).entries == ("2", "3", "4")
    assert len(path.read_text().splitlines()) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["{torn", "[]", '{"text": 3}', '{"text": " "}', "", "\x00\x00"])
def test_skips_damaged_lines(tmp_path: Path, damage: str) -> None:
    """A line that cannot be understood costs that line alone."""
    path = tmp_path / "prompts.history"
    path.write_text(f'{{"text": "before"}}\n{damage}\n{{"text": "after"}}\n')
    assert PromptHistory(path).entries == ("before", "after")


def test_a_torn_last_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    """After a crash in the middle of a line, the next prompt gets a line of its own."""
    path = tmp_path / "prompts.history"
    path.write_text('{"text": "before"}\n{"te')
    PromptHistory(path).add("after")
    assert PromptHistory(path).entries == ("before", "after")
    assert json.loads(path.read_text().splitlines()[-1]) == {"text": "after"}


def test_a_file_that_cannot_be_kept_is_said_and_nothing_more(tmp_path: Path) -> None:
    """Without a writable place the history works in memory and gives one line of reason."""
    (tmp_path / "state").write_text("a file where the directory should be")
    history = PromptHistory(tmp_path / "state" / "prompts.history")
    history.add("one")
    assert history.older("") == "one"
    assert "not kept" in history.problem or "cannot be read" in history.problem
    assert "\n" not in history.problem
