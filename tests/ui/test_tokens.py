"""Token by token: colours by how expected, what else could have come, and going on from there."""

from __future__ import annotations

from dataclasses import replace
from threading import Semaphore

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.storage import read_transcript
from llmchat.engine.engine import Logits
from llmchat.ui.rendering.paint import MARGIN
from tests.fakes import ScriptedEngine
from tests.session.test_session import ContinuingEngine
from tests.ui.helpers import GREEDY, Window, options_of, tiny_options, window

SEED = GenerationConfig(max_new_tokens=24, seed=5)


class UnsureEngine(ContinuingEngine):
    """Says its script, a capital letter with little certainty, and always sees a Z as possible."""

    def _logits(self) -> Logits:
        logits = super()._logits()
        said = int(logits.argmax())
        logits[:] = 0.0
        logits[said] = 2.0 if 65 <= said <= 90 else 20.0
        logits[90] = 1.5 if said != 90 else 2.0
        return np.ascontiguousarray(logits)


def looks(it: Window, row: str) -> list[tuple[str, bool, bool]]:
    """The pieces of the screen's row with some words: text, whether underlined, whether bold."""
    for strip in it.app.screen._compositor.render_strips():
        if row in strip.text:
            styled = [(part.text, part.style) for part in strip if part.style is not None]
            return [(text, bool(style.underline), bool(style.bold)) for text, style in styled]
    raise AssertionError(f"no row with {row!r}:\n{it.screen}")


def standing(it: Window) -> int | None:
    """The token that stands in the place in hand."""
    assert it.chat.inspector.candidates is not None
    return it.chat.inspector.candidates.taken


def settings(it: Window) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The banned tokens and the stop strings."""
    return it.session.config.banned_tokens, it.session.config.stop


async def inspected(it: Window) -> None:
    """Wait until the candidates of the place in hand are listed."""
    await it.until(lambda: it.chat.inspector.candidates, "the candidates")


# Heat


async def test_p_colours_a_reply_and_says_what_the_colours_mean() -> None:
    """Probability, entropy, rank, off; surprises differ by more than their colour."""
    async with window(UnsureEngine("the Sea")) as it:
        await it.ask("hi")
        await it.select()
        before = it.blocks[-1]
        await it.press("p")
        assert "probability" in it.screen and "<1 %" in it.screen
        assert ("S", True, False) in looks(it, "the Sea") and ("the ", False, False) in looks(it, "the Sea")
        await it.press("p")
        assert "entropy" in it.screen and "choices" in it.screen
        await it.press("p")
        assert "rank" in it.screen and "beyond" in it.screen
        await it.press("p")
        assert it.blocks[-1] == before and "beyond" not in it.screen
        assert not any(underlined for _, underlined, _ in looks(it, "the Sea"))


async def test_heat_shows_characters_split_over_tokens() -> None:
    """One token a byte: each character has one colour, that of its most surprising byte."""
    async with window(ScriptedEngine("**海** é 🙂.")) as it:
        await it.ask("hi")
        await it.send("/heat rank")
        assert it.blocks[-1].heat == "rank" and len(it.reply.token_ids) == len("**海** é 🙂.".encode())
        assert "海 é 🙂." in it.screen or "**海** é 🙂." in it.screen


async def test_a_running_reply_is_coloured_as_it_grows() -> None:
    """F5 while it runs; the replies after it are coloured too, those before are not."""
    gate = Semaphore(0)
    async with window(UnsureEngine("the Sea and the Moon", gate=gate), gate=gate) as it:
        await it.ask_without_waiting("hi")
        await it.press("f5")
        assert it.blocks[-1].heat == "probability" and it.blocks[-1].live
        await it.let_through(gate, lambda: it.is_idle)
        assert it.blocks[-1].heat == "probability" and it.blocks[-1].facts == it.reply.facts
        assert any(text == "M" for text, _, _ in looks(it, "Moon"))
        gate.release(100)
        await it.ask("again")
        assert [block.heat for block in it.blocks if block.role == "assistant"] == ["probability"] * 2
        await it.press("ctrl+n")
        gate.release(100)
        await it.ask("new")
        assert it.blocks[-1].heat == "probability"


async def test_only_what_a_model_drew_is_coloured() -> None:
    """A person's words and replies of before facts were kept say why not."""
    async with window(ScriptedEngine()) as it:
        await it.ask("hi")
        await it.select(2)
        await it.press("p")
        assert "Nothing is kept of its tokens" in it.toasts
        without_facts(it)
        await it.select()
        await it.press("p")
        assert it.blocks[-1].heat == "off"


# The inspector


