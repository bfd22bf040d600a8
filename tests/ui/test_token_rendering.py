"""Tokens in a laid-out text: which character is whose, how surprising it was, and how candidates are written."""

from __future__ import annotations

import math
import random

import pytest

from llmchat.chat.plain_text import visible
from llmchat.chat.turn import TokenFacts
from llmchat.ui.rendering.candidates import DRAWN, bar, candidate_parts, percent, stage_label, token_label
from llmchat.ui.rendering.document import Entry
from llmchat.ui.rendering.heat import HEAT_MODES, HeatMode, heat_level, legend, next_mode
from llmchat.ui.rendering.source_map import NOWHERE, SourceMap
from llmchat.ui.rendering.token_layer import TokenLayer
from llmchat.ui.rendering.token_spans import TokenSpans
from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.ui.rendering.turn_layout import TurnLayout
from llmchat.worker.messages import CandidateRow
from tests.ui.test_rendering import SEA


def facts_at(*starts: int, logprob: float = -1.0) -> tuple[TokenFacts, ...]:
    """Tokens that begin at these bytes."""
    return tuple(TokenFacts(start, logprob, logprob, 0, 1.0) for start in starts)


def block_of(text: str, facts: tuple[TokenFacts, ...] = (), heat: HeatMode = "off", **more: object) -> TurnBlock:
    """A reply as the transcript shows it."""
    return TurnBlock("1", "assistant", "Model", text, facts=facts, heat=heat, **more)  # type: ignore[arg-type]


# Which characters belong to which token


def test_a_token_has_the_characters_of_its_bytes() -> None:
    """In plain letters a byte is a character."""
    spans = TokenSpans()
    spans.update("The sea", facts_at(0, 3))
    assert spans.count == 2
    assert [spans.characters(token) for token in (0, 1)] == [(0, 3), (3, 7)]
    assert [spans.token_at(offset) for offset in range(7)] == [0, 0, 0, 1, 1, 1, 1]


def test_a_character_of_several_tokens_belongs_to_the_last() -> None:
    """海 has three bytes; here they come in three tokens, and the é after it in one with the letter before the end."""
    text = "a海é."
    spans = TokenSpans()
    spans.update(text, facts_at(0, 1, 2, 3, 4))
    assert [spans.token_at(offset) for offset in range(4)] == [0, 3, 4, 4]
    assert list(spans.tokens_at(1)) == [1, 2, 3]
    # Each of the three is shown as the whole character.
    assert [spans.characters(token) for token in (1, 2, 3)] == [(1, 2)] * 3
    assert spans.characters(4) == (2, 4)


def test_given_text_has_no_token() -> None:
    """What the person made a reply begin with was not drawn."""
    spans = TokenSpans()
    spans.update("Sure! Yes", facts_at(5))
    assert spans.token_at(4) is None and spans.token_at(5) == 0
    assert list(spans.tokens_at(2)) == []


def test_tokens_without_text_and_behind_the_text() -> None:
    """A control token in the middle has no characters; a stop string's tokens do not count."""
    spans = TokenSpans()
    spans.update("ab", facts_at(0, 1, 1, 2, 3))
    assert spans.count == 3
    assert spans.characters(1) == (1, 1) and spans.token_at(1) == 2


def test_spans_of_a_growing_text_are_those_of_the_whole() -> None:
    """Text comes in pieces while a reply runs."""
    dice = random.Random(5)
    text = "".join(dice.choice("ab é海🙂\n") for _ in range(300))
    data = text.encode()
    starts = sorted({0, *(dice.randrange(len(data)) for _ in range(150))})
    growing, whole = TokenSpans(), TokenSpans()
    for end in range(0, len(text) + 1, 7):
        growing.update(text[:end], facts_at(*(start for start in starts if start <= len(text[:end].encode()))))
    growing.update(text, facts_at(*starts))
    whole.update(text, facts_at(*starts))
    for offset, character in enumerate(text):
        first = len(text[:offset].encode())
        last = first + len(character.encode()) - 1
        assert growing.token_at(offset) == whole.token_at(offset) == max(i for i, s in enumerate(starts) if s <= last)
        assert growing.tokens_at(offset) == whole.tokens_at(offset)
        assert growing.tokens_at(offset)[0] == max(i for i, s in enumerate(starts) if s <= first)
    assert [growing.characters(i) for i in range(len(starts))] == [whole.characters(i) for i in range(len(starts))]


# Where characters are drawn


