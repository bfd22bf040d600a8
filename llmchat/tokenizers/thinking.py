"""Thoughts that a model writes before its answer, told apart by the model's own marks.

prompt ─ stage ─▶ ThoughtSplitter ─ thought │ answer
                      ▲ text as it becomes certain, control tokens of the marks by name

A thought stands before the answer or not at all: what looks like a mark behind the
beginning of an answer is part of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmchat.chat.thought import Thought, joined
from llmchat.tokenizers.stop_strings import open_length
from llmchat.tokenizers.tokenizer import Tokenizer

Stage = Literal["start", "thought", "gap", "answer"]
"""start: nothing but blanks was written; gap: the thought is closed, and only blanks came since."""


@dataclass(frozen=True, slots=True)
class ThinkingMarks:
    """How one family of models marks its thoughts."""

    openings: tuple[str, ...]
    """What begins a thought."""
    closings: tuple[str, ...]
    """What ends it, up to where the answer begins, blanks aside."""
    tokens: tuple[str, ...]
    """The tokens that a vocabulary with these marks has."""
    named: str
    """What a chat template of such a model says."""
    answers: tuple[str, ...] = ()
    """What may stand before an answer that no thought comes before."""

    def stage(self, before: str) -> Stage:
        """Where a reply begins, by the text right before it."""
        end = before.rstrip()
        if end.endswith(self.openings):
            return "thought"
        # Behind a thought that a template closes at once, some models open one all the same.
        return "answer" if self.answers and end.endswith(self.answers) else "start"

    def opens(self, text: str) -> str:
        """The mark with which a text begins a thought, blanks before it included; "" if it does not."""
        begun = text.lstrip()
        mark = next((mark for mark in self.openings if begun.startswith(mark)), "")
        return text[: len(text) - len(begun)] + mark if mark else ""

    def without(self, before: str) -> str:
        """The text before a reply, without a thought that is opened, or opened and closed, at its end."""
        end = before.rstrip()
        for known in (self.closings, self.openings):
            end = next((end.removesuffix(mark).rstrip() for mark in known if end.endswith(mark)), end)
        gone = before[len(end) :]
        return end + gone[: len(gone) - len(gone.lstrip())]

    def control_tokens(self, tokenizer: Tokenizer) -> Mapping[int, str]:
        """The control tokens that the marks are made of, which add nothing to a text, and their names."""
        marks = (*self.openings, *self.closings, *self.answers)
        names = (name for name in tokenizer.control_names if name.strip() and any(name in mark for mark in marks))
        found = ((tokenizer.find(name), name) for name in names)
        return {token_id: name for token_id, name in found if token_id is not None}


_FINAL = "<|channel|>final<|message|>"


def _pair(opening: str, closing: str) -> ThinkingMarks:
    return ThinkingMarks((opening,), (closing,), (opening, closing), closing)


KNOWN_MARKS: tuple[ThinkingMarks, ...] = (
    # OpenAI's harmony: whatever is not in the final channel is no answer.
    ThinkingMarks(
        openings=("<|channel|>analysis<|message|>", "<|channel|>commentary<|message|>"),
        closings=(f"<|end|><|start|>assistant{_FINAL}",),
        tokens=("<|channel|>", "<|message|>"),
        named="<|channel|>analysis",
        answers=(_FINAL,),
    ),
    ThinkingMarks(("<|channel>thought",), ("<channel|>",), ("<|channel>", "<channel|>"), "<channel|>"),
    _pair("<think>", "</think>"),
    _pair("[THINK]", "[/THINK]"),
    _pair("<|START_THINKING|>", "<|END_THINKING|>"),
    _pair("<seed:think>", "</seed:think>"),
    _pair("<|inner_prefix|>", "<|inner_suffix|>"),
    _pair("◁think▷", "◁/think▷"),
    _pair("<mm:think>", "</mm:think>"),
    _pair("<think:opensource>", "</think:opensource>"),
    _pair("<reasoning>", "</reasoning>"),
    _pair("<thought>", "</thought>"),
    _pair("<thinking>", "</thinking>"),
)
"""The marks of models' makers, by their templates: gpt-oss, Gemma 4, Qwen 3, DeepSeek and most others, Magistral,
Command A, Seed-OSS, Apertus, Kimi-VL, MiniMax M3, Hunyuan 3, and those that models are taught by hand."""


def find_marks(tokenizer: Tokenizer, template: str) -> ThinkingMarks | None:
    """The marks that a model's template names or its vocabulary has tokens for; None if it has none."""
    for marks in KNOWN_MARKS:
        if marks.named in template or all(tokenizer.find(token) is not None for token in marks.tokens):
            return marks
    return None


