"""When something is wrong: one clear line, nothing lost, and the chat goes on."""

from __future__ import annotations

from pathlib import Path
from threading import Semaphore

import pytest

from llmchat.chat.storage import latest_transcript, read_transcript
from llmchat.engine.engine import Engine
from llmchat.errors import LlmchatError, ModelLoadError
from llmchat.options import StartOptions
from llmchat.ui.app import LlmchatApp
from llmchat.worker.messages import Request
from tests.fakes import ScriptedEngine
from tests.faults import open_directory, read_only
from tests.ui.helpers import GREEDY, chat_engine, options_of, window


async def test_a_model_that_cannot_be_opened_is_told_once() -> None:
    """What was typed meanwhile comes back, and another model can be opened."""
    may_load = Semaphore(0)
    engines = iter([None, ScriptedEngine()])

    def load() -> Engine:
        may_load.acquire()
        if (engine := next(engines)) is None:
            raise ModelLoadError("nosuch.gguf is not there.")
        return engine

    async with window(load, gate=may_load) as it:
        await it.send("first")
        await it.press(*"draft")
        may_load.release()
        await it.until(lambda: it.session.state == "empty")
        assert it.notes.startswith("nosuch.gguf is not there.") and "no model" in it.status
        assert it.chat.prompt.text == "first\n\ndraft" and it.said == []
        await it.press("enter")
        assert "No model is open" in it.toasts and it.chat.prompt.text == "first\n\ndraft"
        await it.write("")
        await it.send("/model other")
        may_load.release()
        await it.ready()
        await it.ask("hi")
        assert it.notes == ""


async def test_a_file_that_is_no_model() -> None:
    """The real loader's message, in the window."""
    async with window(options=options_of(model="/no/such/model.gguf")) as it:
        await it.until(lambda: it.session.state == "empty")
        assert "There is no file or directory '/no/such/model.gguf'" in it.notes


async def test_without_a_network_the_window_offers_its_own_ways_out() -> None:
    """Why the default model could not be fetched stays on the screen; the words stay, ^R and F3 are offered."""
    outcomes: list[Engine | ModelLoadError] = [ModelLoadError("No network."), ModelLoadError("Still none.")]

    def load() -> Engine:
        outcome = outcomes.pop(0) if outcomes else chat_engine("At last.")
        if isinstance(outcome, ModelLoadError):
            raise outcome
        return outcome

    async with window(load) as it:
        await it.send("hello")
        await it.until(lambda: "No network." in it.notes)
        assert "F3" in it.notes and "/model tiny" in it.notes and "^R" in it.notes
        assert "F3 model" in it.status and "^R try again" in it.status
        await it.press("enter")
        await it.send("/stats")
        assert "No network." in it.notes
        await it.write("hello")
        await it.press("ctrl+r")
        await it.until(lambda: "Still none." in it.notes)
        assert "No network." not in it.notes and it.chat.prompt.text == "hello"
        await it.press("ctrl+r")
        await it.ready()
        assert "none" not in it.notes and it.chat.prompt.text == "hello"
        await it.press("enter")
        await it.until(lambda: it.said[-1:] == [("assistant", "At last.")])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_worker_that_has_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window does not wait for a reply that cannot come; what was there stays, and it can be left."""
    async with window(ScriptedEngine("Yes.")) as it:
        await it.ask("hi")
        monkeypatch.setattr(it.app.worker, "_serve", end_the_thread)
        await it.send("And?")
        await it.until(lambda: "has stopped: start llmchat again" in it.notes and it.is_idle)
        assert it.said[:2] == [("user", "hi"), ("assistant", "Yes.")]
        await it.send("Still?")
        await it.until(lambda: it.said[-1] == ("user", "Still?") and it.is_idle)
        assert "has stopped" in it.notes


def end_the_thread(request: Request) -> None:
    """End the worker's thread, as no fault of a model can."""
    raise SystemExit


async def test_numbers_that_are_not_finite_end_the_reply_in_words() -> None:
    """What there was stays, marked as an error; the next reply can be made."""
    async with window(ScriptedEngine("abcdef", fail_at=3)) as it:
        await it.ask("hi")
        assert it.said[-1] == ("assistant", "abc")
        assert "not finite" in it.notes or "NaN" in it.notes
        assert it.reply.finish_reason == "error"
        assert "ready" in it.status


async def test_a_message_that_is_too_long_comes_back_whole_and_costs_no_turn() -> None:
    """It stands in the prompt again, with the numbers below; nothing before it is dropped for it, then or later."""
    text = "much too long for a context\n" * 20
    async with window(chat_engine("Yes.", context_length=120)) as it:
        await it.ask("one")
        await it.ask("two")
        before = it.said
        await it.send(text)
        await it.until(lambda: "context holds 120" in it.notes and it.is_idle)
        assert "tokens" in it.notes and "back in the prompt" in it.notes
        assert it.chat.prompt.text == text
        assert it.said == before and it.session.state == "ready"
        await it.write("")
        await it.ask("three")
        assert it.said[:-2] == before and not it.session.dropped_turns
        assert it.session.path is not None
        kept = read_transcript(it.session.path)[0]
        assert [turn.text for turn in kept.path()] == [text for _, text in it.said]
        assert not [turn for turn in kept if "much too long" in turn.text]


async def test_what_waits_behind_a_reply_that_fails_comes_back_too() -> None:
    """Prompts in the queue are not lost with the reply before them."""
    gate = Semaphore(0)
    async with window(ScriptedEngine("abcdef", fail_at=3, gate=gate), gate=gate) as it:
        await it.ask_without_waiting("hi")
        await it.send("and then?")
        await it.send("and after that?")
        gate.release(100)
        await it.until(lambda: "finite" in it.notes or "NaN" in it.notes)
        assert it.chat.prompt.text == "and then?\n\nand after that?"


