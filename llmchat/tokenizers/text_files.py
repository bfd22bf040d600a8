"""The small text files that come with a model: read with bounds, and named as what they are where they are another."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from llmchat.errors import ModelLoadError
from llmchat.file_kinds import HEAD_BYTES, kind_words
from llmchat.files import describe

CONFIG_LIMIT = 4 * 2**20
"""Bytes of a settings or template file; tokenizer_config.json may list thousands of tokens."""


def read_data(path: Path, limit: int) -> bytes | None:
    """The bytes of a file; None if there is none.

    Raises:
        ModelLoadError: It cannot be read, is no regular file, or has more than `limit` bytes.
    """
    try:
        if not path.exists():
            return None
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise ModelLoadError(f"{path} is too large to be what its name says, or no file.")
        with path.open("rb") as file:
            return file.read(limit)
    except (OSError, ValueError) as error:
        words = describe(error) if isinstance(error, OSError) else "its name is not valid"
        raise ModelLoadError(f"{path} cannot be read: {words}.") from error


def read_text(path: Path, limit: int = CONFIG_LIMIT) -> str | None:
    """The text of a file; None if there is none. Bytes that are no UTF-8 become U+FFFD.

    Raises:
        ModelLoadError: As `read_data`, or it is something that is no UTF-8 text at all.
    """
    data = read_data(path, limit)
    if data and (words := kind_words(data[:HEAD_BYTES])):
        raise ModelLoadError(f"{path} {words}.")
    return None if data is None else data.decode("utf-8-sig", "replace")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty if there is no such file.

    Raises:
        ModelLoadError: As `read_text`, or it holds something else.
    """
    text = read_text(path)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path} is damaged: it is no JSON.") from error
    if not isinstance(value, dict):
        raise ModelLoadError(f"{path} is damaged: it holds no JSON object.")
    return value
