"""Comparisons and sweeps in the window: a real app on the real small model, driven by keys."""

from __future__ import annotations

import threading
import tomllib
from pathlib import Path

import pytest

from llmchat.chat.storage import read_transcript
from llmchat.ui.completion import complete
from llmchat.ui.screens.compare import CompareScreen
from llmchat.ui.screens.help import HelpScreen
from llmchat.ui.screens.sweep import SweepScreen, WholeReplyScreen
from llmchat.ui.widgets.reply_column import ReplyColumn
from tests.fakes import ScriptedEngine
from tests.ui.helpers import GREEDY, Window, tiny_options, window


async def begin(it: Window, command: str) -> CompareScreen | SweepScreen:
    """Give a command that opens a screen of replies."""
    await it.send(command)
    await it.until(lambda: isinstance(it.app.screen, CompareScreen | SweepScreen), "the screen")
    screen = it.app.screen
    assert isinstance(screen, CompareScreen | SweepScreen)
    return screen


async def finish(it: Window, command: str) -> CompareScreen | SweepScreen:
    """The same, and wait until all replies are there."""
    screen = await begin(it, command)
    await it.until(lambda: screen.experiment.is_done, "the replies")
    return screen


def in_chat(it: Window) -> bool:
    """Whether the chat is on top."""
    return it.app.screen is it.chat


async def test_replies_stand_side_by_side_and_one_is_kept() -> None:
    """Labels, counts and the mark where they part are seen; a number makes that reply the answer."""
    async with window(options=tiny_options()) as it:
        await it.ready()
        await it.send("/seed 5")
        screen = await finish(it, "/compare temperature=0.8 temperature=0.8 temperature=1.6 -- the queen")
        rows = it.lines()
        assert rows[0].startswith(" Compare · seed 5 · the queen")
        assert "1 · temperature=0.8" in rows[1] and "3 · temperature=1.6" in rows[1]
        assert it.screen.count("▏≠1▕") == 1
        parting = screen.experiment.parting(2)
        assert parting is not None and f"24 tok · length · ≠1 at {parting + 1}" in it.screen
        assert "24 tok · length · the same as 1" in it.screen
        third = screen.experiment.trials[2].reply
        assert third is not None
        await it.press("3")
        assert in_chat(it)
        assert it.said == [("user", "the queen"), ("assistant", third.text)]
        assert it.reply.token_ids == third.token_ids and it.reply.config.temperature == 1.6
        assert it.session.path is not None
        assert [turn.text for turn in read_transcript(it.session.path)[0]] == ["the queen", third.text]
        await it.ask("and then")
        assert [text for _, text in it.said[:3]] == ["the queen", third.text, "and then"]


async def test_the_last_message_is_answered_again_and_all_are_kept() -> None:
    """`a` puts every reply beside the one that was there; the one in focus is shown."""
    async with window(options=tiny_options()) as it:
        await it.ready()
        await it.ask("the queen")
        await finish(it, "/compare greedy temperature=1.5")
        await it.press("right", "a")
        assert in_chat(it)
        assert it.reply.config.temperature == 1.5
        assert it.blocks[-1].alternatives == (3, 3)
        await it.select()
        await it.press("left")
        assert not it.reply.config.do_sample


async def test_escape_stops_then_closes_and_keeps_nothing() -> None:
    """What was half written is neither in the conversation nor in a file."""
    gate = threading.Semaphore(4)
    engine = ScriptedEngine("A long reply that nobody waits for.", gate=gate)
    async with window(engine, gate=gate) as it:
        await it.ready()
        screen = await begin(it, "/compare greedy top_k=1 -- hi")
        await it.until(lambda: screen.experiment.trials[0].token_ids, "the first token")
        await it.press("1")
        assert "still being written" in it.toasts and it.app.screen is screen
        assert "Esc stops" in it.screen
        await it.press("escape")
        gate.release(100)
        await it.until(lambda: screen.experiment.is_done, "the end")
        assert it.app.screen is screen and "stopped" in it.screen and "Esc closes" in it.screen
        await it.press("escape")
        assert in_chat(it)
        assert it.said == [] and it.session.path is None
        await it.ask("hi")
        assert it.reply.text == "A long reply that nobody waits for."


async def test_columns_scroll_together() -> None:
    """A row further up in one is a row further up in all."""
    lines = "".join(f"Line {number}\n" for number in range(60))
    async with window(ScriptedEngine(lines), config=GREEDY.changed(max_new_tokens=4000), size=(100, 24)) as it:
        await it.ready()
        await finish(it, "/compare greedy now -- hi")
        first, second = it.app.screen.query(ReplyColumn)
        assert first.scroll_y == second.scroll_y == first.max_scroll_y > 0
        await it.press("up", "up")
        assert first.scroll_y == second.scroll_y == first.max_scroll_y - 2
        await it.press("right", "home")
        assert second.has_focus and first.scroll_y == second.scroll_y == 0


