"""The layout of the transcript: what a text looks like in rows, without any window."""

from __future__ import annotations

import random
import time

import pytest
from rich.cells import cell_len

from llmchat.chat.plain_text import visible as sanitize
from llmchat.ui.rendering.document import Document
from llmchat.ui.rendering.find import find_matches, make_pattern
from llmchat.ui.rendering.flow import Flow, MarkdownFlow, PlainFlow
from llmchat.ui.rendering.line import Line, Span
from llmchat.ui.rendering.table import fit_columns
from llmchat.ui.rendering.turn_block import Notice, TurnBlock
from llmchat.ui.rendering.turn_layout import TurnLayout
from llmchat.ui.rendering.wrap import wrap_spans

SEA = """# The sea

The sea is an *old* woman who **never** sleeps. She `hums`.
She has a second line.

- salt for the [sailors](https://example.org/s),
- foam, which is a long item that has to be wrapped at this width
  - and inside it
- silence

3. three
4. four

> quoted
> twice

| Hour | What it brings to the shore |
|-----:|:---------------------------|
| 4    | fog and the first of the boats |

Setext
------
```python
def tide(hour):
    return "high"  # or not

x = 1
```
tail & end ~~gone~~ 海の手紙 👩‍👩‍👧
"""


def rows(
    text: str, width: int = 40, marks: tuple[tuple[int, str], ...] = (), flow: type[Flow] = MarkdownFlow
) -> list[str]:
    """The drawn rows of a text."""
    laid_out = flow(width)
    laid_out.update(text, marks)
    return [line.text for line in laid_out.lines]


def look_of(lines: list[Line], text: str) -> tuple[str, ...]:
    """The look of the first piece of some lines that holds a text."""
    return next(span.look for line in lines for span in line.spans if text in span.text)


def test_blocks_are_drawn_in_the_terminals_own_shapes() -> None:
    """Headings, lists with hanging indents, quotes, tables and code each have their drawing."""
    drawn = rows(SEA)
    assert drawn[0] == "The sea"
    assert "  • salt for the sailors" in drawn
    assert "  • foam, which is a long item that has" in drawn
    assert "    to be wrapped at this width" in drawn
    assert "    ◦ and inside it" in drawn
    assert "  3. three" in drawn
    assert "▎ quoted" in drawn
    assert "▏python" in drawn
    assert "▏def tide(hour):" in drawn
    assert any(set(row) <= {"─", "┼"} and "┼" in row for row in drawn)


def test_inline_markup_becomes_looks_and_links_show_their_address() -> None:
    """Emphasis is a look, not characters; the address of a link is never hidden."""
    flow = MarkdownFlow(80)
    flow.update("an *old* **bold** `code` ~~gone~~ [text](https://example.org) <https://a.b>")
    assert flow.lines[0].text == "an old bold code gone text (https://example.org) https://a.b"
    assert look_of(flow.lines, "old") == ("emphasis",)
    assert look_of(flow.lines, "bold") == ("strong",)
    assert look_of(flow.lines, "code") == ("code",)
    assert look_of(flow.lines, "gone") == ("strike",)
    assert look_of(flow.lines, "(https") == ("address",)


def test_code_is_coloured_by_its_language_and_unknown_languages_are_not() -> None:
    """The language label chooses the colours; a name nobody knows is shown all the same."""
    flow = MarkdownFlow(60)
    flow.update("```python\nreturn 12\n```\n\n```nobodyknows\nreturn 12\n```")
    assert look_of(flow.lines, "return") == ("code-block", "code-keyword")
    assert look_of(flow.lines[3:], "return") == ("code-block",)
    assert "nobodyknows" in [line.text[1:] for line in flow.lines]


def test_html_and_console_markup_are_text() -> None:
    """Nothing that a model writes is interpreted, but for Markdown."""
    assert rows("<b>x</b> [red]y[/red] <script>") == ["<b>x</b> [red]y[/red] <script>"]


