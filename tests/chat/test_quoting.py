"""Strings as they are typed: quotes, escapes, several of them, and the words for none."""

from __future__ import annotations

import tomllib

import pytest

from llmchat.chat.generation_config import parse_setting
from llmchat.chat.quoting import typed_strings, typed_text, written
from llmchat.errors import UsageError


@pytest.mark.parametrize(
    ("text", "strings"),
    [
        ("two", ("two",)),
        ("three END", ("three END",)),
        ('"two"', ("two",)),
        (r'"\n" "User:"', ("\n", "User:")),
        (r'"\n","User:"', ("\n", "User:")),
        (r'["\n", "User:"]', ("\n", "User:")),
        (r'["\n", "User:",]', ("\n", "User:")),
        (r"'\n' 'it''s'", (r"\n", "it", "s")),
        (r"\n\n", ("\n\n",)),
        ("[INST]", ("[INST]",)),
        ("don't", ("don't",)),
        (r'"say \"no\" \\ \u00e9"', ('say "no" \\ é',)),
        ('"a\nb"', ("a\nb",)),
        ("off", ()),
        ("None", ()),
        ('"off"', ("off",)),
        ('""', ()),
        ("", ()),
        ("[]", ()),
        ("[ ]", ()),
    ],
)
def test_stop_strings_are_typed_as_in_toml(text: str, strings: tuple[str, ...]) -> None:
    """One string needs no quotes; several, line feeds and the word off stand in them."""
    assert typed_strings(text) == strings
    assert parse_setting("stop", text) == ("stop", strings)


@pytest.mark.parametrize("text", ['"two', '"two" three', r'"\q"', "'it's'"])
def test_what_is_not_closed_or_unknown_is_refused(text: str) -> None:
    """A typing error is said, and does not become a part of the string."""
    with pytest.raises(UsageError):
        typed_strings(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Ahoy, ", "Ahoy,"),
        ('"Ahoy, "', "Ahoy, "),
        ('"Ahoy', '"Ahoy'),
        ("OFF", ""),
        ("'off'", "off"),
        ('"a" "b"', '"a" "b"'),
    ],
)
def test_a_text_needs_quotes_for_its_spaces_only(text: str, meant: str) -> None:
    """A prefill or a system prompt stands as it is typed; off is none."""
    assert typed_text(text) == meant


@pytest.mark.parametrize("text", ["two", "\n\t\r", 'say "no" \\ é', "\x00\x1b\x7f", "🌊\u2028"])
def test_what_is_shown_can_be_typed(text: str) -> None:
    """A string as it is shown is read back, here and by TOML."""
    assert typed_strings(written(text)) == (text,)
    assert tomllib.loads("text = " + written(text))["text"] == text
