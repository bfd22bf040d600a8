"""Where a prompt comes from: a flag, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from llmchat.chat.plain_text import checked_text
from llmchat.errors import UsageError
from llmchat.files import describe

PROMPT_LIMIT = 16 * 2**20
"""Bytes; no model's context holds as much, and an endless input must end."""


def read_prompt(text: str | None, file: str | None, *, piped: bool = False) -> str | None:
    """The prompt that was given, with line feeds for line ends and without the last one of a file.

    Args:
        text: A prompt from the command line; "-" stands for standard input.
        file: A file to read it from; "-" stands for standard input.
        piped: Take what is piped in where neither is given.

    Returns:
        The prompt; None if there is none, also if nothing was piped in.

    Raises:
        UsageError: It cannot be read, is no text, or is too long.
    """
    if text is not None and text != "-":
        return checked_text(text, "The prompt")
    if text == "-" or file == "-":
        return _read(sys.stdin.buffer, "standard input")
    if file is None:
        return (_read(sys.stdin.buffer, "standard input") or None) if piped and not sys.stdin.isatty() else None
    try:
        handle = Path(file).expanduser().open("rb")
    except OSError as error:
        raise UsageError(f"The prompt file {file} cannot be read: {describe(error)}.") from None
    with handle:
        return _read(handle, file)


def _read(handle: BinaryIO, source: str) -> str:
    try:
        data = handle.read(PROMPT_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"The prompt from {source} cannot be read: {describe(error)}.") from None
    if len(data) > PROMPT_LIMIT:
        raise UsageError(f"The prompt from {source} is longer than {PROMPT_LIMIT // 2**20} MiB. Shorten it.")
    text = data.decode("utf-8-sig", errors="surrogateescape").replace("\r\n", "\n")
    return checked_text(text, f"The prompt from {source}").removesuffix("\n")
