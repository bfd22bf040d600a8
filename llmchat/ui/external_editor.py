"""Writing a prompt in the person's own editor."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from llmchat.errors import UsageError
from llmchat.files import describe


def editor_command() -> list[str]:
    """The editor and its arguments: $VISUAL, else $EDITOR, else one that is there.

    Raises:
        UsageError: There is none.
    """
    for name in ("VISUAL", "EDITOR"):
        if value := os.environ.get(name, "").strip():
            try:
                return shlex.split(value, posix=os.name != "nt")
            except ValueError as error:
                raise UsageError(f"${name} cannot be understood: {error}.") from None
    for editor in ("notepad",) if os.name == "nt" else ("nano", "vim", "vi"):
        if found := shutil.which(editor):
            return [found]
    raise UsageError("No editor was found. Set $EDITOR to the one you use.")


def edit_text(text: str) -> str:
    """Open the editor on a text, wait for it, and return what it left; the terminal must be free.

    Raises:
        UsageError: The editor cannot be started, or says that it failed.
    """
    command = editor_command()
    path = ""
    try:
        handle, path = tempfile.mkstemp(prefix="llmchat-prompt-", suffix=".md")
        with open(handle, "w", encoding="utf-8", newline="\n", errors="replace") as file:
            file.write(text)
        # While the window runs, descriptors 1 and 2 lead to the log; the terminal is behind these.
        status = subprocess.run([*command, path], check=False, stdout=sys.__stdout__, stderr=sys.__stderr__).returncode
        if status:
            raise UsageError(f"{command[0]} ended with status {status}; the prompt is as it was.")
        return Path(path).read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be used: {describe(error)}. Check $EDITOR.") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
