"""Many prompts in lanes: each reply is the one that is made alone, whatever runs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.job import Job
from llmchat.chat.turn import Reply, Turn
from llmchat.engine import many
from llmchat.engine.engine import Engine
from llmchat.engine.generation import ReplyStream
from llmchat.engine.many import ManyReplies, Outcome, prompt_of
from llmchat.errors import GenerationError, LlmchatError

BASE = GenerationConfig(max_new_tokens=20)
WORDS = ("the queen", "a ship on the sea", "once", "the old garden behind the house", "a stone")


def job(place: int, **settings: float) -> Job:
    """One of several prompts."""
    config = BASE.changed(**settings)
    return Job((Turn("user", WORDS[place % len(WORDS)]),), config, place)


def alone(engine: Engine, one: Job) -> Reply:
    """The reply to one job by itself."""
    stream = ReplyStream(engine, prompt_of(engine, one), lambda _: one.config, one.seed)
    stream.prefill()
    list(stream)
    return stream.reply()


def together(engine: Engine, jobs: Sequence[Job]) -> dict[int, Outcome]:
    """All outcomes."""
    return dict(ManyReplies(engine, jobs))


def test_replies_are_those_made_alone(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes are few, so that they are filled again in mid-run; replies are of different length."""
    monkeypatch.setattr(many, "MOST_LANES", 3)
    jobs = [job(place, max_new_tokens=5 + 7 * (place % 3), temperature=0.3 * place) for place in range(8)]
    outcomes = together(tiny_engine, jobs)
    assert sorted(outcomes) == list(range(8))
    for place, one in enumerate(jobs):
        reply, expected = outcomes[place], alone(tiny_engine, one)
        assert isinstance(reply, Reply)
        assert (reply.token_ids, reply.text) == (expected.token_ids, expected.text)
        assert reply.finish_detail == expected.finish_detail


def test_lanes_are_filled_as_they_end(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long reply beside short ones holds up nobody: steps are as many as its tokens, not as the sum."""
    if tiny_engine.lanes() is None:
        pytest.skip("this engine answers one after the other")
    monkeypatch.setattr(many, "MOST_LANES", 2)
    told: list[int] = []
    jobs = [job(0, max_new_tokens=31), *(job(place, max_new_tokens=6) for place in range(1, 6))]
    list(ManyReplies(tiny_engine, jobs, on_tokens=told.append))
    assert len(told) <= 34


def test_a_lane_goes_on_past_the_context(tiny_engine: Engine) -> None:
    """The window slides for one that is long while others are short."""
    jobs = [job(0, max_new_tokens=140), job(1), job(2, max_new_tokens=90)]
    outcomes = together(tiny_engine, jobs)
    for place, one in enumerate(jobs):
        reply = outcomes[place]
        assert isinstance(reply, Reply) and reply.token_ids == alone(tiny_engine, one).token_ids


def test_one_that_fails_fails_alone(tiny_engine: Engine) -> None:
    """A prompt that cannot be read and settings that leave nothing are the outcome of their own job."""
    everything = tuple(range(tiny_engine.info.vocab_size))
    bad = [Job((Turn("user", ""),), BASE, 1), Job((Turn("user", "a"),), BASE.changed(banned_tokens=everything), 1)]
    outcomes = together(tiny_engine, [bad[0], job(0), bad[1], job(1)])
    assert [isinstance(outcomes[place], LlmchatError) for place in range(4)] == [True, False, True, False]


def test_numbers_that_are_not_finite_end_one_lane(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on."""
    lanes = tiny_engine.lanes()
    if lanes is None:
        pytest.skip("this engine answers one after the other")
    decode = type(lanes).decode
    steps = 0

    def broken(self: object, token_ids: Sequence[int]) -> list[np.ndarray]:
        nonlocal steps
        steps += 1
        rows = decode(self, token_ids)  # type: ignore[arg-type]
        if steps == 3:
            rows[1][:] = np.nan
        return rows

    monkeypatch.setattr(type(lanes), "decode", broken)
    outcomes = together(tiny_engine, [job(0), job(1), job(2)])
    assert isinstance(outcomes[1], GenerationError)
    assert [isinstance(outcomes[place], Reply) for place in (0, 2)] == [True, True]


def test_little_memory_means_few_lanes(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the KV caches of two do not fit, one after the other is answered."""
    monkeypatch.setattr(many, "free_memory", lambda: 1)
    told: list[int] = []
    outcomes = dict(ManyReplies(tiny_engine, [job(0), job(1)], on_tokens=told.append))
    assert len(outcomes) == 2 and max(b - a for a, b in pairwise(told)) == 1


def test_stopping_ends_what_runs_and_leaves_out_what_waits(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has begun says that it was stopped."""
    monkeypatch.setattr(many, "MOST_LANES", 2)
    told: list[int] = []
    outcomes = dict(ManyReplies(tiny_engine, [job(place) for place in range(6)], lambda: len(told) > 4, told.append))
    assert len(outcomes) < 6
    assert {outcome.finish_reason for outcome in outcomes.values() if isinstance(outcome, Reply)} == {"cancelled"}
