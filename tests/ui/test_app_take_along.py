"""Copying a reply as a command and as Python, and being told of a loop, in the window."""

from __future__ import annotations

from pathlib import Path
from threading import Semaphore

import pytest

from llmchat.ui import clipboard
from tests.fakes import ScriptedEngine
from tests.ui.helpers import GREEDY, tiny_options, window


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was copied."""
    texts: list[str] = []

    async def copy(app: object, text: str) -> clipboard.CopyResult:
        texts.append(text)
        return clipboard.CopyResult(True, "Copied.")

    monkeypatch.setattr(clipboard, "copy_text", copy)
    return texts


async def test_keys_and_commands_copy_what_makes_a_reply_again(copied: list[str], tmp_path: Path) -> None:
    """C and P on a turn, /copy command and /copy python for the last reply, into a file if one is named."""
    async with window(options=tiny_options()) as it:
        await it.ask("Alice")
        seed = it.reply.seed
        await it.select()
        await it.press("C")
        await it.press("P")
        await it.send("/copy command")
        await it.send("/copy python")
        await it.until(lambda: len(copied) == 4)
        assert copied[0] == copied[2] and copied[1] == copied[3]
        assert copied[0] == f"llmchat --once --model tiny --no-stdin --prompt Alice --seed {seed} --max-new-tokens 24"
        assert "model = llmchat.load('tiny')" in copied[1] and f"seed={seed}" in copied[1]
        await it.send(f"/copy command {tmp_path / 'again.sh'}")
        await it.send(f"/copy python {tmp_path / 'again.py'}")
        await it.until(lambda: "again.py" in it.notes)
        assert (tmp_path / "again.sh").read_text().rstrip("\n") == copied[0].rstrip("\n")
        assert (tmp_path / "again.py").read_text().rstrip("\n") == copied[1].rstrip("\n")
        for words in ("/copy command", "/copy python", "/export"):
            name = f"{words[-3:]}.html"
            await it.send(f"{words} {tmp_path / name}")
            await it.until(lambda name=name: f"{name}': give a name that ends in" in it.toasts)  # type: ignore[misc]
            assert not (tmp_path / name).exists()
        await it.select(2)
        await it.press("C")
        assert "that a model drew" in it.toasts


async def test_a_loop_is_told_and_can_be_stopped() -> None:
    """One notice while it runs; stopped, the reply says what was going on."""
    gate = Semaphore(0)
    text = "I am lost. " * 40
    async with window(ScriptedEngine(text, gate=gate), config=GREEDY, gate=gate) as it:
        await it.send("hi")
        await it.let_through(gate, lambda: "it repeats" in it.notes)
        assert it.notes.count("it repeats “I am lost.” for the") == 1
        assert "Esc stops it, or raise the repetition penalty" in it.notes
        await it.press("escape")
        gate.release(1000)
        await it.idle()
        assert it.notes == "stopped by you, repeating itself"
        assert "it repeats" not in it.screen
