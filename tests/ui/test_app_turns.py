"""What the keys on a turn do: alternatives, editing, branching, copying."""

from __future__ import annotations

from threading import Semaphore

import pytest

from llmchat.chat.storage import read_transcript
from llmchat.errors import UsageError
from llmchat.options import StartOptions
from llmchat.settings import ResolvedGeneration
from llmchat.ui.turn_actions import code_of
from tests.fakes import ScriptedEngine
from tests.session.test_session import ContinuingEngine
from tests.ui.helpers import GREEDY, window


class CountingEngine(ScriptedEngine):
    """Says how many prompts it has had, so that replies differ."""

    def prefill(self, token_ids, should_stop, on_progress=None, lora_scales=None):  # type: ignore[no-untyped-def]
        """Choose another script for each prompt."""
        self._script = [*f"Answer {len(self.prompts) + 1}.".encode(), 256]
        return super().prefill(token_ids, should_stop, on_progress)


async def test_regenerated_replies_stand_beside_each_other() -> None:
    """^R answers anew; ← and → walk through the alternatives and stop at the ends."""
    async with window(CountingEngine()) as it:
        await it.ask("hi")
        await it.press("ctrl+r")
        await it.until(lambda: it.said[-1] == ("assistant", "Answer 2.") and it.is_idle)
        assert it.blocks[-1].alternatives == (2, 2) and "‹2/2›" in it.screen
        await it.select()
        await it.press("left")
        assert it.said == [("user", "hi"), ("assistant", "Answer 1.")] and "‹1/2›" in it.screen
        await it.press("left")
        assert "‹1/2›" in it.screen
        await it.press("right", "right")
        assert it.said[-1] == ("assistant", "Answer 2.") and "‹2/2›" in it.screen
        await it.press("r")
        await it.until(lambda: "‹3/3›" in it.screen and it.is_idle)


async def test_a_regenerated_reply_shows_its_place_while_it_runs() -> None:
    """The old reply gives way at once; ‹2/2› says that it is not lost."""
    gate = Semaphore(0)
    async with window(CountingEngine(gate=gate), gate=gate) as it:
        await it.ask_without_waiting("hi")
        gate.release(9)
        await it.idle()
        await it.press("ctrl+r")
        await it.until(lambda: it.session.running and it.session.running.token_ids)
        assert len(it.said) == 2 and it.blocks[-1].live and "‹2/2›" in it.screen


async def test_an_edited_message_is_answered_on_a_new_branch() -> None:
    """What was said before stays beside it."""
    async with window(CountingEngine()) as it:
        await it.ask("helo")
        await it.select(2)
        await it.press("e")
        assert it.chat.prompt.text == "helo" and it.chat.prompt.has_focus
        await it.write("hello")
        await it.press("enter")
        await it.until(lambda: it.said == [("user", "hello"), ("assistant", "Answer 2.")] and it.is_idle)
        assert it.blocks[0].alternatives == (2, 2)
        await it.select(2)
        await it.press("left")
        assert it.said == [("user", "helo"), ("assistant", "Answer 1.")]


async def test_an_edited_reply_becomes_text_of_the_person() -> None:
    """Nothing is generated; the context is exactly what is displayed."""
    engine = CountingEngine()
    async with window(engine) as it:
        await it.ask("hi")
        await it.select()
        await it.press("e")
        await it.write("My own words.")
        await it.press("enter")
        assert it.said == [("user", "hi"), ("assistant", "My own words.")]
        assert it.is_idle and len(engine.prompts) == 1
        assert it.blocks[-1].details == "edited" and it.blocks[-1].alternatives == (2, 2)


async def test_escape_leaves_a_turn_as_it_was() -> None:
    """An edit that is given up changes nothing, and the next message is a message."""
    async with window(CountingEngine()) as it:
        await it.ask("hi")
        await it.select(2)
        await it.press("e", "escape")
        assert it.chat.prompt.text == "" and it.chat.editing is None
        await it.ask("more")
        assert [text for role, text in it.said if role == "user"] == ["hi", "more"]


async def test_continue_goes_on_with_a_cut_reply() -> None:
    """A reply that ended by its length says so; c goes on from its own tokens."""
    async with window(ContinuingEngine("abcdef"), config=GREEDY.changed(max_new_tokens=3)) as it:
        await it.ask("hi")
        assert it.said[-1] == ("assistant", "abc")
        assert "ended by max_new_tokens 3; /continue goes on" in it.notes
        await it.select()
        await it.press("c")
        await it.until(lambda: it.said[-1] == ("assistant", "abcdef") and it.is_idle)
        assert it.blocks[-1].alternatives == (2, 2)


async def test_a_branch_goes_on_from_an_earlier_turn() -> None:
    """What followed is kept beside it."""
    async with window(CountingEngine()) as it:
        await it.ask("one")
        await it.ask("two")
        await it.select(3)
        await it.press("b")
        assert it.said == [("user", "one"), ("assistant", "Answer 1.")]
        await it.ask("three")
        assert [text for _, text in it.said] == ["one", "Answer 1.", "three", "Answer 3."]
        assert it.blocks[2].alternatives == (2, 2)


async def test_delete_takes_a_turn_and_what_follows_away_at_the_second_press() -> None:
    """From the screen and for whoever reads the file; the toast says how to bring them back, and that does."""
    async with window(CountingEngine()) as it:
        await it.ask("one")
        await it.ask("two")
        path = it.session.path
        assert path is not None
        before = path.read_bytes()
        await it.select(2)
        await it.press("d")
        assert "Press d again to delete 2 turns." in it.toasts and len(it.said) == 4
        assert path.read_bytes() == before
        await it.press("d")
        assert it.said == [("user", "one"), ("assistant", "Answer 1.")]
        assert "2 turns deleted · u or ^Z brings them back" in it.toasts
        assert [turn.text for turn in read_transcript(path)[0]] == ["one", "Answer 1."]
        assert path.read_bytes().startswith(before)
        await it.press("u")
        assert [text for _, text in it.said] == ["one", "Answer 1.", "two", "Answer 2."]
        assert len(read_transcript(path)[0]) == 4


