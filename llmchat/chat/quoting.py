"""Strings as a person types them: in the quotes of TOML where they need any."""

from __future__ import annotations

import json
import re

from llmchat.errors import UsageError

NOTHING = ("", "off", "none")
"""What is typed for no text at all; the word itself is typed in quotes."""

_QUOTED = re.compile(r""" "(?:[^"\\]|\\.)*" | '[^']*' """, re.DOTALL | re.VERBOSE)
_ARRAY = re.compile(r"""\[\s*(["'].*?),?\s*\]""", re.DOTALL)
_EMPTY_ARRAY = re.compile(r"\[\s*\]")
_BETWEEN = re.compile(r"[\s,]*")


def typed_strings(text: str) -> tuple[str, ...]:
    r"""One or several strings.

    Args:
        text: Strings in double quotes, where `\n` is a line feed, or in single ones, where it is not, with spaces or
            commas between, in brackets or not; or one string without quotes, where `\n` and `\t` mean what they do in
            quotes. `off`, `none` and empty brackets are no string.

    Raises:
        UsageError: A quote is not closed, or an escape has no meaning.
    """
    text = text.strip()
    if text.lower() in NOTHING or _EMPTY_ARRAY.fullmatch(text):
        return ()
    array = _ARRAY.fullmatch(text)
    rest = array[1] if array else text
    if rest[0] not in "\"'":
        return (rest.replace("\\n", "\n").replace("\\t", "\t"),)
    strings: list[str] = []
    while rest:
        match = _QUOTED.match(rest)
        if match is None:
            raise UsageError(f"A quote is not closed, or words stand outside the quotes: {text}")
        strings.append(_unquoted(match[0]))
        rest = rest[_BETWEEN.match(rest, match.end()).end() :]  # type: ignore[union-attr]
    return tuple(strings) if any(strings) else ()


def typed_text(text: str) -> str:
    """A text that stands as it is typed, or in quotes as a whole; "" for `off` and `none`.

    Raises:
        UsageError: An escape in the quotes has no meaning.
    """
    text = text.strip()
    if text.lower() in NOTHING:
        return ""
    return _unquoted(text) if _QUOTED.fullmatch(text) else text


def written(text: str) -> str:
    """A string in double quotes, as `typed_strings` and TOML read it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _unquoted(quoted: str) -> str:
    if quoted[0] == "'":
        return quoted[1:-1]
    import tomllib

    try:
        # A line feed that was typed as such is one, too.
        return str(tomllib.loads("text = " + quoted.replace("\n", "\\n"))["text"])
    except tomllib.TOMLDecodeError:
        raise UsageError(f'{quoted}: a backslash is typed \\\\, a line feed \\n, a double quote \\".') from None
