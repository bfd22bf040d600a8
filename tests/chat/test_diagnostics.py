"""Loops are found where models make them, and not in texts that people wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest

from llmchat.chat.diagnostics import (
    LEAST_REPEATS,
    LEAST_SIGNS,
    LEAST_TOKENS,
    LONGEST_PERIOD,
    Loop,
    LoopDetector,
    Repetition,
    repetition,
)
from tests.conftest import DATA

PROMPTS = json.loads((DATA / "llmbuilder-2.0.0-tiny/reference.json").read_text())["prompts"]
ALICE, ONCE, SCARECROW, WIZARD, KING = (prompt["greedy_new_ids"] for prompt in PROMPTS)


def loops_in(token_ids: Sequence[int]) -> list[Loop]:
    """Every loop that is seen while the tokens come."""
    detector, found = LoopDetector(), []
    for token_id in token_ids:
        detector.add(token_id)
        if (loop := detector.loop) is not None:
            found.append(Loop(loop.period, loop.repeats))
    return found


def repeated(words: Sequence[str]) -> Repetition | None:
    """What a text of these tokens repeats."""
    identities = {word: number for number, word in enumerate(sorted(set(words)))}
    starts = list(accumulate((len(word.encode()) for word in words[:-1]), initial=0))
    return repetition(LoopDetector(identities[word] for word in words), "".join(words), starts)


def test_a_real_models_loops_are_found() -> None:
    """The tiny model of llmbuilder, greedy: "i'm afraid i'm afraid", "and the lion and the lion"."""
    assert set(loops_in(ONCE)) == {Loop(4, 3)}
    assert set(loops_in(SCARECROW)) == {Loop(6, 3), Loop(3, 4), Loop(3, 5)}


@pytest.mark.parametrize("token_ids", [ALICE, WIZARD, KING], ids=["alice", "wizard", "king"])
def test_a_real_models_other_replies_are_left_alone(token_ids: list[int]) -> None:
    """Phrases that come back later are no loops."""
    assert loops_in(token_ids) == []


@pytest.mark.parametrize("period", [1, 2, 3, 7, 12, LONGEST_PERIOD])
def test_a_loop_is_known_from_its_last_token_on(period: int) -> None:
    """Neither a token early nor late, with the block's length and how often it stands whole."""
    least = max(LEAST_REPEATS * period, -(-LEAST_TOKENS // period) * period)
    token_ids = [token % period for token in range(least + period)]
    assert LoopDetector(token_ids[: least - 1]).loop is None
    assert LoopDetector(token_ids[:least]).loop == Loop(period, least // period)
    assert LoopDetector(token_ids).loop == Loop(period, least // period + 1)


def test_a_loop_ends_with_the_first_token_that_differs() -> None:
    """A reply that finds its way out is not called one that loops."""
    detector = LoopDetector([5, 6] * 20)
    assert detector.loop == Loop(2, 20)
    detector.add(9)
    assert detector.loop is None


def test_longer_blocks_than_the_longest_are_not_looked_for() -> None:
    """The cost of a token stays the same however long the reply is."""
    assert loops_in([token % (LONGEST_PERIOD + 1) for token in range(1000)]) == []


def test_what_is_repeated_is_quoted() -> None:
    """The block as text from where it began, also where a token is part of a character."""
    words = ["He", " said", ":", *[" I", "'m", " afraid", " é"] * 4]
    assert repeated(words) == Repetition(" I'm afraid é", 4)
    assert repeated([*words, " I", "'m"]) == Repetition(" I'm afraid é", 4)
    assert repeated(words[:10]) is None
    half = LoopDetector([1, 2] * 8)
    text = "é" * 8
    assert repetition(half, text, [place for place in range(16)]) == Repetition("é", 8)


@pytest.mark.parametrize("signs", ["-", "| - ", " ", "= ", "0, "])
def test_rules_tables_and_indentation_are_no_loops_until_they_do_not_end(signs: str) -> None:
    """Blocks without a letter count from many more tokens on."""
    words = list(signs) * LEAST_SIGNS
    assert repeated(words[:48]) is None
    assert repeated(words[: LEAST_SIGNS + 4]) is not None


def test_what_people_wrote_is_left_alone() -> None:
    """Prose and code of this project, in pieces as a tokenizer makes them."""
    for name in ("LICENSE", "tests/fakes.py", "llmchat/chat/turn.py", "llmchat/chat/generation_config.py"):
        text = (DATA.parent.parent / name).read_text()
        words = [match.group() for match in re.finditer(r" ?\w+|([^\w\s])\1*|\s+", text)]
        detector = LoopDetector()
        for end, (word, _) in enumerate(pairwise(words), 1):
            detector.add(hash(word))
            if detector.loop is not None:
                recent = words[max(end - 400, 0) : end]
                starts = list(accumulate((len(item.encode()) for item in recent[:-1]), initial=0))
                assert repetition(detector, "".join(recent), starts) is None, (name, "".join(recent[-40:]))