@pytest.mark.parametrize("width", [24, 40, 90])
@pytest.mark.parametrize("markdown", [True, False])
def test_drawn_characters_are_found_again_in_the_text(width: int, markdown: bool) -> None:
    """Each mapped character is the text's own, in the text's order, and no word is left out."""
    layout = TurnLayout(block_of(SEA, markdown=markdown), width)
    source = SourceMap()
    source.update(SEA, layout.lines)
    shown = visible(SEA).replace("\t", " ")
    before = -1
    for row, line in enumerate(layout.lines):
        offsets = source.row(row)
        assert len(offsets) in (0, len(line.text))
        for character, offset in zip(line.text, offsets, strict=False):
            if offset != NOWHERE:
                assert shown[offset] == character and offset > before
                before = offset
    mapped = {offset for row in range(len(layout.lines)) for offset in source.row(row)}
    words = {place for place, character in enumerate(SEA) if character.isalpha()}
    start = SEA.index("https")
    address = set(range(start, SEA.index(")", start)))
    missed = {place for place in words - mapped - address if "```" not in SEA[max(place - 8, 0) : place]}
    assert missed == set()


def test_marks_tabs_entities_and_escapes_do_not_shift_what_follows() -> None:
    """What the layout adds or rewrites stands for nothing; the text goes on where it goes on."""
    text = "a\tb &amp; c \\* d <e> &copy; fine **bold**, [link](https://example.org/x) end"
    layout = TurnLayout(block_of(text, markdown=True, marks=((9, "temperature 0.8 → 1.2"),)), 60)
    source = SourceMap()
    source.update(text, layout.lines)
    drawn = [
        (character, offset)
        for row, line in enumerate(layout.lines)
        for character, offset in zip(line.text, source.row(row), strict=False)
        if offset != NOWHERE
    ]
    for word in ("fine", "bold", "link", "end"):
        start = text.index(word)
        assert [offset for _, offset in drawn if start <= offset < start + len(word)] == [
            *range(start, start + len(word))
        ]


def test_rows_of_a_growing_text_are_mapped_once() -> None:
    """Only rows that changed are looked at again, and the outcome is that of the whole text."""
    growing = SourceMap()
    layout = TurnLayout(block_of("", markdown=True), 40)
    looked_at = []
    for end in range(0, len(SEA) + 1, 11):
        layout.update(block_of(SEA[:end], markdown=True))
        looked_at.append(len(layout.lines) - growing.update(SEA[:end], layout.lines))
    layout.update(block_of(SEA, markdown=True))
    growing.update(SEA, layout.lines)
    whole = SourceMap()
    whole.update(SEA, layout.lines)
    assert [growing.row(row) for row in range(len(layout.lines))] == [
        whole.row(row) for row in range(len(layout.lines))
    ]
    assert max(looked_at) < len(layout.lines)


def test_of_a_growing_paragraph_only_the_last_rows_change() -> None:
    """However long it is, one more word is drawn, mapped and coloured in a row or two."""
    text = "Some more words of the same paragraph " * 60
    layout, source = TurnLayout(block_of("", markdown=True, live=True), 40), SourceMap()
    for end in range(0, len(text), 5):
        first = layout.update(block_of(text[:end], markdown=True, live=True))
        same = source.update(text[:end], layout.lines)
        assert len(layout.lines) - min(first, same) <= 3


def test_a_long_text_that_grows_is_not_read_again() -> None:
    """What is shown of a text with stand-ins and joined characters is the same, however it came."""
    text = ("海 and\t👩\u200d🚀 \u202e\x1b[0m é\u0301 \r\n" * 40)[:-1]
    growing = SourceMap()
    for end in range(0, len(text) + 1, 3):
        growing.update(text[:end], [])
    growing.update(text, [])
    assert growing._source == visible(text).replace("\t", " ")


# Heat


def test_heat_has_a_class_for_everything() -> None:
    """From expected, 0, to a surprise, 5, by each measure."""
    certain, unheard = TokenFacts(0, 0.0, 0.0, 0, 0.0), TokenFacts(0, -20.0, -20.0, 40_000, 9.0)
    for mode in HEAT_MODES[1:]:
        assert heat_level(certain, mode) == 0 and heat_level(unheard, mode) == 5
        assert len([span for span in legend(mode).spans if span.text.strip()]) == 7
    levels = [heat_level(TokenFacts(0, math.log(p), 0, 0, 0), "probability") for p in (0.51, 0.26, 0.11, 0.04, 0.02)]
    assert levels == [0, 1, 2, 3, 4]
    assert heat_level(TokenFacts(0, -math.inf, 0, 0, 0), "probability") == 5


def test_the_measures_come_round() -> None:
    """Off, probability, entropy, rank, off."""
    mode: HeatMode = "off"
    seen = [mode := next_mode(mode) for _ in range(4)]
    assert seen == ["probability", "entropy", "rank", "off"]


