"""The window: writing, answering, stopping, leaving. A real app with a real worker."""

from __future__ import annotations

from threading import Event, Semaphore

import pytest
from textual.events import Paste

from llmchat.chat.storage import read_transcript
from llmchat.checkpoints.checkpoint import Progress
from llmchat.engine.engine import Engine
from llmchat.errors import ModelLoadError
from llmchat.options import StartOptions
from llmchat.ui.widgets.prompt_input import PromptInput
from llmchat.ui.widgets.status_bar import State, StatusBar
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import LoadRequest
from tests.fakes import ScriptedEngine, prepares
from tests.patience import PATIENCE_SECONDS
from tests.ui.helpers import GREEDY, chat_engine, options_of, tiny_options, window

LONG = "".join(f"Line {number} of a long reply.\n" for number in range(100))
ROOMY = GREEDY.changed(max_new_tokens=4000)


async def test_the_first_frames_do_not_say_that_there_is_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start until it is open, the model is being opened."""
    states: list[str] = []
    show_state = StatusBar.show_state

    def noted(bar: StatusBar, state: State, detail: str = "", fraction: float | None = None) -> None:
        states.append(state)
        show_state(bar, state, detail, fraction)

    monkeypatch.setattr(StatusBar, "show_state", noted)
    async with window(chat_engine()) as it:
        await it.ready()
    assert states[0] == "loading" and "error" not in states


async def test_the_speed_shown_is_that_of_the_reply_that_runs() -> None:
    """The first token of the reply before is not shown during the next."""
    gate = Semaphore(100)
    async with window(chat_engine("abcdef" * 10, gate=gate), gate=gate) as it:
        await it.ask("hi")
        assert "first token" in it.status
        await it.ask_without_waiting("again")
        assert "first token" not in it.status
        gate.release(200)
        await it.idle()
        assert "first token" in it.status


async def test_a_real_model_answers() -> None:
    """From the keyboard through torch to the screen and the disk."""
    async with window(options=tiny_options()) as it:
        assert "llmchat" in it.screen and "Write a message" in it.screen
        await it.press(*"Alice", "enter")
        await it.until(lambda: it.said and it.said[-1][0] == "assistant" and it.is_idle)
        assert it.said[0] == ("user", "Alice")
        assert len(it.reply.token_ids) == 24 and it.reply.text.strip()
        # A space at the start of a line is not drawn where it wraps.
        assert it.reply.text.split()[1] in it.screen
        assert "tiny" in it.lines()[0] and ".toml" in it.lines()[0]
        assert "ready" in it.status and "tok/s" in it.status and "context" in it.status
        assert it.session.path is not None
        assert [turn.text for turn in read_transcript(it.session.path)[0]] == ["Alice", it.reply.text]


async def test_what_is_typed_while_the_model_loads_is_answered_later() -> None:
    """The prompt works from the first moment; what is sent waits, visibly."""
    loaded = Event()

    def load() -> Engine:
        assert loaded.wait(PATIENCE_SECONDS)
        return ScriptedEngine()

    async with window(load) as it:
        await it.press(*"hi", "enter", *"more", "enter")
        assert it.session.state == "loading"
        assert it.said == [("user", "hi"), ("user", "more")]
        assert it.notes == "waiting\nwaiting"
        loaded.set()
        await it.until(lambda: len(it.said) == 4 and it.is_idle)
        assert it.said == [("user", "hi"), ("assistant", "Hello."), ("user", "more"), ("assistant", "Hello.")]
        assert it.notes == ""


async def test_a_prompt_of_the_command_line_is_sent_at_once() -> None:
    """`llmchat -p TEXT` opens the window with the answer under way."""
    options = StartOptions(generation=options_of().generation, prompt="hi")
    async with window(ScriptedEngine(), options=options) as it:
        await it.until(lambda: it.said == [("user", "hi"), ("assistant", "Hello.")])


async def test_a_reply_streams_and_is_followed() -> None:
    """Text is shown while it comes, and the end of it stays in sight."""
    gate = Semaphore(0)
    async with window(ScriptedEngine(LONG, gate=gate), config=ROOMY, size=(80, 20), gate=gate) as it:
        await it.send("hi")
        await it.until(lambda: "generating" in it.status)
        await it.let_through(gate, lambda: len(it.blocks[-1].text) > 1000)
        assert it.session.running is not None and it.blocks[-1].live
        shown = it.blocks[-1].text.rstrip("\n").splitlines()
        assert shown[-2] in it.screen and "Line 0 " not in it.screen
        gate.release(6000)
        await it.idle()
        assert "Line 99 of a long reply." in it.screen


async def test_scrolling_away_stops_following_until_the_end_is_reached() -> None:
    """Text that arrives below does not move what is read; ↓ new text tells of it."""
    gate = Semaphore(0)
    async with window(ScriptedEngine(LONG, gate=gate), config=ROOMY, size=(80, 20), gate=gate) as it:
        await it.send("hi")
        await it.let_through(gate, lambda: len(it.blocks[-1].text) > 1000)
        await it.press("pageup")
        top, length = it.lines()[2], len(it.blocks[-1].text)
        await it.let_through(gate, lambda: len(it.blocks[-1].text) > length + 500)
        assert it.lines()[2] == top
        assert "↓ new text" in it.screen
        await it.press("ctrl+end")
        assert "↓ new text" not in it.screen
        gate.release(6000)
        await it.idle()
        assert "Line 99 of a long reply." in it.screen


async def test_escape_stops_within_one_token_and_keeps_the_text() -> None:
    """Only the token that was being computed may still come."""
    gate = Semaphore(0)
    async with window(ScriptedEngine("abcdef", gate=gate), gate=gate) as it:
        await it.send("hi")
        await it.until(lambda: it.session.running and it.session.running.token_ids)
        await it.press("escape")
        assert "stopping" in it.status
        gate.release(1)
        await it.idle()
        assert it.said == [("user", "hi"), ("assistant", "a")]
        assert it.reply.finish_reason == "cancelled"
        assert "stopped by you" in it.notes
        assert it.session.path is not None
        assert read_transcript(it.session.path)[0].path()[-1].text == "a"


async def test_prompts_that_waited_come_back_on_stop() -> None:
    """They are put before what is in the prompt; nothing typed is lost."""
    gate = Semaphore(0)
    async with window(ScriptedEngine(gate=gate), gate=gate) as it:
        await it.send("first")
        await it.until(lambda: it.session.running)
        await it.send("second")
        await it.send("third")
        assert [text for role, text in it.said if role == "user"] == ["first", "second", "third"]
        await it.press(*"draft", "escape")
        assert it.chat.prompt.text == "second\n\nthird\n\ndraft"
        gate.release(9)
        await it.idle()
        assert [text for role, text in it.said if role == "user"] == ["first"]


async def test_what_is_sent_during_a_reply_follows_it() -> None:
    """The queue goes on by itself."""
    gate = Semaphore(0)
    async with window(ScriptedEngine(gate=gate), gate=gate) as it:
        await it.send("first")
        await it.until(lambda: it.session.running)
        await it.send("second")
        gate.release(100)
        await it.until(lambda: len(it.said) == 4 and it.is_idle)
        assert [text for _, text in it.said] == ["first", "Hello.", "second", "Hello."]


async def test_interrupt_copies_a_selection_first() -> None:
    """^C on marked text of the transcript copies it, even in mid-reply."""
    gate = Semaphore(0)
    async with window(ScriptedEngine("Hello there", gate=gate), gate=gate) as it:
        await it.ask_without_waiting("marked words")
        await it.pilot.mouse_down(it.chat.view, offset=(2, 2))
        await it.pilot.hover(it.chat.view, offset=(14, 2))
        await it.pilot.mouse_up(it.chat.view, offset=(14, 2))
        await it.press("ctrl+c")
        await it.until(lambda: it.toasts)
        assert it.app.clipboard.strip() == "marked words"
        assert it.session.state == "generating"


async def test_interrupt_copies_what_is_marked_in_the_prompt() -> None:
    """^C there is what it is in every editor."""
    async with window(ScriptedEngine()) as it:
        await it.write("some draft")
        await it.press("home", "shift+end", "ctrl+c")
        await it.until(lambda: it.toasts)
        assert it.app.clipboard == "some draft"
        assert it.chat.prompt.text == "some draft"


async def test_interrupt_stops_then_clears_then_quits() -> None:
    """The ladder of ^C: the reply, the text, and at the second press the window."""
    gate = Semaphore(0)
    async with window(ScriptedEngine(gate=gate), gate=gate) as it:
        await it.ask_without_waiting("hi")
        await it.press(*"draft", "ctrl+c")
        assert it.session.state == "stopping"
        gate.release(9)
        await it.idle()
        assert it.chat.prompt.text == "draft"
        await it.press("ctrl+c")
        assert it.chat.prompt.text == ""
        await it.press("ctrl+c")
        assert "again to quit" in it.toasts and it.app.is_running
        await it.press("ctrl+c")
        assert it.app.return_value is not None and "Saved: " in it.app.return_value


async def test_a_draft_that_was_cleared_is_brought_back() -> None:
    """By ^Z as it was, and by Up, in this window and the next."""
    async with window(ScriptedEngine()) as it:
        await it.press(*"a long", "ctrl+j", *"draft", "ctrl+c")
        assert it.chat.prompt.text == ""
        await it.press("ctrl+z")
        assert it.chat.prompt.text == "a long\ndraft"
        await it.press("ctrl+c", "up")
        assert it.chat.prompt.text == "a long\ndraft"
    async with window(ScriptedEngine()) as it:
        await it.press("up")
        assert it.chat.prompt.text == "a long\ndraft"


async def test_any_other_key_disarms_the_quit() -> None:
    """Two ^C quit only in a row."""
    async with window(ScriptedEngine()) as it:
        for between in (["x", "backspace"], ["left"], ["alt+up"]):
            await it.press("escape", "ctrl+c", *between, "ctrl+c")
            assert it.app.return_value is None
        await it.press("ctrl+c")
        assert it.app.return_value is not None


async def test_ctrl_d_quits_only_an_empty_prompt() -> None:
    """With text it deletes, as in a shell."""
    async with window(ScriptedEngine()) as it:
        await it.write("ab")
        await it.press("home", "ctrl+d")
        assert it.chat.prompt.text == "b" and it.app.is_running
        await it.press("ctrl+d", "ctrl+d")
        assert it.app.return_value == ""


async def test_ctrl_q_quits_in_mid_reply_and_keeps_it() -> None:
    """The partial reply is on the disk, and the terminal is told where."""
    gate = Semaphore(2)
    async with window(ScriptedEngine("abcdef", gate=gate), gate=gate) as it:
        await it.ask_without_waiting("hi")
        path = it.session.path
        await it.press("ctrl+q")
        gate.release(9)
    assert path is not None and it.app.return_value == f"Saved: {path}\nGo on with: llmchat --continue"
    turn = read_transcript(path)[0].path()[-1]
    assert turn.role == "assistant" and "abcdef".startswith(turn.text) and turn.text


async def test_history_is_walked_from_first_and_last_line() -> None:
    """Up and Down bring back what was sent; inside a text they move by lines."""
    async with window(ScriptedEngine()) as it:
        await it.ask("first")
        await it.ask("second")
        await it.press(*"draft", "up")
        assert it.chat.prompt.text == "second"
        await it.press("up")
        assert it.chat.prompt.text == "first"
        await it.press("up")
        assert it.chat.prompt.text == "first"
        await it.press("down", "down")
        assert it.chat.prompt.text == "draft"


async def test_line_breaks_are_written_not_sent() -> None:
    """^J, Shift+Enter and Alt+Enter break the line; Enter sends the whole."""
    async with window(ScriptedEngine()) as it:
        await it.press("a", "ctrl+j", "b", "shift+enter", "c", "alt+enter", "d")
        assert it.chat.prompt.text == "a\nb\nc\nd"
        assert it.said == []
        await it.press("enter")
        await it.until(lambda: it.said[:1] == [("user", "a\nb\nc\nd")])


async def test_pasted_text_is_never_sent() -> None:
    """Line ends in it are only line ends, also when it is pasted into the transcript."""
    async with window(ScriptedEngine()) as it:
        it.app.post_message(Paste("one\r\ntwo\r"))
        await it.until(lambda: it.chat.prompt.text == "one\ntwo\n")
        assert it.said == []
        await it.write("")
        it.chat.view.focus()
        it.app.post_message(Paste("three\n"))
        await it.until(lambda: it.chat.prompt.text == "three\n")
        assert it.said == [] and isinstance(it.chat.focused, PromptInput)


async def test_typing_in_the_transcript_goes_to_the_prompt() -> None:
    """Whoever types means the prompt, wherever the focus is."""
    async with window(ScriptedEngine()) as it:
        it.chat.view.focus()
        await it.press(*"hey")
        assert it.chat.prompt.text == "hey" and it.chat.prompt.has_focus


async def test_escape_stops_a_download() -> None:
    """The bar says that Esc stops, and it does; the message says so."""

    def load(request: LoadRequest, progress: Progress) -> Engine:
        progress("fetching a model", 0.25)
        assert request.cancel.wait(PATIENCE_SECONDS)
        raise ModelLoadError("The download was stopped.")

    async with window(make_worker=lambda post: InferenceWorker(post, prepares(load))) as it:
        await it.until(lambda: "fetching a model 25%" in it.status and "Esc stop" in it.status)
        await it.press("escape")
        await it.until(lambda: it.session.state == "empty")
        assert "The download was stopped." in it.notes and "no model" in it.status and it.app.is_running
