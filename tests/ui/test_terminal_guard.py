"""Whatever a widget draws, no text of it acts on the terminal."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from llmchat.ui.app import LlmchatApp
from llmchat.ui.terminal_guard import OnlyText
from tests.fakes import ScriptedEngine
from tests.ui.helpers import window

BLACK = Color(0, 0, 0)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("a\x1b]0;title\x07b", "a]0;titleb"),
        ("a\x9b2Jb\x7f\x00\t\n", "a2Jb"),
        ("\u202eevil\u2066\u200e\u061c", "evil"),
        ("\u200b\U000e0041 \ud800 \ue000", " � \ue000"),
        ("no\u00a0break, 👩\u200d👧, e\u0301, 中文", "no\u00a0break, 👩\u200d👧, e\u0301, 中文"),
    ],
)
def test_what_is_no_text_is_taken_out(text: str, drawn: str) -> None:
    """Its line keeps its width, so that what stands beside it stays where it is."""
    (segment,) = OnlyText().apply([Segment(text, Style(bold=True))], BLACK)
    assert segment.text == drawn
    assert cell_len(segment.text) == cell_len(text)
    assert segment.style == Style(bold=True)


def test_a_link_leads_nowhere() -> None:
    """An address is written to the terminal as it stands, and could end the sequence that holds it."""
    (segment,) = OnlyText().apply([Segment("text", Style(link="x\x1b\\\x1b]52;c;QUJD\x07", bold=True))], BLACK)
    assert segment.style is not None and segment.style.link is None and segment.style.bold


def test_plain_lines_are_passed_on_as_they_are() -> None:
    """The usual line costs one look."""
    segments = [Segment("plain", Style(bold=True)), Segment("中文", None)]
    assert OnlyText().apply(segments, BLACK) is segments


async def test_every_widget_goes_through_it() -> None:
    """A toast, a border's title, a tooltip, the prompt and a list draw no control character."""
    bad = "\x1b]0;pwned\x07\x9b31m\u202e"
    async with window(ScriptedEngine(bad)) as it:
        it.chat.prompt.placeholder = bad
        it.chat.prompt.border_title = bad.replace("[", r"\[")
        it.chat.header.file_name = it.chat.header.checkpoint = bad
        it.chat.status.show_state("error", bad)
        it.app.notify(bad, title=bad, markup=False)
        it.chat.note(bad)
        await it.until(lambda: it.screen.count("]0;pwned") >= 5)
        assert not set(it.screen) & set(bad[:1] + "\x07\x9b\u202e"), it.screen
        await it.write(f"{bad} written")
        await it.until(lambda: "written" in it.screen)
        assert not set(it.screen) & set(bad[:1] + "\x07\x9b\u202e"), it.screen
        assert isinstance(it.app, LlmchatApp)
