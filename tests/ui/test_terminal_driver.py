"""What is typed and pasted, as the terminal sends it: nothing in it ends the window or sends a message."""

from __future__ import annotations

from itertools import pairwise

import pytest
from textual import events
from textual.message import Message

from llmchat.ui.terminal_driver import TerminalParser

START, END = "\x1b[200~", "\x1b[201~"


def parsed(*reads: str) -> list[str]:
    """What became of texts that came one after the other: keys by their names, pastes in quotes."""
    parser = TerminalParser()
    return [_words(event) for read in reads for event in parser.feed(read)]


def _words(event: Message) -> str:
    if isinstance(event, events.Paste):
        return repr(event.text)
    return event.key if isinstance(event, events.Key) else type(event).__name__


@pytest.mark.parametrize(
    "text",
    [
        "one\rtwo\r",
        "red \x1b[31mred\x1b[0m\r\nend",
        "a lone \x1b and \x1bOP, \x1b[A, \x1b[<0;3;3M",
        "a long one \x1b]52;c;" + "QUJD" * 20 + "\x07 and \r more",
        "\x9b31m \u202e",
        "~~ [201~ ~",
        "",
    ],
)
@pytest.mark.parametrize("cut", [1, 3, 10_000])
def test_a_paste_is_what_was_copied(text: str, cut: int) -> None:
    """Whatever it holds and however it is cut: no key of it acts, nothing changes its place."""
    whole = f"a{START}{text}{END}\r"
    edges = [*range(0, len(whole), cut), len(whole)]
    assert parsed(*(whole[begin:end] for begin, end in pairwise(edges))) == ["a", repr(text), "enter"]


def test_an_end_mark_inside_a_paste_does_not_end_it() -> None:
    """What follows it would be typed, and its line break would send it."""
    assert parsed(f"{START}one{END}\rtwo{END}\r") == [repr("one[201~\rtwo"), "enter"]
    assert parsed(f"{START}one{END}{START}two{END}") == ["'one'", "'two'"]


def test_lines_that_come_at_once_are_a_paste_also_without_marks() -> None:
    """A terminal that does not mark pastes sends their line breaks as Enter does."""
    assert parsed("the first line\rthe second\r") == [repr("the first line\rthe second\r")]
    assert parsed("a message typed\r")[-1] == "enter"
    assert parsed("y\rn\r") == ["y", "enter", "n", "enter"]
    assert parsed("a word\x7f\x7f and one\rmore")[-5:] == ["enter", *"more"]
    assert parsed("\x1b[A\r\x1b[B\r\x1b[<0;13;23M\r\x1b[A\r")[-2:] == ["up", "enter"]
    assert parsed(f"{START}one", "the first line\rthe second", END) == [repr("onethe first line\rthe second")]


@pytest.mark.parametrize(
    "text", ["abc\x07\x00 tab\there\nsecond line", "abc \x1b]0;title\x07 \x11\r\nthe second line \x03"]
)
def test_lines_without_marks_may_hold_anything(text: str) -> None:
    """A byte that is a key's opens no editor and ends nothing, and no line is sent."""
    assert parsed(text) == [repr(text.replace("\x00", ""))]


def test_a_command_inside_of_what_comes_at_once_is_text() -> None:
    """What follows ^G would be typed into the editor; at the beginning and the end, and alone, it is a key."""
    assert parsed("abc\x07def") == [*"abcdef"]
    assert parsed("abc\x07") == [*"abc", "ctrl+g"]
    assert parsed("\x06needle\r") == ["ctrl+f", *"needle", "enter"]
    assert parsed("two\x17three\x15four\x7fx") == [*"two", "ctrl+w", *"three", "ctrl+u", *"four", "backspace", "x"]
