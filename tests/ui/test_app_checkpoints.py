"""Walking through a run's checkpoints in the window, on real files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from textual import events
from textual.keys import _character_to_key

from llmchat.chat.archive import read_transcript
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.replay import replay
from llmchat.ui import checkpoints
from llmchat.ui.palette import offers
from tests.checkpoints.runs import save_checkpoint
from tests.ui.helpers import Window, options_of, window

SHORT = GenerationConfig(max_new_tokens=8, temperature=1.0)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the directory many times a second."""
    monkeypatch.setattr(checkpoints, "POLL_SECONDS", 0.02)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three checkpoints, whose training went on."""
    directory = tmp_path / "runs"
    # Far enough apart that the same dice give each of them a reply of its own.
    for step, loss, shake in ((900, 3.5, 0.6), (1000, 2.75, 0.5), (12000, 2.31, 0.0)):
        save_checkpoint(directory / f"step_{step}.pt", step=step, loss=loss, shake=shake)
    return directory


@contextlib.asynccontextmanager
async def following(run: Path, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Window]:
    """A window on a run, its newest checkpoint open."""
    async with window(options=options_of(SHORT, model=str(run / "step_*.pt"), threads=1), size=size) as it:
        await it.until(lambda: it.session.state == "ready" and it.chat.header.checkpoint, "the run is known")
        yield it


async def opened(it: Window, name: str, replies: int) -> None:
    """Wait until a checkpoint is open and has answered."""
    await it.until(
        lambda: (
            it.session.model is not None
            and it.session.model.name == name
            and it.is_idle
            and sum(turn.reply is not None for turn in it.session.transcript) == replies
        ),
        f"{name} has answered",
    )


async def test_the_newest_is_opened_and_the_header_says_where_it_stands(run: Path) -> None:
    """Place, step and loss, from what the file carries."""
    async with following(run) as it:
        assert it.session.model is not None and it.session.model.name == "step_12000"
        assert "step_12000" in it.lines()[0]
        assert "3/3 · step 12000 · loss 2.31" in it.lines()[0]


async def test_brackets_ask_the_others_the_same(run: Path) -> None:
    """One question, the same dice and settings, a reply of each checkpoint beside the others under its own name."""
    async with following(run) as it:
        await it.ask("Once upon a time")
        first = it.reply
        await it.press("left_square_bracket")
        await opened(it, "step_1000", 2)
        assert "2/3 · step 1000 · loss 2.75" in it.lines()[0]
        await it.press("left_square_bracket")
        await opened(it, "step_900", 3)
        assert (it.reply.seed, it.reply.config) == (first.seed, first.config)
        assert [block.name for block in it.blocks] == ["You", "step_900"]
        assert it.blocks[-1].alternatives == (3, 3)
        replies = [turn.reply for turn in it.session.transcript if turn.reply is not None]
        assert [reply.model for reply in replies] == ["step_12000", "step_1000", "step_900"]
        assert len({reply.token_ids for reply in replies}) == 3
        await it.press("left_square_bracket")
        assert "This is the oldest checkpoint" in it.toasts
        assert it.session.path is not None
        path = it.session.path
    results = list(replay(read_transcript(path)[0], ModelSpec(str(run / "step_12000.pt"), threads=1)))
    assert [result.first_difference for result in results] == [None] * 3
    assert not any(result.passed_over for result in results)


async def test_brackets_are_letters_while_one_writes(run: Path) -> None:
    """In a text they are typed; on the transcript they go through the run."""
    async with following(run) as it:
        await it.ask("Once")
        await it.press("a", "left_square_bracket", "right_square_bracket")
        assert it.chat.prompt.text == "a[]"
        await it.press("alt+up", "left_square_bracket")
        await opened(it, "step_1000", 2)
        assert it.chat.prompt.text == "a[]"


async def test_without_a_run_they_are_letters_too() -> None:
    """A person with one model can begin a message with a bracket."""
    async with window(options=options_of(SHORT, model="tiny")) as it:
        await it.ready()
        await it.press("left_square_bracket")
        assert it.chat.prompt.text == "["
        await it.send("/checkpoint newest")
        assert "not a run of checkpoints" in it.toasts


async def test_quick_presses_go_several_checkpoints(run: Path) -> None:
    """What was being opened or written is given up for where the person goes next."""
    async with following(run) as it:
        await it.ask("Once upon a time")
        await it.press("left_square_bracket", "left_square_bracket")
        await it.until(lambda: it.is_idle and it.session.model is not None and it.session.model.name == "step_900")
        assert it.reply.model == "step_900"
        assert [turn.role for turn in it.session.transcript.path()] == ["user", "assistant"]


async def test_the_command_goes_anywhere_and_lists_them(run: Path) -> None:
    """By number, by word, and the list marks the one that is open."""
    async with following(run) as it:
        await it.send("/checkpoint 1")
        await opened(it, "step_900", 0)
        await it.send("/checkpoint")
        assert "●  1  step_900.pt  step 900 · loss 3.5".replace("  1", " 1") in it.notes
        assert "3  step_12000.pt  step 12000 · loss 2.31" in it.notes
        await it.send("/checkpoint newest")
        await opened(it, "step_12000", 0)
        await it.send("/checkpoint 7")
        assert "There are 3 checkpoints" in it.toasts
        await it.send("/checkpoint newest")
        assert "open already" in it.toasts


async def test_a_new_checkpoint_is_announced_and_opened(run: Path) -> None:
    """Not before it is whole; then a toast names it and the key, and the key opens it."""
    async with following(run) as it:
        await it.ask("Once upon a time")
        finished = save_checkpoint(run.parent / "made" / "x.pt", step=13000, loss=2.25).read_bytes()
        path = run / "step_13000.pt"
        path.write_bytes(finished[:-100])
        run_of = it.chat.checkpoints.timeline
        assert run_of is not None
        await it.until(lambda: run_of.unfinished)
        assert "13000" not in it.toasts
        path.write_bytes(finished)
        await it.until(lambda: "step 13000 is here: ] opens it." in it.toasts)
        assert "3/4 · " in it.lines()[0]
        await it.press("right_square_bracket")
        await opened(it, "step_13000", 2)
        assert "4/4 · step 13000 · loss 2.25" in it.lines()[0]
        assert it.toasts.count("is here") == 1


async def test_one_that_comes_while_an_old_one_is_open_names_the_command(run: Path) -> None:
    """There ] leads elsewhere."""
    async with following(run) as it:
        await it.send("/checkpoint 1")
        await opened(it, "step_900", 0)
        save_checkpoint(run / "step_13000.pt", step=13000)
        await it.until(lambda: "step 13000 is here: /checkpoint newest opens it." in it.toasts)


async def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    """Nothing is there at first; the first checkpoint is announced, and opened with the key."""
    async with window(options=options_of(SHORT, model=str(tmp_path / "runs" / "*.pt"), threads=1)) as it:
        await it.until(lambda: it.session.state == "empty")
        assert "No checkpoint matches" in it.notes
        save_checkpoint(tmp_path / "runs" / "step_1.pt", step=1)
        await it.until(lambda: "step 1 is here: ] opens it." in it.toasts)
        await it.press("right_square_bracket")
        await opened(it, "step_1", 0)
        await it.until(lambda: "1/1 · step 1" in it.lines()[0])


async def test_a_damaged_checkpoint_is_passed_by(run: Path) -> None:
    """It is said what is wrong with it, and the way goes on behind it."""
    (run / "step_1000.pt").write_bytes((run / "step_900.pt").read_bytes().replace(b"step", b"stop"))
    async with following(run) as it:
        await it.ask("Once")
        await it.press("left_square_bracket")
        await it.until(lambda: "step_12000 stays open." in it.notes)
        assert "damaged" in it.notes and it.session.state == "ready" and "3/3" in it.lines()[0]
        await it.press("left_square_bracket")
        await opened(it, "step_900", 2)


async def test_another_model_ends_the_run_and_another_pattern_begins_one(run: Path) -> None:
    """/model with a name leaves the run; with a pattern it follows that one."""
    async with following(run) as it:
        await it.send("/model tiny")
        await opened(it, "tiny", 0)
        assert it.chat.checkpoints.timeline is None and "3/3" not in it.lines()[0]
        await it.send(f"/model {run}/step_?00.pt")
        await opened(it, "step_900", 0)
        await it.until(lambda: "1/1 · step 900" in it.lines()[0])


async def test_brackets_within_what_is_typed_are_text(run: Path) -> None:
    """A burst of keys is taken in its order: a bracket in it never finds the prompt empty and steps away."""
    text = "a [b] or [c]"
    async with following(run) as it:
        for character in text:
            it.app.post_message(events.Key(_character_to_key(character), character))
        await it.until(lambda: it.chat.prompt.text == text)
        await opened(it, "step_12000", 0)


async def test_the_palette_offers_the_steps(run: Path) -> None:
    """Only where there is a run."""
    async with following(run) as it:
        titles = [command.title for command in offers(it.app)]
        assert {"Newest checkpoint", "Previous checkpoint", "Next checkpoint"} <= set(titles)
        command = next(c for c in offers(it.app) if c.title == "Previous checkpoint")
        command.act()
        await opened(it, "step_1000", 0)
    async with window(options=options_of(SHORT, model="tiny")) as it:
        assert not any(command.title.endswith(" checkpoint") for command in offers(it.app))


async def test_a_narrow_window_keeps_the_models_name(run: Path) -> None:
    """Where there is no room for both, the place goes first."""
    async with following(run, size=(40, 20)) as it:
        assert "step_12000" in it.lines()[0]
