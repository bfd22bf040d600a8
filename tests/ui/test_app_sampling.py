"""The sliders while a reply runs: what acts, what is shown, what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Semaphore

import numpy as np
import pytest
from textual.widgets import OptionList

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.storage import read_transcript
from llmchat.engine.engine import Engine, Logits
from llmchat.engine.opening import open_engine
from llmchat.replay import replay
from llmchat.session import Running
from llmchat.ui.widgets.preset_picker import PresetHeading
from llmchat.ui.widgets.seed_row import SeedRow
from tests.fakes import ScriptedEngine
from tests.ui.helpers import options_of, tiny_options, window

DICE = GenerationConfig(max_new_tokens=40, repetition_penalty=1.0)


class DiceEngine(ScriptedEngine):
    """Every letter is as likely as the others, so that dice and temperature decide."""

    def _logits(self) -> Logits:
        logits = np.full(257, -1e9, dtype=np.float32)
        logits[97:123] = np.linspace(1.0, 0.0, 26)
        return logits


async def test_a_slider_moved_in_mid_reply_acts_from_the_next_token() -> None:
    """What is drawn next follows the slider; the mark and the file say from which token on."""
    gate = Semaphore(0)
    async with window(DiceEngine(gate=gate), config=DICE, gate=gate) as it:
        await it.ask_without_waiting("hi")
        it.chat.panel.slider("temperature").focus()
        await it.press("home")
        assert it.session.config.temperature == 0.0
        gate.release(100)
        await it.idle()
        reply = it.reply
        assert len(reply.changes) == 1
        change = reply.changes[0]
        assert dict(change.values) == {"temperature": 0.0}
        # The first token was drawn before, the second may have been under way; all others are the likeliest.
        assert change.token_index in (1, 2)
        assert set(reply.text[change.text_offset :]) == {"a"}
        assert "temperature 0.80 → 0.00" in it.screen
        assert "temp 0.80→0.00" in it.blocks[-1].details
        assert it.session.path is not None
        kept = read_transcript(it.session.path)[0].path()[-1].reply
        assert kept is not None and kept.changes == reply.changes and kept.config.temperature == 0.8


async def test_a_typed_value_reaches_a_running_reply_whole() -> None:
    """`0` `.` `3` on a slider is one change to 0.3: neither the default nor a part of it acts before."""
    gate = Semaphore(0)
    config = DICE.changed(temperature=1.2, max_new_tokens=100_000)
    async with window(DiceEngine(gate=gate), config=config, gate=gate) as it:
        await it.ask_without_waiting("hi")
        running = it.session.running
        assert running is not None
        it.chat.panel.slider("temperature").focus()
        for key in (*"0.3", "enter"):
            await it.press(key)
            await it.let_through(gate, partial(_has_more, running, len(running.token_ids) + 1))
        await it.press("escape")
        gate.release(100)
        await it.idle()
        assert [dict(change.values) for change in it.reply.changes] == [{"temperature": 0.3}]


def _has_more(running: Running, tokens: int) -> bool:
    return len(running.token_ids) > tokens


async def test_a_slider_moved_from_end_to_end_loses_no_token() -> None:
    """With a real model: a hundred moves within a reply are a hundred changes, and a replay draws the same tokens."""
    gate = Semaphore(0)
    drawn: list[int] = []

    def tiny() -> Engine:
        engine = open_engine(ModelSpec("tiny"), lambda stage, fraction: None)
        decode = engine.decode

        def decode_when_let(token_id: int, draft: Sequence[int] = ()) -> Logits:
            drawn.append(token_id)
            gate.acquire()
            return decode(token_id, draft)

        engine.decode = decode_when_let  # type: ignore[method-assign]
        return engine

    config = GenerationConfig(temperature=0.0, seed=8417, min_new_tokens=500, max_new_tokens=500)
    async with window(tiny, options=options_of(config, model="tiny"), gate=gate) as it:
        await it.ready()
        await it.ask_without_waiting("Once upon a time")
        await it.press("ctrl+b")
        for step in range(1, 101):
            await it.press("right")
            gate.release()
            await it.until(lambda: len(drawn) > step, "the next token")  # noqa: B023
        assert it.session.config.temperature == 5.0
        await it.press("escape")
        gate.release(10)
        await it.idle()
        reply = it.reply
        assert it.session.path is not None
        transcript = read_transcript(it.session.path)[0]
    assert reply.finish_reason == "cancelled"
    assert list(reply.token_ids[:101]) == drawn[:101]
    assert len(reply.facts) == len(reply.token_ids)
    assert [change.token_index for change in reply.changes] == list(range(1, 101))
    moved = [change.values["temperature"] for change in reply.changes]
    assert moved == pytest.approx([0.05 * step for step in range(1, 101)])
    kept = transcript.path()[-1].reply
    assert kept is not None and (kept.token_ids, kept.changes) == (reply.token_ids, reply.changes)
    (again,) = replay(transcript, ModelSpec("tiny"))
    assert again.first_difference is None
    assert again.token_ids == reply.token_ids and again.text == reply.text


async def test_the_mark_is_shown_while_the_reply_still_runs() -> None:
    """Nobody has to wait for the end to see where a change took effect."""
    gate = Semaphore(0)
    async with window(DiceEngine(gate=gate), config=DICE, gate=gate) as it:
        await it.ask_without_waiting("hi")
        it.chat.panel.slider("top_k").focus()
        await it.press(*"7", "enter")
        await it.let_through(gate, lambda: it.blocks[-1].marks)
        assert it.blocks[-1].marks == ((it.blocks[-1].marks[0][0], "top-k 50 → 7"),)
        assert it.session.running is None or "top-k 50 → 7" in it.screen


async def test_typing_a_value_out_of_range_is_refused_with_the_range() -> None:
    """The settings in force stay as they are."""
    async with window(ScriptedEngine(), options=options_of(DICE)) as it:
        slider = it.chat.panel.slider("temperature")
        slider.focus()
        await it.press(*"9", "enter")
        assert slider.refused and "0 to 5" in it.screen
        assert it.session.config.temperature == 0.8
        await it.press("escape", *"1.2", "enter")
        assert it.session.config.temperature == 1.2
        assert "temp 1.20" in it.status


async def test_mounting_the_sidebar_changes_nothing() -> None:
    """Values between the steps of a track survive the start, and are marked as different."""
    config = DICE.changed(temperature=0.777, top_k=51)
    async with window(ScriptedEngine(), options=options_of(config)) as it:
        await it.ready()
        assert it.session.config == config
        assert "≠" in it.screen


async def test_a_preset_is_chosen_by_keys() -> None:
    """Its values are in force at once; lengths and seed stay."""
    async with window(ScriptedEngine(), options=options_of(DICE.changed(seed=5))) as it:
        it.chat.query_one(PresetHeading).focus()
        await it.press("enter")
        assert isinstance(it.app.focused, OptionList)
        await it.press("end", "up", "enter")
        assert it.session.config == GenerationConfig(temperature=1.5, max_new_tokens=40, seed=5)
        assert "Creative" in it.screen


async def test_a_locked_seed_gives_the_same_reply_again() -> None:
    """With a real model: lock the seed of a reply, regenerate, and nothing differs."""
    async with window(options=tiny_options()) as it:
        first = (await it.ask("Alice was")).reply
        assert first is not None and it.session.config.seed is None
        it.chat.query_one(SeedRow).focus()
        await it.press("enter")
        assert it.session.config.seed == first.seed
        assert "locked" in it.screen
        it.chat.prompt.focus()
        await it.press("ctrl+r")
        await it.until(lambda: it.is_idle and it.reply != first)
        assert it.reply.token_ids == first.token_ids
        await it.send("/seed roll")
        await it.press("ctrl+r")
        await it.until(lambda: it.is_idle and it.blocks[-1].alternatives == (3, 3))
        assert it.reply.seed != first.seed
        assert "rolls" in it.screen


async def test_greedy_settings_dim_what_has_no_effect() -> None:
    """Temperature 0 leaves truncation without effect, and the bar says greedy."""
    async with window(ScriptedEngine(), options=options_of(DICE)) as it:
        await it.send("/set temperature 0")
        panel = it.chat.panel
        assert panel.slider("top_k").inactive and panel.slider("min_p").inactive
        assert not panel.slider("max_new_tokens").inactive
        assert "greedy" in it.status


async def test_keys_on_a_slider() -> None:
    """Steps, ten steps, ends, default, off and on, explain."""
    async with window(ScriptedEngine(), options=options_of(DICE)) as it:
        it.chat.panel.slider("top_p").focus()
        values = []
        for key in ("right", "left", "shift+left", "backspace", "space", "space", "home", "end"):
            await it.press(key)
            values.append(it.session.config.top_p)
        assert values == [0.91, 0.9, 0.8, 0.9, 1.0, 0.9, 0.0, 1.0]
        await it.press("question_mark")
        assert "Top-p: Keep the smallest set of" in it.screen