async def test_a_real_reply_can_be_gone_through_and_branched() -> None:
    """Enter takes another token: the ids before it stay, the new alternative is kept with the choice."""
    async with window(options=tiny_options()) as it:
        it.session.config = SEED
        first = (await it.ask("Alice was")).reply
        assert first is not None
        await it.select()
        await it.press("enter")
        await inspected(it)
        assert "Token 1 of 24" in it.screen and it.chat.inspector.has_focus
        await it.press("right", "right", "right", "right")
        await inspected(it)
        candidates = it.chat.inspector.candidates
        assert candidates is not None and candidates.token_index == 4
        # The place is seen as it was then.
        drawn = next(row for row in candidates.rows if row.token_id == first.token_ids[4])
        assert drawn.probability == pytest.approx(np.exp(first.facts[4].logprob), rel=1e-3)
        assert drawn.final_probability == pytest.approx(np.exp(first.facts[4].final_logprob), rel=1e-3)
        assert candidates.rows[it.chat.inspector.chosen] == drawn
        await it.press(*["up"] * 24)
        await it.press(*["down"] * (0 if candidates.rows[0] != drawn else 1))
        taken = candidates.rows[it.chat.inspector.chosen]
        await it.press("enter")
        await it.until(lambda: it.is_idle and len(it.session.transcript) == 3)
        branch = it.reply
        assert not it.chat.inspector.is_open and it.chat.prompt.has_focus
        assert branch.token_ids[:5] == (*first.token_ids[:4], taken.token_id)
        assert len(branch.token_ids) >= 5
        head = first.text.encode()[: first.facts[4].start].decode()
        assert branch.text.startswith(head)
        assert branch.forced == ((4, taken.token_id),) and branch.facts[:4] == first.facts[:4]
        assert it.blocks[-1].alternatives == (2, 2)
        assert it.session.path is not None
        kept = read_transcript(it.session.path)[0].path()[-1].reply
        assert kept is not None and kept.forced == branch.forced and kept.token_ids == branch.token_ids


async def test_keys_go_by_token_by_word_and_to_the_ends() -> None:
    """The token in hand is marked in the text; behind the last one it says why the reply ended."""
    async with window(UnsureEngine("one Two three"), size=(110, 34)) as it:
        await it.ask("hi")
        await it.select()
        await it.press("enter")
        await inspected(it)
        assert it.chat.view.token_cursor == (it.last.id, 0)
        await it.press("ctrl+right")
        assert it.chat.view.token_cursor == (it.last.id, 4)
        await inspected(it)
        assert "Token 5 of 13" in it.screen and standing(it) == ord("T")
        assert any(text == "T" for text, _, _ in looks(it, "one Two"))
        await it.press("end")
        await inspected(it)
        assert "After token 13 of 13: end token" in it.screen and standing(it) is None
        await it.press("right", "left")
        assert it.chat.view.token_cursor == (it.last.id, 12)
        await it.press("ctrl+left")
        assert it.chat.view.token_cursor == (it.last.id, 8)
        await it.press("home", "left")
        assert it.chat.view.token_cursor == (it.last.id, 0)
        await it.press("escape")
        assert not it.chat.inspector.is_open and it.chat.view.token_cursor is None
        assert it.chat.view.has_focus and it.chat.view.selected_turn == it.last.id


async def test_a_reply_goes_on_behind_its_end() -> None:
    """Another token than the end: the reply is continued, and the old one stays beside it."""
    engine = UnsureEngine("one two. Three")
    async with window(engine) as it:
        it.session.config = GREEDY.changed(max_new_tokens=7)
        await it.ask("hi")
        assert it.reply.text == "one two"
        await it.select()
        await it.press("enter", "end")
        await inspected(it)
        rows = it.chat.inspector.candidates
        assert rows is not None
        index = [row.spoken for row in rows.rows].index("Z")
        await it.press(*["up"] * 24, *["down"] * index, "enter")
        await it.until(lambda: it.is_idle and len(it.session.transcript) == 3)
        assert it.reply.text.startswith("one twoZ") and it.blocks[-1].alternatives == (2, 2)


async def test_bans_and_stop_strings_from_a_candidate() -> None:
    """The keys x and s act on the settings from now on, and take it back when pressed again."""
    async with window(UnsureEngine("the Sea")) as it:
        await it.ask("hi")
        await it.select()
        await it.press("enter", "ctrl+right")
        await inspected(it)
        row = it.chat.inspector.candidates.rows[it.chat.inspector.chosen]  # type: ignore[union-attr]
        await it.press("x", "s")
        assert settings(it) == ((row.token_id,), (row.spoken,))
        assert "banned" in it.screen and "stop at" in it.toasts
        await it.press("x", "s")
        assert settings(it) == ((), ())
        await it.press("end")
        await inspected(it)
        assert standing(it) is None
        await it.press("s")
        assert "is no text of its own" in it.toasts and settings(it) == ((), ())


