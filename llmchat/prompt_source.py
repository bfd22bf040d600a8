"""Where a prompt comes from: a flag, a file, and what is piped in beside them.

piped in ─ a blank line, or where {stdin} stands ─▶ prompt ◀─ --prompt, --prompt-file, a question
"""

from __future__ import annotations

import codecs
import os
import re
import select
import stat
import sys
from typing import BinaryIO

from llmchat.chat.plain_text import checked_text
from llmchat.errors import UsageError
from llmchat.files import describe, expanded

PROMPT_LIMIT = 16 * 2**20
"""Bytes; no model's context holds as much, and an endless input must end."""

SILENT_SECONDS = 30.0
"""So long a pipe may stay silent beside a prompt. Once something has come, all of it is waited for."""

_TOLD_AFTER_SECONDS = 1.0
_PLACE = re.compile(r"(?<!\{)\{stdin\}(?!\})")


def read_prompt(text: str | None, file: str | None, *, piped: bool = False, quiet: bool = False) -> str | None:
    """The prompt that was given, without its last line feed, and with what was piped in.

    Args:
        text: A prompt from the command line; "-" stands for standard input.
        file: A file to read it from; "-" stands for standard input.
        piped: Take in what is piped in: the prompt where neither is given; else it stands before the
            prompt and a blank line, or wherever the prompt says {stdin}.
        quiet: Do not tell a person at a terminal that a pipe is waited for.

    Returns:
        The prompt; None if there is none, also if nothing was piped in.

    Raises:
        UsageError: It cannot be read, is no text, is too long, or a pipe beside it stays silent.
    """
    if "-" in (text, file):
        return _read(sys.stdin.buffer, "standard input")
    prompt = _read_file(file) if file is not None else text
    if text is not None:
        prompt = checked_text(text, "The prompt").removesuffix("\n")
    if not piped:
        return prompt
    if prompt is None:
        return None if sys.stdin.isatty() else _read(sys.stdin.buffer, "standard input") or None
    return _joined(_read_beside(quiet=quiet, is_awaited=_PLACE.search(prompt) is not None), prompt)


def is_piped() -> bool:
    """Whether something may be piped in: standard input is open, and no terminal."""
    try:
        return sys.stdin.fileno() >= 0 and not sys.stdin.isatty()
    except (OSError, ValueError):
        return False


def _joined(piped: str, prompt: str) -> str:
    if not piped.strip() or not prompt.strip():
        return prompt if not piped.strip() else piped
    if _PLACE.search(prompt):
        return _PLACE.sub(lambda _: piped, prompt)
    return f"{piped}\n\n{prompt}"


def _read_beside(*, quiet: bool, is_awaited: bool) -> str:
    """What is piped in beside a prompt; "" if nothing is.

    Args:
        quiet: Do not tell a person at a terminal that it is waited for.
        is_awaited: Wait for it as long as it takes, for the prompt has a place for it.

    Raises:
        UsageError: It cannot be read, or nothing comes and nobody closes it.
    """
    if not is_piped():
        return ""
    if not is_awaited and not _has_begun(_TOLD_AFTER_SECONDS):
        if sys.stderr.isatty() and not quiet:
            print("llmchat: waiting for standard input; --no-stdin leaves it alone.", file=sys.stderr)
        if not _has_begun(SILENT_SECONDS - _TOLD_AFTER_SECONDS):
            # To answer without what was to come would be wrong, and not seen.
            raise UsageError(
                f"Standard input is open, but nothing came within {SILENT_SECONDS:g} seconds. "
                "Leave it alone with --no-stdin, or say {stdin} in the prompt to wait longer."
            )
    return _read(sys.stdin.buffer, "standard input")


def _has_begun(seconds: float) -> bool:
    """Wait until standard input has something to read, or has ended; files always have."""
    number = sys.stdin.fileno()
    mode = os.fstat(number).st_mode
    if os.name == "nt" or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return True
    return bool(select.select([number], [], [], max(seconds, 0))[0])


def _read_file(file: str) -> str:
    try:
        handle = expanded(file).open("rb")
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
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"The prompt from {source} is text in UTF-16. Convert it to UTF-8.")
    text = data.decode("utf-8-sig", errors="surrogateescape").replace("\r\n", "\n")
    return checked_text(text, f"The prompt from {source}").removesuffix("\n")
