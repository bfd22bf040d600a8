"""Thoughts told apart from answers, however the text is cut, and only by the model's own marks."""

from __future__ import annotations

import pytest

from llmchat.chat.thought import Thought, joined
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.tokenizers.thinking import KNOWN_MARKS, Stage, ThinkingMarks, ThoughtSplitter, find_marks
from tests.fakes import ByteTokenizer
from tests.spelled_model import HARMONY, OPENING, QWEN

THINK = find_marks(ByteTokenizer(), QWEN)
HARMONIC = find_marks(ByteTokenizer(), HARMONY + "<|channel|>analysis")
GEMMA = next(marks for marks in KNOWN_MARKS if "<channel|>" in marks.closings)
FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"

CASES: list[tuple[ThinkingMarks | None, Stage, str, Thought, str]] = [
    (THINK, "start", "<think>\nhm\n</think>\n\nyes", Thought("hm", "<think>\n", "\n</think>\n\n"), "yes"),
    (THINK, "start", "\n<think>\n- a\n- b </think>no", Thought("- a\n- b", "\n<think>\n", " </think>"), "no"),
    (THINK, "start", "<think></think>yes", Thought("", "<think>", "</think>"), "yes"),
    (THINK, "start", "<think>\n\n</think>\n\nyes", Thought("", "<think>\n\n", "</think>\n\n"), "yes"),
    (THINK, "start", "<think>a < b </thin k> c</think>x", Thought("a < b </thin k> c", "<think>", "</think>"), "x"),
    (THINK, "start", "<think>a</think>b</think>c", Thought("a", "<think>", "</think>"), "b</think>c"),
    (THINK, "start", "<think>cut short </th", Thought("cut short </th", "<think>"), ""),
    (THINK, "start", "so <think>no</think>", Thought(), "so <think>no</think>"),
    (THINK, "start", " <thin", Thought(), " <thin"),
    (THINK, "start", "\n\n", Thought(), "\n\n"),
    (THINK, "thought", "\nhm</think>yes", Thought("hm", "\n", "</think>"), "yes"),
    (THINK, "thought", "</think>yes", Thought("", "", "</think>"), "yes"),
    (THINK, "answer", "<think>text</think>", Thought(), "<think>text</think>"),
    (None, "start", "<think>letters</think>", Thought(), "<think>letters</think>"),
    (
        GEMMA,
        "start",
        "<|channel>thought\nhm\n<channel|>yes",
        Thought("hm", "<|channel>thought\n", "\n<channel|>"),
        "yes",
    ),
    (
        HARMONIC,
        "start",
        f"<|channel|>analysis<|message|>hm{FINAL}yes",
        Thought("hm", "<|channel|>analysis<|message|>", FINAL),
        "yes",
    ),
    (
        HARMONIC,
        "start",
        f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary<|message|>so{FINAL}yes",
        Thought(
            "hm<|end|><|start|>assistant<|channel|>commentary<|message|>so", "<|channel|>analysis<|message|>", FINAL
        ),
        "yes",
    ),
    (HARMONIC, "start", "<|channel|>final<|message|>yes", Thought(closing="<|channel|>final<|message|>"), "yes"),
    (HARMONIC, "start", "plain", Thought(), "plain"),
]


def split(marks: ThinkingMarks | None, stage: Stage, pieces: list[str]) -> tuple[Thought, str]:
    """What comes of a text in pieces."""
    splitter = ThoughtSplitter(marks, stage)
    parts = [*map(splitter.add, pieces), splitter.finish()]
    return joined(thought for thought, _ in parts), "".join(answer for _, answer in parts)


@pytest.mark.parametrize(("marks", "stage", "text", "thought", "answer"), CASES)
def test_a_thought_is_the_same_however_its_text_is_cut(
    marks: ThinkingMarks | None, stage: Stage, text: str, thought: Thought, answer: str
) -> None:
    """At every cut, and character by character; joined, the parts are the text."""
    assert split(marks, stage, [text]) == (thought, answer)
    assert split(marks, stage, list(text)) == (thought, answer)
    for cut in range(len(text) + 1):
        assert split(marks, stage, [text[:cut], text[cut:]]) == (thought, answer)
        for other in range(cut, len(text) + 1, 3):
            assert split(marks, stage, [text[:cut], text[cut:other], text[other:]]) == (thought, answer)
    assert thought.written + answer == text


def test_what_is_certain_is_given_out_at_once() -> None:
    """Only the beginning of a mark, and the blanks that may stand before one, are held back."""
    splitter = ThoughtSplitter(THINK, "thought")
    assert splitter.add("I see")[0].text == "I see"
    assert splitter.add(" \n")[0].text == ""
    assert splitter.add("it</")[0].text == " \nit"
    assert splitter.add("b>")[0].text == "</b>"


@pytest.mark.parametrize("marks", KNOWN_MARKS, ids=lambda marks: str(marks.openings[0]))
def test_the_prompt_tells_where_a_reply_begins(marks: ThinkingMarks) -> None:
    """A thought that the template opens is gone on with; in a channel for answers there is none."""
    opening, closing = marks.openings[0], marks.closings[0]
    assert marks.stage("assistant\n") == "start"
    assert marks.stage(f"assistant\n{opening}\n") == "thought"
    assert marks.stage(f"assistant\n{opening}\n\n{closing}\n\n") == ("answer" if marks.answers else "start")
    assert marks.without(f"assistant\n{opening}\n\n{closing}\n\n") == "assistant\n"
    assert marks.without("assistant\n") == "assistant\n"


def test_marks_are_those_that_the_template_names_or_the_vocabulary_has() -> None:
    """A model without them writes the letters as text."""
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert find_marks(ByteTokenizer(), plain) is None
    assert PromptStyle(plain, ByteTokenizer()).thinking_marks is None
    assert PromptStyle(OPENING, ByteTokenizer()).thinking_marks is THINK

    class Thoughtful(ByteTokenizer):
        """Has the tokens."""

        def find(self, piece: str) -> int | None:
            """Two more."""
            return {"[THINK]": 1, "[/THINK]": 2}.get(piece)

    found = find_marks(Thoughtful(), plain)
    assert found is not None and found.openings == ("[THINK]",)


def test_what_a_template_can_be_told_are_the_names_that_it_reads_first() -> None:
    """Also one that it gives a default itself; what it sets, loops over or is always told is none."""
    assert "enable_thinking" in PromptStyle(QWEN, ByteTokenizer()).variables
    assert "reasoning_effort" in PromptStyle(HARMONY, ByteTokenizer()).variables
    own = "{% set thinking = 1 %}{% for m in messages %}{{ m.thinking ~ thinking }}{% endfor %}"
    assert PromptStyle(own, ByteTokenizer()).variables.isdisjoint({"thinking", "m"})
    itself = "{% set thinking = thinking | default(true) %}{{ thinking }}"
    assert "thinking" in PromptStyle(itself, ByteTokenizer()).variables
