"""What stands around the transcript is true of what is seen in it."""

from __future__ import annotations

from dataclasses import replace
from threading import Semaphore

from tests.fakes import ScriptedEngine
from tests.ui.helpers import chat_engine, options_of, window


async def test_the_status_bar_follows_the_conversation() -> None:
    """After a deletion, a step back, a new conversation and an opened one, its figures are those of the last reply."""
    async with window(chat_engine("abcdef")) as it:
        await it.ask("one")
        first = it.chat.status.context_used
        assert first == it.reply.prompt_tokens + 6
        await it.ask("two")
        second, path = it.chat.status.context_used, it.session.path
        assert second is not None and second > first
        await it.send("/undo")
        assert it.chat.status.context_used == first and f"context {first} / " in it.status
        await it.write("")
        await it.send("/redo")
        assert it.chat.status.context_used == second
        await it.select(2)
        await it.press("d", "d")
        assert it.chat.status.context_used == first
        await it.press("u")
        await it.send("/new")
        assert "context 0 / " in it.status and "first token" not in it.status and "tok/s" not in it.status
        await it.send(f"/load {path}")
        assert it.chat.status.context_used == second
        assert it.chat.status.tokens_per_second == it.reply.timings.tokens_per_second
    async with window(chat_engine("abcdef"), options=replace(options_of(), resume=path)) as it:
        await it.ready()
        assert it.chat.status.context_used == second


async def test_the_figures_of_the_reply_before_go_when_another_begins() -> None:
    """A first token is told of the reply that is seen."""
    gate = Semaphore(100)
    async with window(ScriptedEngine("abcdef", gate=gate), gate=gate) as it:
        await it.ask("one")
        assert it.chat.status.first_token_seconds > 0
        while gate.acquire(blocking=False):
            pass
        await it.send("two")
        assert it.session.running is not None and it.chat.status.first_token_seconds == 0
        assert it.chat.status.tokens_per_second == 0


async def test_tokens_that_another_model_counted_are_not_told_as_this_ones() -> None:
    """A dash stands where nobody knows."""
    async with window(ScriptedEngine("abcdef")) as it:
        await it.ask("one")
        await it.select()
        await it.press("e")
        await it.write("my own words")
        await it.press("enter")
        await it.until(lambda: it.said[-1] == ("assistant", "my own words"))
        assert "context – / " in it.status


async def test_turns_that_did_not_fit_are_not_dimmed_after_a_deletion() -> None:
    """What the last prompt left out says nothing of a shorter conversation."""
    async with window(chat_engine("abc", context_length=60)) as it:
        it.session.config = it.session.config.changed(max_new_tokens=4)
        for _ in range(4):
            await it.ask("some words")
        assert any(block.dimmed for block in it.blocks)
        await it.send("/undo")
        assert not any(block.dimmed for block in it.blocks)


async def test_the_system_block_shows_the_prompt_in_force() -> None:
    """From the first frame, after /system, and after it was taken off."""
    async with window(chat_engine(), options=options_of(system="Be brief.")) as it:
        await it.ready()
        assert it.said == [("system", "Be brief.")]
        await it.send("/system Be kind.")
        assert it.said == [("system", "Be kind.")]
        await it.select()
        await it.press("y")
        await it.until(lambda: "Change the system prompt with /system." in it.toasts)
        await it.ask("hi")
        assert [text for _, text in it.said] == ["Be kind.", "hi", "Hello."]
        await it.send("/system Be rude.")
        assert it.said[0] == ("system", "Be rude.") and "began under another" in it.notes
        await it.send("/system")
        assert it.blocks[0].dimmed and "no longer given to the model" in it.notes
        await it.send("/system Be kind.")
        assert it.said[0] == ("system", "Be kind.") and not it.blocks[0].dimmed
