"""Copying text: by the terminal (OSC 52) and by a system tool, saying which of them ran.

A terminal does not answer whether it took the text, so the words are "sent to
the terminal"; a tool that ends well has copied.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.app import App

OSC52_LIMIT = 74_000
"""Bytes of text. Many terminals drop sequences of more than 100,000 characters, and base64 adds a third."""
TOOL_TIMEOUT_SECONDS = 2.0
SCREEN_CHUNK = 700
"""Bytes; GNU screen drops longer passages."""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """Where a copied text went."""

    to_terminal: bool
    """Whether the text was sent to the terminal, which may or may not have taken it."""
    tool: str | None
    """The system tool that took the text."""
    too_long: bool = False
    """Whether the text was too long for the terminal."""

    @property
    def succeeded(self) -> bool:
        """Whether the text went anywhere at all."""
        return self.to_terminal or self.tool is not None

    @property
    def message(self) -> str:
        """What happened, for a toast: "Copied with wl-copy, and sent to the terminal"."""
        if self.tool and self.to_terminal:
            return f"Copied with {self.tool}, and sent to the terminal"
        if self.tool:
            return f"Copied with {self.tool}"
        if self.to_terminal:
            return "Sent to the terminal's clipboard"
        reason = "The text is too long for the terminal's clipboard" if self.too_long else "There is no clipboard here"
        return f"{reason}; /copy FILE writes it to a file"


async def copy_text(app: App[Any], text: str, environ: Mapping[str, str] = os.environ) -> CopyResult:
    """Copy a text by every way there is.

    Args:
        app: The running app, whose terminal gets the text.
        text: What to copy.
        environ: Tells of tmux, screen and the display.
    """
    data = text.encode("utf-8", "replace")
    fits = len(data) <= OSC52_LIMIT
    sent = fits and _send_to_terminal(app, data, environ)
    tool = find_tool(environ)
    ran = tool is not None and await asyncio.to_thread(_run_tool, tool, data)
    return CopyResult(sent, Path(tool[0]).name if tool and ran else None, too_long=not fits)


def find_tool(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Sequence[str] | None:
    """The command of the first clipboard tool that can work here."""
    candidates: list[tuple[bool, Sequence[str]]] = [
        (platform == "darwin", ("pbcopy",)),
        (bool(environ.get("WAYLAND_DISPLAY")), ("wl-copy",)),
        (bool(environ.get("DISPLAY")), ("xclip", "-selection", "clipboard", "-in")),
        (bool(environ.get("DISPLAY")), ("xsel", "--clipboard", "--input")),
        ("WSL_DISTRO_NAME" in environ or platform == "win32", ("clip.exe",)),
    ]
    for fits, (name, *options) in candidates:
        if fits and (program := shutil.which(name, path=environ.get("PATH"))):
            return program, *options
    return None


def osc52_sequences(data: bytes, environ: Mapping[str, str] = os.environ) -> list[str]:
    """What to write so that the terminal takes a text, through tmux or screen too.

    Inside one of them both forms are written: the plain one, which it may take
    itself, and one that it hands on to the terminal outside.
    """
    plain = f"\x1b]52;c;{base64.b64encode(data).decode()}\a"
    sequences = [plain]
    if environ.get("TMUX"):
        sequences.append("\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\")
    elif environ.get("STY"):
        chunks = [plain[at : at + SCREEN_CHUNK] for at in range(0, len(plain), SCREEN_CHUNK)]
        sequences.append("".join(f"\x1bP{chunk}\x1b\\" for chunk in chunks))
    return sequences


def _send_to_terminal(app: App[Any], data: bytes, environ: Mapping[str, str]) -> bool:
    # Textual's own way knows no tmux, but it also sets what is pasted within the app.
    app.copy_to_clipboard(data.decode())
    driver = app._driver
    if driver is None or app.is_headless:
        return False
    for sequence in osc52_sequences(data, environ)[1:]:
        driver.write(sequence)
    driver.flush()
    return True


def _run_tool(command: Sequence[str], data: bytes) -> bool:
    """Run a clipboard tool. Some stay in the background to serve the text, so nothing of it is read."""
    if command[0].endswith("clip.exe"):
        data = data.decode().encode("utf-16")
    try:
        done = subprocess.run(
            command,
            input=data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TOOL_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
