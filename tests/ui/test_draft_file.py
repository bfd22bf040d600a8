"""What is being written outlives a process that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat.paths import history_path
from llmchat.ui.draft_file import DraftFile
from llmchat.ui.prompt_history import PromptHistory
from tests.fakes import ScriptedEngine
from tests.terminals import Terminal
from tests.ui.helpers import window


def test_drafts_of_processes_that_are_gone_are_given_once(tmp_path: Path) -> None:
    """One that is being written in another window is that one's; a damaged file is no draft."""
    path = tmp_path / "prompts.history"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name, text in (
        (f"{gone.pid}", '{"text": "half a thought"}'),
        ("1", '{"text": "not ours"}'),
        ("999999999", "{"),
    ):
        (tmp_path / f"prompts.draft-{name}").write_text(text)
    file = DraftFile(path)
    file.keep("my own")
    assert list(file.left_behind()) == ["half a thought"]
    assert list(file.left_behind()) == []
    assert {item.name for item in tmp_path.iterdir()} >= {"prompts.draft-1", f"prompts.draft-{os.getpid()}"}
    file.keep(" \n")
    assert not (tmp_path / f"prompts.draft-{os.getpid()}").exists()


async def test_a_draft_is_kept_after_a_moment_and_gone_once_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent does not come back as a draft."""
    monkeypatch.setattr("llmchat.ui.widgets.prompt_input.DRAFT_SECONDS", 0.01)
    kept = history_path().with_name(f"{history_path().stem}.draft-{os.getpid()}")
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.write("words not sent")
        await it.until(lambda: kept.exists() and "words not sent" in kept.read_text(), "the draft on disk")
        await it.press("enter")
        await it.until(lambda: not kept.exists(), "no draft")
    assert "words not sent" in PromptHistory(history_path()).entries


def test_a_draft_outlives_sigkill(sandbox: Path) -> None:
    """Up brings it back at the next start."""
    first = Terminal("--model", "tiny", "--no-save")
    try:
        first.wait_for("ready")
        first.press("a thought that nobody heard")
        draft = history_path().with_name(f"{history_path().stem}.draft-{first.process.pid}")
        first.wait_for("nobody heard")
        first.wait_until(lambda: draft.exists() and "nobody heard" in draft.read_text(), "the draft on disk")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    finally:
        first.close()
    second = Terminal("--model", "tiny", "--no-save")
    try:
        second.wait_for("ready")
        place = len(second.text)
        second.press("\x1b[A")
        second.wait_for("nobody heard", place)
    finally:
        second.close()