class ThoughtSplitter:
    """Tells thought from answer as the text of a reply comes in. Pure: it knows no tokens.

    What is given out does not depend on how the text is cut. Joined, what is given out
    is the text; only what may be part of a mark, or a blank at a thought's end, is held back.

    Args:
        marks: Those of the model; None if it has none, and then all is answer.
        stage: Where the prompt left off.
    """

    def __init__(self, marks: ThinkingMarks | None, stage: Stage = "start") -> None:
        self._marks = marks
        self.stage: Stage = "answer" if marks is None else stage
        """What comes next."""
        self._held = ""
        self._has_thought = False

    def add(self, text: str) -> tuple[Thought, str]:
        """Take more of the text: what became certain of the thought, and of the answer."""
        if self.stage == "answer" or self._marks is None:
            return _NOTHING, text
        self._held += text
        pieces: list[Thought] = []
        while (step := self._step(self._marks)) is not None:
            pieces.append(step)
        return joined(pieces) if pieces else _NOTHING, self._answer()

    def finish(self) -> tuple[Thought, str]:
        """What is still held back, at the end of a reply."""
        held, self._held = self._held, ""
        if not held:
            return _NOTHING, ""
        return (Thought(text=held), "") if self.stage == "thought" else (_NOTHING, held)

    def _answer(self) -> str:
        """What of the held text is the answer's beginning."""
        if self.stage != "answer":
            return ""
        answer, self._held = self._held, ""
        return answer

    def is_closed_by(self, name: str) -> bool:
        """Whether a control token begins the mark that closes the thought that is being written."""
        if self._marks is None or self.stage != "thought" or not name:
            return False
        return any(mark.startswith(name) for mark in self._marks.closings)

    def _step(self, marks: ThinkingMarks) -> Thought | None:
        """Give out what is certain of the text that is held; None if that is nothing."""
        match self.stage:
            case "start":
                return self._begin(marks)
            case "thought":
                return self._think(marks)
            case "gap":
                return self._close()
        return None

    def _begin(self, marks: ThinkingMarks) -> Thought | None:
        begun = self._held.lstrip()
        blanks = self._held[: len(self._held) - len(begun)]
        for mark in (*marks.openings, *marks.answers):
            if begun.startswith(mark):
                self._held = begun[len(mark) :]
                is_thought = mark in marks.openings
                self.stage = "thought" if is_thought else "gap"
                return Thought(opening=blanks + mark) if is_thought else Thought(closing=blanks + mark)
        if not any(mark.startswith(begun) for mark in (*marks.openings, *marks.answers)):
            self.stage = "answer"
        return None

    def _think(self, marks: ThinkingMarks) -> Thought | None:
        if not self._has_thought:
            begun = self._held.lstrip()
            if blanks := self._held[: len(self._held) - len(begun)]:
                self._held = begun
                return Thought(opening=blanks)
        found = [(at, mark) for mark in marks.closings if (at := self._held.find(mark)) >= 0]
        if found:
            at, mark = min(found)
            text = self._held[:at].rstrip()
            closing, self._held = self._held[len(text) : at] + mark, self._held[at + len(mark) :]
            self.stage = "gap"
            return Thought(text=text, closing=closing)
        keep = max(open_length(self._held, mark) for mark in marks.closings)
        text = self._held[: len(self._held) - keep].rstrip()
        if not text:
            return None
        self._held, self._has_thought = self._held[len(text) :], True
        return Thought(text=text)

    def _close(self) -> Thought | None:
        answer = self._held.lstrip()
        blanks = self._held[: len(self._held) - len(answer)]
        if answer:
            self.stage = "answer"
        self._held = answer
        return Thought(closing=blanks) if blanks else None


_NOTHING = Thought()
