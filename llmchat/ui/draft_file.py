"""What is being written and not yet sent, kept beside the prompt history for the case that the process is killed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from llmchat.errors import UsageError
from llmchat.files import write_text
from llmchat.paths import ensure


class DraftFile:
    """One file a process, named after it; it is gone as soon as there is nothing in it.

    A file that cannot be written stands in nobody's way: the draft is in the window still.
    """

    def __init__(self, history: Path) -> None:
        """Nothing is written yet.

        Args:
            history: The file of past prompts, beside which drafts are kept.
        """
        self._stem = f"{history.stem}.draft-"
        self._directory = history.parent
        self._path = self._directory / f"{self._stem}{os.getpid()}"

    def keep(self, text: str) -> None:
        """Keep a draft in place of the one before; one of blanks alone is none."""
        with contextlib.suppress(OSError, UsageError):
            if text.strip():
                ensure(self._directory)
                write_text(self._path, json.dumps({"text": text}), durable=False)
            else:
                self._path.unlink(missing_ok=True)

    def left_behind(self) -> Iterator[str]:
        """The drafts of processes that are no more; each is given once."""
        for path in self._left_files():
            with contextlib.suppress(OSError, ValueError, RecursionError):
                value = json.loads(path.read_text("utf-8"))
                path.unlink()
                if isinstance(value, dict) and isinstance(value.get("text"), str):
                    yield value["text"]

    def _left_files(self) -> list[Path]:
        try:
            found = sorted(self._directory.glob(f"{self._stem}*"))
        except OSError:
            return []
        return [path for path in found if not _is_running(path.name.removeprefix(self._stem))]


def _is_running(process_id: str) -> bool:
    if not process_id.isdecimal():
        return True  # A file of somebody else.
    try:
        os.kill(int(process_id), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
