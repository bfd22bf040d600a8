"""Whether a file's name fits what is written to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from llmchat.errors import UsageError


def check_suffix(path: Path, suffixes: Iterable[str], what: str) -> None:
    """Refuse a name whose ending says that the file holds something else than it will; without one it says nothing.

    Args:
        path: The file.
        suffixes: The endings that fit, such as ".md".
        what: What is to be written, to begin the message: "A table".

    Raises:
        UsageError: The ending is another.
    """
    if (suffix := path.suffix.lower()) and suffix not in suffixes:
        raise UsageError(f"{what} is not written to {path.name!r}: give a name that ends in {' or '.join(suffixes)}.")