@pytest.mark.parametrize("flow", [MarkdownFlow, PlainFlow])
@pytest.mark.parametrize("seed", range(12))
def test_a_text_that_came_in_pieces_looks_like_one_that_came_at_once(flow: type[Flow], seed: int) -> None:
    """Freezing what is complete never changes what is drawn, whatever the pieces."""
    dice = random.Random(seed)
    text = "".join(dice.choices(SEA.splitlines(keepends=True), k=30)) + SEA
    marks = tuple((offset, f"mark {offset}") for offset in sorted(dice.sample(range(len(text)), 4)))
    width = dice.choice([5, 20, 40, 80])
    growing, end = flow(width), 0
    while end < len(text):
        end = min(len(text), end + dice.choice([1, 1, 2, 3, 7, 40]))
        growing.update(text[:end], [mark for mark in marks if mark[0] <= end])
    at_once = flow(width)
    at_once.update(text, marks)
    assert growing.lines == at_once.lines


@pytest.mark.parametrize("seed", range(25))
def test_pieces_of_markup_in_any_order_stream_the_same(seed: int) -> None:
    """The same for nonsense made of markup, where the parser changes its mind most often."""
    dice = random.Random(seed)
    scraps = [
        *("\n", "\n\n", "\r\n", "- ", "* ", "1. ", "# ", "> ", "```", "~~~", "|", "--", "-|-", "a|b", "    "),
        *("word ", "**", "`", "[x](y)", "=", "\t", "&#x202e;"),
    ]
    text = "".join(dice.choices(scraps, k=120))
    growing = MarkdownFlow(30)
    for end in range(1, len(text) + 1):
        growing.update(text[:end])
    at_once = MarkdownFlow(30)
    at_once.update(text)
    assert growing.lines == at_once.lines


def test_an_open_fence_is_code_while_it_streams() -> None:
    """Half a code block already looks like code."""
    assert rows("Here:\n\n```python\nx = 1") == ["Here:", "", "▏python", "▏x = 1"]


def test_a_growing_reply_lays_out_only_its_last_block() -> None:
    """Adding to a long reply costs what its tail costs."""
    flow = MarkdownFlow(60)
    flow.update(SEA * 20)
    before = list(flow.lines)
    first_changed = flow.update(SEA * 20 + "more")
    assert first_changed > len(before) - 20
    assert all(old is new for old, new in zip(before[:first_changed], flow.lines, strict=False))


def test_plain_text_keeps_every_blank() -> None:
    """Base models and raw mode show what was generated, wrapped by words."""
    assert rows("  two  blanks\n\n\n*not* markup\tx", flow=PlainFlow) == ["  two  blanks", "", "", "*not* markup    x"]


@pytest.mark.parametrize("width", [2, 5, 17, 40])
@pytest.mark.parametrize(
    "text", [SEA, "海の手紙は長い。" * 9, "👩‍👩‍👧❤️🇩🇪" * 12, "e\u0301" * 50, "x" * 90, "a " * 50, "ab 海c " * 20]
)
def test_no_row_is_wider_than_the_width_and_nothing_is_lost(text: str, width: int) -> None:
    """Wrapping is right for wide, combined and long text, and joins back to the text."""
    lines = wrap_spans([Span(text)], width)
    assert all(line.cells <= width for line in lines)
    joined = "".join((line.joint if number else "") + line.text for number, line in enumerate(lines))
    assert joined.rstrip(" ") == text.rstrip(" ")


def test_words_go_over_whole_and_wide_text_breaks_anywhere() -> None:
    """Words are not torn; Chinese and Japanese need no blanks to break, and no full stop begins a row."""
    assert [line.text for line in wrap_spans([Span("the sea sleeps")], 9)] == ["the sea", "sleeps"]
    assert [line.text for line in wrap_spans([Span("海の手紙。長い")], 8)] == ["海の手", "紙。長い"]
    assert [line.text for line in wrap_spans([Span("no 海の手紙")], 8)] == ["no 海の", "手紙"]


