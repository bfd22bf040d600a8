"""Several replies in one batched forward: the same as one by one, with the same dice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply, Turn
from llmchat.engine.batch import BatchStream, Lane
from llmchat.engine.engine import Engine, Fork, Logits
from llmchat.engine.generation import ReplyStream
from llmchat.engine.prompt import Prompt, build_prompt

BASE = GenerationConfig(max_new_tokens=40)


class CountingFork:
    """Notes how many rows each step computes."""

    def __init__(self, inner: Fork, sizes: list[int]) -> None:
        self._inner, self._sizes = inner, sizes

    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """Note, and pass on."""
        self._sizes.append(len(token_ids))
        return self._inner.decode(token_ids)

    def keep(self, lanes: Sequence[int]) -> None:
        """Pass on."""
        self._inner.keep(lanes)


def prompt_of(engine: Engine, text: str = "the queen said") -> Prompt:
    """A text to go on from."""
    return build_prompt(engine, [Turn("user", text)], raw=True)


def together(engine: Engine, *lanes: Lane) -> list[Reply]:
    """The replies of a batch; what was streamed must be their texts."""
    stream = BatchStream(engine, prompt_of(engine), lanes)
    stream.prefill()
    texts = [""] * len(lanes)
    for lane, piece in stream:
        texts[lane] += "" if piece is None else piece.text
    assert texts == [reply.text for reply in stream.replies()]
    return stream.replies()


def alone(engine: Engine, lane: Lane) -> Reply:
    """One reply by itself."""
    stream = ReplyStream(engine, prompt_of(engine), lambda index: lane.config, lane.seed)
    stream.prefill()
    list(stream)
    return stream.reply()


def test_a_lane_is_the_reply_that_it_would_be_alone(tiny_engine: Engine) -> None:
    """Settings, lengths and seeds differ; each lane draws what it would draw by itself."""
    lanes = [
        Lane(BASE, 7),
        Lane(BASE.changed(temperature=1.4, max_new_tokens=12), 7),
        Lane(BASE.changed(do_sample=False), 7),
        Lane(BASE.changed(max_new_tokens=25), 8),
    ]
    for lane, reply in zip(lanes, together(tiny_engine, *lanes), strict=True):
        assert reply.token_ids == alone(tiny_engine, lane).token_ids
        assert (reply.config, reply.seed) == (lane.config, lane.seed)


def test_equal_settings_give_equal_text(tiny_engine: Engine) -> None:
    """With the same dice and settings nothing can differ."""
    first, second = together(tiny_engine, Lane(BASE, 3), Lane(BASE, 3))
    assert first.token_ids == second.token_ids


def test_lanes_share_a_row_until_they_part(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lanes with equal settings never need two rows; each draws what it would draw by itself."""
    sizes: list[int] = []
    make = tiny_engine.fork
    monkeypatch.setattr(tiny_engine, "fork", lambda lanes: CountingFork(make(lanes), sizes))
    lanes = [Lane(BASE.changed(temperature=heat), 7) for heat in (0.8, 0.3, 0.8, 1.2)]
    replies = together(tiny_engine, *lanes)
    assert max(sizes) == 3
    for lane, reply in zip(lanes, replies, strict=True):
        assert reply.token_ids == alone(tiny_engine, lane).token_ids


def test_a_row_that_splits_becomes_two_texts(tiny_engine: Engine) -> None:
    """Splitting a row copies it: what is appended to one copy is not in the other."""
    ids = prompt_of(tiny_engine).token_ids
    tiny_engine.prefill(ids, lambda: False)
    fork = tiny_engine.fork(1)
    fork.decode([20])
    fork.keep([0, 0])
    fork.decode([30, 31])
    for row, middle in zip(fork.decode([40, 40]), (30, 31), strict=True):
        expected = tiny_engine.prefill([*ids, 20, middle, 40], lambda: False).logits
        assert expected is not None
        np.testing.assert_allclose(row.tolist(), expected.tolist(), atol=1e-4)


def test_lanes_go_on_past_the_context(tiny_engine: Engine) -> None:
    """The window slides for every lane as it does for one."""
    lanes = [Lane(BASE.changed(max_new_tokens=140), 1), Lane(BASE.changed(max_new_tokens=130), 2)]
    for lane, reply in zip(lanes, together(tiny_engine, *lanes), strict=True):
        assert len(reply.token_ids) == lane.config.max_new_tokens
        assert reply.token_ids == alone(tiny_engine, lane).token_ids


def test_the_engine_is_left_as_it_was(tiny_engine: Engine) -> None:
    """A comparison costs the conversation nothing: its prompt is still in the KV cache."""
    together(tiny_engine, Lane(BASE, 1), Lane(BASE, 2))
    ids = prompt_of(tiny_engine).token_ids
    assert tiny_engine.prefill([*ids, 5], lambda: False).cached_tokens == len(ids)


def test_stopping_ends_every_lane(tiny_engine: Engine) -> None:
    """Each keeps what it has."""
    seen = 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return seen > 30

    stream = BatchStream(tiny_engine, prompt_of(tiny_engine), [Lane(BASE, 1), Lane(BASE, 2)], stop)
    stream.prefill()
    list(stream)
    assert {reply.finish_reason for reply in stream.replies()} == {"cancelled"}
    assert all(0 < len(reply.token_ids) < 40 for reply in stream.replies())