async def test_a_narrow_window_puts_one_below_the_other() -> None:
    """Columns that would be too narrow to read are stacked, and come back with room."""
    async with window(ScriptedEngine("Hello."), size=(60, 30)) as it:
        await it.ready()
        await finish(it, "/compare greedy now stop=[b] -- hi")
        assert "3 · stop=[b]" in it.screen
        assert it.lines()[-1].rstrip().endswith("Esc closes")
        columns = list(it.app.screen.query(ReplyColumn))
        assert len({column.region.x for column in columns}) == 1
        assert it.screen.count("Hello.") == 3
        await it.resize(120, 30)
        await it.until(lambda: len({column.region.y for column in columns}) == 1, "columns side by side")


async def test_four_replies_fill_a_usual_window_two_by_two() -> None:
    """At 80 by 24 all four are in sight, each as wide as half the window."""
    async with window(ScriptedEngine("Hello."), size=(80, 24)) as it:
        await it.ready()
        await finish(it, "/compare greedy now creative stop=[b] -- hi")
        regions = [column.region for column in it.app.screen.query(ReplyColumn)]
        assert {(region.x, region.width) for region in regions} == {(0, 40), (40, 40)}
        assert len({region.y for region in regions}) == 2 and {region.height for region in regions} == {11}
        assert it.screen.count("Hello.") == 4
        assert it.lines()[-1].rstrip().endswith("Esc closes · ≠1 parts from 1")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/compare greedy", "no message to answer"),
        ("/compare", "/compare K=V"),
        ("/compare temprature=1 -- hi", "Did you mean temperature"),
        ("/sweep temperature 0..9 -- hi", "from 0 to 5"),
        ("/sweep stop a,b -- hi", "is no number"),
    ],
)
async def test_what_is_not_understood_is_said_and_stays_in_the_prompt(command: str, said: str) -> None:
    """A mistake opens nothing."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.send(command)
        assert in_chat(it)
        assert said in it.toasts + it.screen


def test_tab_offers_settings_presets_and_parameters() -> None:
    """Each word of a comparison, and the first of a sweep; after that the range is told."""
    line = "/compare greedy temperature=0.3,top_"
    words = complete(line)
    assert words is not None and "top_k=" in words.candidates and words.start == line.index("top_")
    presets = complete("/compare cr")
    assert presets is not None and presets.candidates == ("creative",)
    values = complete("/compare temperature=")
    assert values is not None and values.candidates == () and "0 to 5" in values.hint
    parameters = complete("/sweep temp")
    assert parameters is not None and parameters.candidates == ("temperature",)
    ranges = complete("/sweep temperature 0.")
    assert ranges is not None and ranges.candidates == () and "0 to 5" in ranges.hint
    message = complete("/compare greedy -- gr")
    assert message is not None and message.candidates == ()


async def test_a_sweep_fills_a_table_that_can_be_read_kept_and_saved(tmp_path: Path) -> None:
    """A row for each value; Enter shows the whole, s saves, k keeps."""
    async with window(options=tiny_options()) as it:
        await it.ready()
        await it.send("/seed 5")
        screen = await finish(it, "/sweep temperature 0.2..1.4 3 -- the queen")
        assert it.lines()[0].startswith(" Sweep temperature · seed 5 · the queen")
        rows = [row for row in it.lines() if row.lstrip(" ").startswith(("○", "●"))]
        assert [row.split()[1:3] for row in rows] == [["0.20", "24"], ["0.80", "24"], ["1.40", "24"]]
        assert all("length" in row for row in rows)
        await it.resize(60, 20)
        assert it.lines()[-1].rstrip().endswith("Esc closes")
        await it.press("down", "enter")
        assert isinstance(it.app.screen, WholeReplyScreen)
        reply = screen.experiment.trials[1].reply
        assert reply is not None and reply.text.split()[-1] in it.screen
        await it.press("escape", "s")
        await it.press(*"x", "enter")
        assert ".toml or .csv" in it.toasts
        screen.query_one("PathInput").value = str(tmp_path / "sweep.toml")  # type: ignore[attr-defined]
        await it.press("enter")
        table = tomllib.loads((tmp_path / "sweep.toml").read_text())
        assert (table["parameter"], [row["label"] for row in table["replies"]]) == (
            "temperature",
            ["0.20", "0.80", "1.40"],
        )
        await it.press("k")
        assert in_chat(it)
        assert it.said == [("user", "the queen"), ("assistant", reply.text)]


async def test_escape_leaves_the_file_name_before_the_sweep() -> None:
    """One key, one step back."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        screen = await finish(it, "/sweep top_k 1,2 -- hi")
        await it.press("s", "escape")
        assert it.app.screen is screen and not screen.has_class("-saving")
        await it.press("f1")
        assert isinstance(it.app.screen, HelpScreen) and "Keep this reply as the answer" in it.screen
        await it.press("escape", "escape")
        assert in_chat(it) and it.said == []


async def test_a_failure_is_told_and_the_screen_can_be_left() -> None:
    """Numbers that are not finite end the comparison with a reason."""
    async with window(ScriptedEngine("abc", fail_at=1)) as it:
        await it.ready()
        screen = await begin(it, "/compare greedy now -- hi")
        await it.until(lambda: screen.experiment.is_done, "the failure")
        assert "finite" in it.toasts
        await it.press("escape")
        assert in_chat(it)