def test_looks_stay_on_their_characters_when_a_line_wraps() -> None:
    """A bold word is bold wherever it ends up."""
    lines = wrap_spans([Span("one two "), Span("three four", ("strong",)), Span(" five")], 9)
    assert [[(text, look) for text, look in line.spans] for line in lines] == [
        [("one two", ())],
        [("three", ("strong",))],
        [("four", ("strong",)), (" five", ())],
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("\0\x07\x7f", "␀␇␡"),
        ("a\r\nb\rc", "a \nb␍c"),
        ("\u202eevil\u202c\u2066", "⇄evil⇄⇄"),
        ("a\u200bb\ufeff", "a␣b␣"),
        ("\x9b31m\ud800\U000f0000", "�31m��"),
        ("👩\u200d👧 न\u200dन é tab\tline\n", "👩\u200d👧 न\u200dन é tab\tline\n"),
        ("x\u200dy", "x␣y"),
        ("z" + "\u0301" * 10, "z" + "\u0301" * 6 + "�" * 4),
    ],
)
def test_characters_that_act_on_the_terminal_are_shown(text: str, shown: str) -> None:
    """Nothing that a model writes can move the cursor, change colours or hide text."""
    assert sanitize(text) == shown
    assert len(shown) == len(text)


def test_nothing_hidden_comes_back_through_markdown() -> None:
    """Character references, addresses and language names are no way round the stand-ins."""
    text = "&#x202e;a&#27; [x](http://a/&#x202e;b) ![&#8203;](c)\n\n```py\u202e\nx\x1b\n```"
    for row in rows(text, 80):
        assert row == sanitize(row)


def test_a_table_shares_the_width_and_becomes_a_list_when_there_is_none() -> None:
    """Columns fit; where they cannot, each value follows its heading."""
    assert fit_columns([4, 50, 10], 40) == [4, 26, 10]
    assert fit_columns([50, 50], 41) == [20, 21]
    drawn = rows("| name | long heading |\n|--|--|\n| a | some words that wrap |", 24)
    assert all(cell_len(row) <= 24 for row in drawn)
    narrow = rows("|a|b|c|d|\n|-|-|-|-|\n|1|2|3|4|", 12)
    assert narrow == ["a: 1", "b: 2", "c: 3", "d: 4"]


def test_a_mark_stands_where_the_setting_changed() -> None:
    """A chip stands in the text, set off by blanks, in Markdown, code, lists and plain text."""
    assert rows("long enough she will", 60, ((11, "temperature 0.8→1.2"),)) == [
        "long enough ▏temperature\u00a00.8→1.2▕ she will"
    ]
    assert rows("- item one", 60, ((0, "t"),)) == ["  • ▏t▕ item one"]
    assert rows("```python\nreturn 1\n```", 60, ((13, "t"),))[1] == "▏ret ▏t▕ urn 1"
    assert rows("ab", 60, ((1, "t"),), PlainFlow) == ["a ▏t▕ b"]
    assert rows("", 60, ((0, "t"),)) == ["▏t▕"]


def test_a_mark_never_breaks_markup_and_never_gets_lost() -> None:
    """Wherever a setting changes, the text around looks as it does without the mark."""
    plain = "".join("".join(rows(SEA, 200)).split()).replace("─", "")
    for offset in range(len(SEA) + 1):
        drawn = "".join(rows(SEA, 200, ((offset, "MARK"),)))
        assert drawn.count("▏MARK▕") == 1, offset
        assert "".join(drawn.replace("▏MARK▕", "").split()).replace("─", "") == plain, offset


def test_copying_gives_the_text_and_not_the_drawing() -> None:
    """Gutters, chips, labels and soft line breaks are not copied; nested bullets keep their indent."""
    flow = MarkdownFlow(24)
    flow.update("> quoted words that go over\n\n- item that goes over the edge\n\n```py\nx = 1\n```", ((8, "t"),))
    copied = "".join((line.joint if number else "") + line.copied() for number, line in enumerate(flow.lines))
    assert copied == "quoted words that go over\n\n• item that goes over the edge\n\n\nx = 1"