async def test_another_key_takes_the_first_press_back() -> None:
    """Two presses count only in a row and on the same turn."""
    async with window(CountingEngine()) as it:
        await it.ask("one")
        await it.select()
        for between in ("i", "left", "alt+up"):
            await it.press("d", between, "d", "alt+down", "alt+up")
        assert len(it.session.transcript) == 2


async def test_deleting_all_can_be_taken_back_after_the_program_was_closed() -> None:
    """The cursor has no turn to be on then: ^Z in the prompt brings them back, in a later window too."""
    async with window(CountingEngine()) as it:
        await it.ask("one")
        await it.ask("two")
        await it.select(4)
        await it.press("d", "d")
        assert it.said == [] and "4 turns deleted · ^Z brings them back" in it.toasts
        path = it.session.path
    options = StartOptions(generation=ResolvedGeneration(GREEDY), resume=path)
    async with window(CountingEngine(), options=options) as it:
        await it.ready()
        assert it.said == []
        await it.press("ctrl+z")
        assert [text for _, text in it.said] == ["one", "Answer 1.", "two", "Answer 2."]
        await it.press("ctrl+z")
        assert [text for _, text in it.said] == ["one", "Answer 1."] and it.chat.prompt.text == "two"
        await it.press("ctrl+c", "alt+up", "u")
        assert it.said == [] and it.chat.prompt.text == "one"


@pytest.mark.parametrize("text", ["regenerate it", "edit", "dd-mm", "yes, it does", "continue", "d", "uuu", "bcd Prp"])
async def test_a_word_typed_on_a_turn_is_text_and_does_nothing(text: str) -> None:
    """At typing speed the keys of a turn are letters, which land in the prompt in their order."""
    async with window(CountingEngine()) as it:
        await it.ask("one")
        before = [*it.session.transcript]
        await it.select()
        await it.type(text)
        if len(text) > 1:
            await it.until(lambda: it.chat.prompt.text == text, "all of the text")
        assert [*it.session.transcript] == before and it.is_idle
        assert it.app.clipboard == "" and it.notes == ""


async def test_editing_a_turn_keeps_the_draft() -> None:
    """What was written in the prompt is found again with Up; so is an edit that Esc leaves."""
    async with window(CountingEngine()) as it:
        await it.ask("one")
        await it.write("half a tho")
        await it.select(2)
        await it.press("e")
        assert it.chat.prompt.text == "one"
        await it.type("!")
        await it.press("escape")
        assert it.chat.prompt.text == ""
        await it.press("up")
        assert it.chat.prompt.text == "one!"
        await it.press("up")
        assert it.chat.prompt.text == "half a tho"


async def test_copying_a_turn_and_its_code() -> None:
    """The toast says where the text went."""
    async with window(ScriptedEngine("Look:\n```py\nx = 1\n```\n")) as it:
        await it.ask("hi")
        await it.select()
        await it.press("y")
        await it.until(lambda: it.toasts)
        assert it.app.clipboard == "Look:\n```py\nx = 1\n```\n"
        await it.press("Y")
        await it.until(lambda: it.app.clipboard == "x = 1")
        await it.press("alt+up", "Y")
        await it.until(lambda: "no code block" in it.toasts)


async def test_info_tells_how_a_reply_was_made() -> None:
    """Model, seed, settings, ending and counts, below the turns, until the next message."""
    async with window(ScriptedEngine(), config=GREEDY.changed(seed=8417)) as it:
        await it.ask("hi")
        await it.select()
        await it.press("i")
        for words in ("model Scripted · seed 8417", "ended by end token <end>", "prompt 2 tokens", "reply 6 tokens"):
            assert words in it.notes
        await it.press("escape")
        await it.ask("more")
        assert "seed 8417 ·" not in it.notes


async def test_keys_on_a_turn_that_is_still_written_say_why_not() -> None:
    """Nothing is changed under a running reply."""
    gate = Semaphore(0)
    async with window(ScriptedEngine(gate=gate), gate=gate) as it:
        await it.ask_without_waiting("hi")
        await it.select()
        await it.press("d")
        await it.until(lambda: "still being written" in it.toasts)
        await it.press("alt+up", "d")
        await it.until(lambda: "Stop the reply with Esc first" in it.toasts)
        assert it.session.running is not None and len(it.said) == 2


async def test_escape_on_a_turn_stops_the_reply_first() -> None:
    """Then it leaves the turn, then it goes to the prompt."""
    gate = Semaphore(0)
    async with window(ScriptedEngine(gate=gate), gate=gate) as it:
        await it.ask_without_waiting("hi")
        await it.select()
        await it.press("escape")
        assert it.session.state == "stopping" and it.chat.view.selected_turn is not None
        gate.release(1)
        await it.idle()
        await it.press("escape")
        assert it.chat.view.selected_turn is None and not it.chat.prompt.has_focus
        await it.press("escape")
        assert it.chat.prompt.has_focus


def test_code_of_a_text() -> None:
    """Several blocks are parted by an empty line; an open one counts; no code is said."""
    assert code_of("a\n```\nx\n```\nb\n~~~py\ny\n  z\n~~~\n") == "x\n\ny\n  z"
    assert code_of("```\nopen") == "open"
    with pytest.raises(UsageError, match="no code block"):
        code_of("`inline`")