async def test_candidates_are_chosen_by_keys_and_by_the_mouse() -> None:
    """The chosen one stays in sight in a list longer than its place."""
    async with window(UnsureEngine("the Sea"), size=(110, 30)) as it:
        await it.ask("hi")
        await it.select()
        await it.press("enter")
        await inspected(it)
        inspector = it.chat.inspector
        for chosen in (1, 2, 23, 23, 0):
            await it.press(*["down"] * (chosen - inspector.chosen), *["up"] * (inspector.chosen - chosen))
            assert inspector.chosen == chosen
            assert sum(line.strip().startswith("›") for line in it.lines(inspector)) == 1
        await it.pilot.click(inspector, offset=(10, 3))
        assert inspector.chosen == 2
        await it.press("escape")


async def test_the_token_that_stands_there_is_no_branch() -> None:
    """Enter on it says so and changes nothing."""
    async with window(UnsureEngine("the Sea")) as it:
        await it.ask("hi")
        await it.select()
        await it.press("enter")
        await inspected(it)
        await it.press("enter")
        assert "stands there already" in it.toasts and len(it.session.transcript) == 2


async def test_a_click_on_a_coloured_token_takes_it_in_hand() -> None:
    """Without colours a click means nothing."""
    async with window(UnsureEngine("the Sea")) as it:
        await it.ask("hi")
        view = it.chat.view
        row = next(y for y in range(view.size.height) if "the Sea" in view.render_line(y).text)
        await it.pilot.click(view, offset=(MARGIN + 4, row))
        assert not it.chat.inspector.is_open
        await it.press("f5")
        await it.pilot.click(view, offset=(MARGIN + 4, row))
        await inspected(it)
        assert view.token_cursor == (it.last.id, 4) and standing(it) == ord("S")
        await it.pilot.click(view, offset=(MARGIN + 30, row))
        assert view.token_cursor == (it.last.id, 4)
        await it.press("escape")


def without_facts(it: Window, **changes: object) -> None:
    """Make the last reply one of an earlier time, or of another model."""
    turn = it.last
    assert turn.reply is not None
    changed = replace(turn, reply=replace(turn.reply, **(changes or {"facts": ()})))  # type: ignore[arg-type]
    it.session.transcript._turns[turn.id] = changed
    it.chat.refresh_turns()


async def test_what_cannot_be_looked_into_says_why() -> None:
    """A message, an edited reply, another model's, an old one, one that still runs: one line each."""
    gate = Semaphore(100)
    async with window(ScriptedEngine(gate=gate), gate=gate) as it:
        await it.ask("hi")
        await it.select(2)
        await it.press("enter")
        assert "Only a reply can be looked into" in it.toasts
        without_facts(it)
        await it.press("alt+down", "enter")
        assert "Nothing is kept of this reply's tokens" in it.toasts
        without_facts(it, model="Other", facts=((0, 0, 0, 0, 0),))
        await it.press("enter")
        assert "Other drew this reply" in it.toasts
        await it.press("e")
        await it.write("Mine.")
        await it.press("enter", "alt+up", "enter")
        assert "written by you" in it.toasts and not it.chat.inspector.is_open


async def test_a_running_reply_closes_the_inspector() -> None:
    """Its places would be of a text that is no longer shown."""
    async with window(UnsureEngine("the Sea")) as it:
        await it.ask("hi")
        await it.select()
        await it.press("enter")
        await inspected(it)
        await it.ask("more")
        assert not it.chat.inspector.is_open and it.chat.view.token_cursor is None


@pytest.mark.parametrize("size", [(120, 36), (108, 30), (60, 16), (40, 10)])
async def test_the_token_stays_in_sight_above_its_candidates(size: tuple[int, int]) -> None:
    """The list never covers the text; a long reply is scrolled to the token in hand."""
    async with window(UnsureEngine("word " * 300), size=size) as it:
        it.session.config = GREEDY.changed(max_new_tokens=1000)
        await it.ask("hi")
        await it.select()
        await it.press("enter")
        await inspected(it)
        view = it.chat.view
        for keys in ((), ("end", "left"), ("home",)):
            await it.press(*keys)
            place = view.token_cursor[1]  # type: ignore[index]
            rows = view._tokens.rows_of(view._document.entries[1], place)
            top = view._document.top(1) + rows[0] - view.scroll_offset.y
            assert 0 <= top < view.size.height
        assert view.size.height >= 2
        await inspected(it)
        sums = [line.rstrip() for line in it.lines(it.chat.inspector) if "raw → final %" in line]
        assert all(line.endswith("%") or line[-1].isdigit() for line in sums), "half a word stands at the end"


async def test_options_of_the_inspector_survive_themes() -> None:
    """Every shipped theme draws colours, cursor and list."""
    async with window(UnsureEngine("the Sea"), options=options_of(GREEDY)) as it:
        await it.ask("hi")
        await it.press("f5")
        await it.select()
        await it.press("enter")
        await inspected(it)
        for theme in ("night", "day", "paper", "contrast", "ansi"):
            it.app.theme = theme
            await it.pilot.pause()
            assert "the Sea" in it.screen and "Token 1 of 7" in it.screen