def test_a_character_in_pieces_is_as_hot_as_its_hottest_piece() -> None:
    """A surprise in the middle of a character is not hidden by what followed from it."""
    facts = (*facts_at(0, 3, logprob=0.0), *facts_at(4, logprob=-9.0), *facts_at(5, 6, logprob=0.0))
    entry = Entry(block_of("The海s", facts, "probability"), 40)
    entry.settle(40)
    row = next(row for row, line in enumerate(entry.lines) if "海" in line.text)
    assert TokenLayer().on_row(entry, row, None) == [(3, 4, "heat-5")]


def test_heat_follows_a_growing_text() -> None:
    """The looks of rows that stand are kept; the last row's are made anew."""
    layer = TokenLayer()
    facts = tuple(TokenFacts(start, -9.0 if start % 2 else 0.0, 0, 0, 0) for start in range(120))
    text = "abcd efgh " * 12
    entry = Entry(block_of("", heat="probability"), 20)
    entry.settle(20)
    for end in range(10, 121, 10):
        entry.update(block_of(text[:end], facts[:end], "probability"), 20)
        for row in range(len(entry.lines)):
            layer.on_row(entry, row, None)
    fresh = TokenLayer()
    for row, line in enumerate(entry.lines):
        pieces = layer.on_row(entry, row, None)
        assert pieces == fresh.on_row(entry, row, None)
        if line.body and line.text:
            assert [start for start, _, _ in pieces] == [place for place in range(len(line.text)) if place % 2]


def test_hidden_tokens_cost_nothing() -> None:
    """Without facts nothing is mapped at all."""
    entry = Entry(block_of("text"), 40)
    entry.settle(40)
    layer = TokenLayer()
    assert layer.on_row(entry, 2, 0) == [] and layer.token_at(entry, 2, 0) is None
    assert len(layer._known) == 0


# How candidates are written


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, "100"), (0.412, "41"), (0.0995, "10"), (0.061, "6.1"), (0.0004, "<0.1"), (0.0, "0.0")],
)
def test_percentages_fit_four_cells(probability: float, text: str) -> None:
    """Two digits where they say enough, and never a 0 for something that can come."""
    assert percent(probability) == text and len(text) <= 4


def test_bars_are_exact_to_an_eighth() -> None:
    """A full bar fills its cells; what is not 0 is seen."""
    assert bar(1.0, 4) == "████" and bar(0.5, 4) == "██" and bar(0.0, 4) == ""
    assert bar(0.25 + 3 / 32, 4) == "█▍" and bar(1e-9, 4) == "▏"


@pytest.mark.parametrize(
    ("text", "spoken", "label"),
    [
        (" water", " water", "·water"),
        ("\\n", "\n", "↵"),
        ("\\t", "\t", "⇥"),
        ("<|im_end|>", "", "<|im_end|>"),
        ("<0xE6><0xB5>", "", "<0xE6><0xB5>"),
        ("\\u202e", "\u202e", "⇄"),
        ("\\x1b", "\x1b", "␛"),
        ("\u0301", "\u0301", "◌\u0301"),
    ],
)
def test_tokens_are_readable_and_harmless(text: str, spoken: str, label: str) -> None:
    """Blanks show, control tokens go by name, nothing acts on the terminal."""
    assert token_label(text, spoken) == label


@pytest.mark.parametrize("width", [24, 36, 70])
def test_rows_say_where_a_candidate_went(width: int) -> None:
    """Raw and final, or the stage that removed it; never wider than the place."""
    kept = CandidateRow(1, " water", " water", 0.34, 0.41, None)
    cut = CandidateRow(2, " a very long token indeed", " a very long token indeed", 0.03, 0.0, "top_p")
    for row in (kept, cut):
        parts = candidate_parts(row, width, 8, note="banned" if row is cut else "")
        assert sum(len(text) for text, _ in parts) <= width
    line = "".join(text for text, _ in candidate_parts(kept, width, 8, DRAWN))
    assert line.startswith("▸·water") and "34 →" in line and "41" in line
    line = "".join(text for text, _ in candidate_parts(cut, width, 8, note="banned"))
    assert "3.0 →" in line and "–" in line
    assert width < 36 or "top-p" in line
    assert width < 70 or "top-p · banned" in line
    looks = dict((look, text) for text, look in candidate_parts(cut, 70, 8))
    assert looks["removed"].startswith("·a·very")


def test_stages_have_the_names_of_the_sliders() -> None:
    """What the panel says is found in the sidebar."""
    assert [stage_label(name) for name in ("top_k", "top_n_sigma", "xtc", "bans")] == [
        "top-k",
        "top-nσ",
        "XTC",
        "banned",
    ]
