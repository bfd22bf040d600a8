"""The candidates in the sidebar: live while a reply runs, and under a moving slider when none does."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Semaphore

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.engine.engine import Logits, Prefill, PrefillProgress, StopSignal
from llmchat.ui.widgets.next_token_panel import FEWEST_ROWS, MOST_ROWS
from llmchat.worker.messages import ExplainRequest, NextToken, Request, RequestFailed
from tests.fakes import ScriptedEngine
from tests.ui.helpers import Window, options_of, tiny_options, window

FLAT = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=40, seed=8417)


class CountingEngine(ScriptedEngine):
    """The letters a to j, each a little less likely than the one before; counts how often it is run."""

    def __init__(self, *, gate: Semaphore | None = None) -> None:
        super().__init__(gate=gate)
        self.runs = 0

    def prefill(
        self,
        token_ids: Sequence[int],
        should_stop: StopSignal,
        on_progress: PrefillProgress | None = None,
        lora_scales: Sequence[float] | None = None,
    ) -> Prefill:
        """Count it."""
        self.runs += 1
        return super().prefill(token_ids, should_stop, on_progress)

    def decode(self, token_id: int, draft: Sequence[int] = ()) -> Logits:
        """Count it."""
        self.runs += 1
        return super().decode(token_id)

    def _logits(self) -> Logits:
        logits = np.full(257, -np.inf, dtype=np.float32)
        logits[97:107] = np.linspace(2.0, -2.0, 10)
        return logits


def panel_text(it: Window) -> str:
    """What the panel shows."""
    return "\n".join(it.lines(it.chat.next_token))


async def test_before_the_first_token_it_says_what_will_be_here() -> None:
    """An empty place would explain nothing."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        assert "Next token" in it.screen and "From the first token on" in it.screen


async def test_a_real_reply_shows_raw_and_final_and_the_stage_that_removed() -> None:
    """With a small real model: what is drawn is marked, what was cut off names the stage, sums are below."""
    config = GenerationConfig(max_new_tokens=6, top_k=3, top_p=1.0, seed=1)
    async with window(options=options_of(config, model="tiny")) as it:
        await it.ask("Alice was")
        shown = it.chat.next_token.candidates
        assert shown is not None and len(shown.rows) == it.chat.next_token.shown_rows == it.app.worker.explained_rows
        text = panel_text(it)
        assert "raw → final %" in text and "▸" in text and "top-k" in text
        assert "3 tokens hold" in text and "choices" in text and "entropy" in text
        assert shown.token_index == 5 and shown.drawn == it.reply.token_ids[5]
        assert sum(row.final_probability for row in shown.rows) == pytest.approx(1.0, abs=1e-6)
        assert sum(row.removed_by is None for row in shown.rows) == 3


async def test_it_moves_while_the_reply_runs() -> None:
    """Every few hundredths of a second, with the newest token."""
    gate = Semaphore(0)
    async with window(CountingEngine(gate=gate), config=FLAT, gate=gate) as it:
        await it.ask_without_waiting("hi")
        await it.until(lambda: it.chat.next_token.candidates)
        first = it.chat.next_token.candidates
        await it.let_through(gate, lambda: it.chat.next_token.candidates is not first)
        later = it.chat.next_token.candidates
        assert first is not None and later is not None and later.token_index > first.token_index


async def test_a_slider_moves_it_when_nothing_runs_without_the_model() -> None:
    """The stored logits are enough; the dice are the same, and a filter names itself."""
    engine = CountingEngine()
    async with window(engine, config=FLAT.changed(max_new_tokens=3)) as it:
        await it.ask("hi")
        before, runs = it.chat.next_token.candidates, engine.runs
        assert before is not None and before.survivors == 10
        it.chat.panel.slider("top_k").focus()
        await it.press("4", "enter")
        await it.until(lambda: it.chat.next_token.candidates is not before)
        after = it.chat.next_token.candidates
        assert after is not None and after.survivors == 4 and engine.runs == runs
        assert after.token_index == before.token_index
        assert [row.probability for row in after.rows] == [row.probability for row in before.rows]
        assert {row.removed_by for row in after.rows[4:]} == {"top_k"}
        assert "top-k" in panel_text(it) and "4 tokens hold" in panel_text(it)
        # What stands in the text is told from what the dice would take now.
        assert before.drawn == before.taken == after.taken == it.reply.token_ids[-1]
        assert after.drawn in range(97, 101) and f"▸{chr(after.drawn or 0)}" in panel_text(it)
        assert f"▹{chr(after.taken or 0)}" in panel_text(it)
        await it.send("/set temperature 0")
        await it.until(lambda: "1 token holds" in panel_text(it))
        assert engine.runs == runs