def test_a_match_runs_over_soft_breaks_and_not_into_the_drawing() -> None:
    """Find sees the text as one; a capital letter in the query makes case count."""
    lines = wrap_spans([Span("the sea"), Span(" t", ("chip",)), Span(" sleeps. The end")], 9)
    assert [line.text for line in lines] == ["the sea t", "sleeps.", "The end"]
    assert find_matches(lines, make_pattern("sea sleeps")) == [((0, 4, 7), (1, 0, 6))]
    assert len(find_matches(lines, make_pattern("the"))) == 2
    assert len(find_matches(lines, make_pattern("The"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "a b" * 33_000,
        "海" * 50_000,
        "[" * 100_000,
        "*a " * 30_000,
        "`" * 100_000,
        "> " * 5_000 + "deep",
        "\n".join("  " * depth + "- x" for depth in range(200)),
        "|" * 20_000 + "\n" + "|-" * 10_000 + "|",
        "\u0301" * 100_000,
        "```python\n" + "x = '" * 20_000,
    ],
    ids=lambda text: repr(text[:8]),
)
@pytest.mark.parametrize("flow", [MarkdownFlow, PlainFlow])
def test_no_text_hangs_the_layout(text: str, flow: type[Flow]) -> None:
    """A model that goes mad costs no more than a few seconds once, and shows all it wrote."""
    started = time.thread_time()
    drawn = rows(text, 60, flow=flow)
    assert time.thread_time() - started < 5
    assert "".join(drawn).count("deep") == text.count("deep")


def test_a_turn_has_a_heading_its_text_and_notes() -> None:
    """Name, alternative and details stand above; what happened stands below; dividers stand over all."""
    block = TurnBlock(
        "a", "assistant", "SmolLM2", "The sea.", markdown=True, details="temp 0.8", alternatives=(2, 3),
        notices=(Notice("4 turns above", "divider"), Notice("stopped"), Notice("too long", "error")),
    )  # fmt: skip
    assert [line.text for line in TurnLayout(block, 40).lines] == [
        "",
        "──────────── 4 turns above ────────────",
        "",
        "SmolLM2  ‹2/3›   temp 0.8",
        "The sea.",
        "· stopped",
        "✗ too long",
    ]
    narrow = TurnLayout(block, 16).lines
    assert all(line.cells <= 16 for line in narrow)


def test_a_live_turn_shows_where_it_is_written() -> None:
    """A cursor stands at the end; before the first token it says what it waits for."""
    waiting = TurnLayout(TurnBlock("a", "assistant", "M", live=True), 40)
    assert [line.text for line in waiting.lines] == ["", "M", "▌ thinking …"]
    waiting.update(TurnBlock("a", "assistant", "M", "The", live=True))
    assert waiting.lines[-1].text == "The▌"
    waiting.update(TurnBlock("a", "assistant", "M", "The"))
    assert waiting.lines[-1].text == "The"
    waiting.update(TurnBlock("a", "assistant", "M", ""))
    assert waiting.lines[-1].text == "(no text)"


def test_only_what_is_seen_is_laid_out() -> None:
    """A long transcript or a new width costs one window; what is seen stays where it is."""
    document = Document(40)
    document.set_blocks(TurnBlock(str(number), "user", "You", "words " * 50) for number in range(500))
    document.settle_end(30)
    assert 0 < sum(entry.layout is not None for entry in document.entries) < 10
    index, row = 250, 1
    document.settle(index, 0)
    scroll_y = document.top(index) + row
    document.resize(20)
    document.settle(index, 0)
    scroll_y = document.settle_window(document.top(index) + row, 30)
    assert document.locate(scroll_y) == (index, row)
    while (unsettled := document.next_unsettled()) is not None:
        scroll_y = document.settle(unsettled, scroll_y)
    assert document.locate(scroll_y) == (index, row)
    assert document.height == sum(len(entry.lines) for entry in document.entries)
