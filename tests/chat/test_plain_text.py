"""What could act on a terminal is made visible, in whole texts and in streams."""

from __future__ import annotations

import random

import pytest

from llmchat.chat.plain_text import VisibleStream, checked_text, visible
from llmchat.errors import UsageError

FLAG = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2J", "␛]0;title␇␛[2J"),
        ("a\r\nb\rc\x7f\x00", "a \nb␍c␡␀"),
        ("\u202eevil\u2066", "⇄evil⇄"),
        ("a\u200bb\u00adc\ufeff", "a␣b␣c␣"),
        ("\x9b31m\U000e0041", "�31m�"),
        (f"👩\u200d👧 {FLAG} न\u200dन é\ttab\n", f"👩\u200d👧 {FLAG} न\u200dन é\ttab\n"),
    ],
)
def test_one_character_stands_for_each_that_acts_or_hides(text: str, shown: str) -> None:
    """Nothing of a model or a file can steer the terminal; offsets into the text stay true."""
    assert visible(text) == shown
    assert len(shown) == len(text)


def test_a_stream_shows_what_the_whole_text_would() -> None:
    """Joiners, flags, piles of accents and line ends are judged with their neighbours, wherever the cuts fall."""
    parts = ["👩\u200d👧", FLAG, FLAG[:4], "न\u200dन", "x\u200dy", "\u200c", "a\r\nb", "\r", "e" + "\u0301" * 9]
    parts += ["\x1b[1m", "plain", "\u202e", FLAG[0] + "\U000e0061" * 9, "\n", ""]
    dice = random.Random(5)
    for _ in range(400):
        text = "".join(dice.choices(parts, k=6))
        cuts = sorted(dice.choices(range(len(text) + 1), k=dice.randrange(8)))
        stream = VisibleStream()
        pieces = [stream.add(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert "".join(pieces) + stream.finish() == visible(text)


def test_a_stream_holds_back_no_more_than_it_must() -> None:
    """Ordinary text comes at once, so that streaming stays smooth."""
    stream = VisibleStream()
    assert [stream.add(piece) for piece in ("Hel", "lo 👩", "\u200d", "👧", "é\n")] == [
        "Hel",
        "lo 👩",
        "",
        "\u200d👧",
        "é\n",
    ]
    assert stream.finish() == ""


@pytest.mark.parametrize("text", ["a\0b", "a\udcff"])
def test_what_is_no_text_is_refused(text: str) -> None:
    """Zero bytes and bytes that are no UTF-8 are named before a tokenizer trips over them."""
    with pytest.raises(UsageError, match=r"^The prompt is n.* UTF-8 text"):
        checked_text(text, "The prompt")
    assert checked_text("naïve ☃", "The prompt") == "naïve ☃"