async def test_one_question_at_a_time_and_the_latest_wins() -> None:
    """A slider dragged over a hundred values does not leave a queue behind."""
    async with window(CountingEngine(), config=FLAT) as it:
        await it.ask("hi")
        shown = it.chat.next_token.candidates
        assert shown is not None
        asked: list[Request] = []
        it.chat.submit = asked.append
        for step in range(100):
            it.session.config = it.session.config.changed(top_k=step + 1)
            it.chat.refresh_bars()
        (first,) = asked
        assert isinstance(first, ExplainRequest) and first.config.top_k == 1
        it.chat.take(NextToken(first.request_id, 0, shown.rows, 1, 0.1, 0.0, 1.0, None))
        _, second = asked
        assert isinstance(second, ExplainRequest) and second.config.top_k == 100
        it.chat.take(RequestFailed(second.request_id, ValueError()))  # type: ignore[arg-type]
        assert len(asked) == 2


async def test_hidden_it_costs_nothing() -> None:
    """F4, /panel, a hidden sidebar and a window without room: nobody works anything out."""
    async with window(CountingEngine(), config=FLAT) as it:
        await it.ready()
        worker, panel = it.app.worker, it.chat.next_token
        await it.until(lambda: worker.explained_rows == panel.shown_rows == MOST_ROWS)
        await it.press("f4")
        await it.until(lambda: worker.explained_rows == 0 and not panel.display)
        await it.ask("hi")
        assert panel.candidates is None
        await it.press("f4")
        await it.until(lambda: worker.explained_rows == MOST_ROWS)
        await it.send("/panel off")
        await it.until(lambda: worker.explained_rows == 0)
        await it.send("/panel on")
        await it.until(lambda: worker.explained_rows == MOST_ROWS)
        await it.press("ctrl+b", "ctrl+b")
        await it.until(lambda: worker.explained_rows == 0)
        await it.press("ctrl+b")
        await it.until(lambda: worker.explained_rows == MOST_ROWS)
        await it.resize(120, 18)
        await it.until(lambda: worker.explained_rows == 0)
        await it.resize(120, 26)
        await it.until(lambda: FEWEST_ROWS <= worker.explained_rows < MOST_ROWS)
        await it.resize(80, 40)
        await it.until(lambda: worker.explained_rows == 0)


async def test_a_usual_terminal_has_room_for_it() -> None:
    """At 80 by 24 the sliders and the likeliest candidates are seen together."""
    async with window(CountingEngine(), config=FLAT, size=(80, 24)) as it:
        await it.ask("hi")
        await it.press("ctrl+b")
        await it.until(lambda: "10 hold" in it.screen)
        assert "Temperature" in it.screen and it.chat.next_token.shown_rows == FEWEST_ROWS


async def test_it_gives_way_to_more_samplers() -> None:
    """The sliders come first; the panel takes what is left and scrolls nothing."""
    async with window(CountingEngine(), config=FLAT, size=(120, 36)) as it:
        await it.until(lambda: it.chat.next_token.shown_rows == MOST_ROWS)
        assert it.chat.panel.max_scroll_y == 0
        it.chat.panel.remove_class("-folded")
        await it.until(lambda: it.chat.next_token.shown_rows < MOST_ROWS)
        it.chat.panel.add_class("-folded")
        await it.until(lambda: it.chat.next_token.shown_rows == MOST_ROWS)
        assert it.chat.panel.max_scroll_y == 0


async def test_another_conversation_begins_without_it() -> None:
    """What is shown is never of a text that is gone."""
    engine = CountingEngine()
    async with window(engine, config=FLAT) as it:
        await it.ask("hi")
        assert it.chat.next_token.candidates is not None
        await it.press("ctrl+n")
        assert it.chat.next_token.candidates is None
        await it.send("/set top_k 3")
        assert it.chat.next_token.candidates is None and "From the first token on" in it.screen


async def test_it_is_about_the_end_of_what_is_shown() -> None:
    """At another alternative, or with the reply taken back, it is empty; at its own it follows the sliders again."""
    async with window(CountingEngine(), config=FLAT) as it:
        await it.ask("hi")
        await it.press("ctrl+r")
        await it.until(lambda: len(it.session.transcript) == 3 and it.is_idle)
        assert it.chat.next_token.candidates is not None
        await it.select()
        await it.press("left")
        assert it.chat.next_token.candidates is None
        await it.send("/set top_k 2")
        await it.press("alt+up", "alt+down", "right")
        await it.until(lambda: it.chat.next_token.candidates is not None)
        await it.until(lambda: "2 tokens hold" in panel_text(it))
        await it.send("/undo")
        assert it.chat.next_token.candidates is None


async def test_showing_never_changes_a_token() -> None:
    """Same seed, same ids: with the panel and without, coloured and not, the slider moved in between."""
    drawn = set()
    for keys in ((), ("f4",), ("f5",)):
        async with window(options=tiny_options()) as it:
            it.session.config = GenerationConfig(max_new_tokens=24, seed=5)
            await it.ask("Alice was")
            await it.press(*keys)
            it.session.config = GenerationConfig(max_new_tokens=24, seed=5, temperature=1.3)
            it.chat.refresh_bars()
            await it.ask("And then")
            drawn.add(tuple(turn.reply.token_ids for turn in it.session.transcript.path() if turn.reply))
    assert len(drawn) == 1