async def test_an_edit_that_is_too_long_leaves_the_message_as_it_was() -> None:
    """The edited text comes back into the prompt; the turn that was edited is shown again."""
    async with window(chat_engine("Yes.", context_length=120)) as it:
        await it.ask("one")
        before = it.said
        await it.send("/edit")
        await it.send("much too long for a context " * 20)
        await it.until(lambda: "context holds 120" in it.notes and it.is_idle)
        assert it.said == before
        assert it.chat.prompt.text.startswith("much too long")
        await it.send("short enough")
        await it.until(lambda: ("user", "short enough") in it.said and len(it.said) == 2 and it.is_idle)
        await it.press("ctrl+z", "ctrl+z")
        assert it.chat.prompt.text == "one" and it.said == []


async def test_an_unsaved_conversation_is_let_go_at_the_second_press() -> None:
    """^N without a file says so and keeps the turns, and what waits goes on; ^N again begins anew."""
    async with window(ScriptedEngine(), options=options_of(autosave=False)) as it:
        await it.ask("hi")
        await it.press("ctrl+n")
        assert "not saved" in it.toasts and len(it.said) == 2
        await it.press("ctrl+n")
        assert it.said == []


async def test_turns_that_no_longer_fit_are_dimmed_under_a_line() -> None:
    """Nothing leaves the model's sight silently."""
    async with window(chat_engine("Yes.", context_length=100)) as it:
        for number in range(4):
            await it.ask(f"Question number {number}?")
        dimmed = [block.dimmed for block in it.blocks if block.role != "notice"]
        assert dimmed[0] and not dimmed[-1] and dimmed == sorted(dimmed, reverse=True)
        assert f"the {sum(dimmed)} turns above no longer fit into the context" in it.screen


async def test_model_text_is_data() -> None:
    """No markup, no escape sequence and no direction mark acts on the window."""
    text = "[bold]x[/] [/] [@click=app.quit]q[/]\x1b[31mred\x07\x9b2J\u202egnp\r\x00end"
    async with window(ScriptedEngine(text)) as it:
        await it.ask("[red]me[/] \x1b]0;title\x07")
        assert it.said[-1] == ("assistant", text)
        screen = it.screen
        assert "[bold]x[/] [/] [@click=app.quit]q[/]" in screen and "[red]me[/]" in screen
        assert "␛[31mred" in screen and "end" in screen
        assert not set(screen) & set("\x1b\x07\x9b\u202e\r\x00")


async def test_markup_in_toasts_and_names_is_data(tmp_path: Path) -> None:
    """File names and messages may hold brackets."""
    async with window(ScriptedEngine()) as it:
        await it.send(f"/load {tmp_path}/[/bold][nosuch].toml")
        await it.until(lambda: "[/bold][nosuch].toml" in it.toasts)
        await it.ask("hi")
        await it.send(f"/save {tmp_path}/[red].toml")
        assert "[red].toml" in it.lines()[0]
        await it.send("/theme [bold]")
        await it.until(lambda: "[bold]" in it.toasts)
        await it.send("/[x]")
        await it.send("/nosuch[/]")
        assert it.app.is_running


async def test_transcripts_that_cannot_be_kept_are_told_once() -> None:
    """The chat goes on; one toast, not one for each turn."""
    with open_directory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMCHAT_HOME", str(home))
        (home / "state").mkdir()
        with read_only(home, home / "state"):
            async with window(ScriptedEngine()) as it:
                await it.ask("one")
                await it.ask("two")
                assert len(it.said) == 4
                assert it.toasts.count("conversation is not saved") == 1
                assert it.toasts.count("history is not kept") == 1
                await it.press("ctrl+q")
            assert it.app.return_value == ""


async def test_continue_goes_on_in_the_same_file() -> None:
    """What was saved by itself is opened with --continue, with its model's settings unchanged."""
    async with window(ScriptedEngine()) as it:
        await it.ask("one")
        path = it.session.path
    assert path is not None and latest_transcript() == path
    options = StartOptions(generation=options_of().generation, resume=path)
    async with window(ScriptedEngine(), options=options) as it:
        assert it.said == [("user", "one"), ("assistant", "Hello.")]
        await it.ask("two")
        assert it.session.path == path
    assert [turn.text for turn in read_transcript(path)[0]] == ["one", "Hello.", "two", "Hello."]


async def test_a_torn_transcript_is_mended_with_a_notice() -> None:
    """The end that a crash tore off is told, and the conversation goes on."""
    async with window(ScriptedEngine()) as it:
        await it.ask("one")
        path = it.session.path
    assert path is not None
    with path.open("ab") as file:
        file.write(b'[[turns]]\nid = "half')
    options = StartOptions(generation=options_of().generation, resume=path)
    async with window(ScriptedEngine(), options=options) as it:
        assert it.toasts and it.said == [("user", "one"), ("assistant", "Hello.")]
        await it.ask("two")


def test_a_transcript_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    """Before anything is drawn, in one line."""
    (tmp_path / "x.toml").write_text("not = [toml")
    with pytest.raises(LlmchatError, match=r"x\.toml"):
        LlmchatApp(StartOptions(resume=tmp_path / "x.toml"))


async def test_no_autosave_keeps_nothing(sandbox: Path) -> None:
    """No file, and no line about one in the end."""
    async with window(ScriptedEngine(), options=options_of(GREEDY, autosave=False)) as it:
        await it.ask("secret")
        await it.press("ctrl+q")
    assert it.app.return_value == ""
    assert not list(sandbox.rglob("*.toml"))
