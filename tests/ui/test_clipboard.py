"""Copying text, with real tools made for the test and a terminal that records."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from textual.app import App

from llmchat.ui.clipboard import OSC52_LIMIT, CopyResult, copy_text, find_tool, osc52_sequences
from tests.patience import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give tools that do end the time they need on a busy machine."""
    monkeypatch.setattr("llmchat.ui.clipboard.TOOL_TIMEOUT_SECONDS", PATIENCE_SECONDS)


def make_tool(directory: Path, name: str, script: str) -> None:
    """Put a small program on a search path."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_tool_is_taken_only_where_its_display_is(tmp_path: Path) -> None:
    """A tool without its display would fail or hang; Wayland goes before X."""
    for name in ("wl-copy", "xclip", "xsel", "pbcopy", "clip.exe"):
        make_tool(tmp_path, name, "cat >/dev/null")
    path = {"PATH": str(tmp_path)}
    assert find_tool(path, "linux") is None

    def chosen(environ: dict[str, str], platform: str = "linux") -> str:
        return Path((find_tool(path | environ, platform) or [""])[0]).name

    assert chosen({"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}) == "wl-copy"
    assert chosen({"DISPLAY": ":0"}) == "xclip"
    assert chosen({}, "darwin") == "pbcopy"
    assert chosen({"WSL_DISTRO_NAME": "x"}) == "clip.exe"
    (tmp_path / "xclip").unlink()
    assert chosen({"DISPLAY": ":0"}) == "xsel"


def test_the_sequence_passes_through_tmux_and_screen() -> None:
    """Inside tmux and screen the text is also handed on to the terminal outside."""
    data = "héllo".encode()
    plain = f"\x1b]52;c;{base64.b64encode(data).decode()}\a"
    assert osc52_sequences(data, {}) == [plain]
    assert osc52_sequences(data, {"TMUX": "x"}) == [plain, f"\x1bPtmux;\x1b{plain}\x1b\\"]
    long = osc52_sequences(b"x" * 3000, {"STY": "x"})[1]
    chunks = long.removeprefix("\x1bP").removesuffix("\x1b\\").split("\x1b\\\x1bP")
    assert "".join(chunks) == osc52_sequences(b"x" * 3000, {})[0]
    assert max(map(len, chunks)) <= 700


async def test_a_tool_gets_the_text_and_is_named(tmp_path: Path) -> None:
    """What the tool is given is the text to the byte, and the toast says who took it."""
    target = tmp_path / "copied"
    make_tool(tmp_path, "xclip", f'/bin/cat > "{target}"')
    app: App[None] = App()
    async with app.run_test():
        result = await copy_text(app, "sea 海\n", {"PATH": str(tmp_path), "DISPLAY": ":0"})
    assert target.read_text() == "sea 海\n"
    assert result == CopyResult(to_terminal=False, tool="xclip")
    assert result.message == "Copied with xclip"
    assert app.clipboard == "sea 海\n"


@pytest.mark.parametrize("script", ["exit 1", "exec /bin/sleep 30"])
async def test_a_tool_that_fails_or_hangs_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """Nothing claims to have copied that did not, and a stuck tool is given up."""
    monkeypatch.setattr("llmchat.ui.clipboard.TOOL_TIMEOUT_SECONDS", 0.2)
    make_tool(tmp_path, "xclip", script)
    app: App[None] = App()
    async with app.run_test():
        result = await copy_text(app, "text", {"PATH": str(tmp_path), "DISPLAY": ":0"})
    assert not result.succeeded
    assert "/copy FILE" in result.message


async def test_a_text_too_long_for_the_terminal_is_said_to_be(tmp_path: Path) -> None:
    """Terminals drop long sequences silently, so none is sent and the toast names the way out."""
    app: App[None] = App()
    async with app.run_test():
        result = await copy_text(app, "x" * (OSC52_LIMIT + 1), {"PATH": str(tmp_path)})
    assert result.too_long
    assert result.message.startswith("The text is too long")


async def test_half_a_character_does_not_stop_copying(tmp_path: Path) -> None:
    """A lone surrogate, which no encoding can write, is replaced."""
    app: App[None] = App()
    async with app.run_test():
        await copy_text(app, "a\ud800b", {"PATH": str(tmp_path)})
    assert app.clipboard == "a?b"


def test_the_message_claims_no_more_than_is_known() -> None:
    """A terminal does not answer, so its text was sent, not copied."""
    assert "Sent to the terminal" in CopyResult(True, None).message
    both = CopyResult(True, "wl-copy").message
    assert "Copied with wl-copy" in both
    assert "sent to the terminal" in both
