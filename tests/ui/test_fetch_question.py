"""What the window asks before it fetches a large model, and what it does with the answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.options import StartOptions
from llmchat.ui.recent_models import recent_models
from llmchat.ui.screens.question import QuestionScreen
from llmchat.ui.screens.setup_steps import ModelStep
from llmchat.ui.screens.setup_trial import TrialStep
from tests.conftest import DATA
from tests.hub_server import Hub, Repo, hub_server, use_hub
from tests.ui.helpers import GREEDY, Window, options_of, tiny_options, window
from tests.ui.test_setup import guide

NAME = "maker/small"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a model that counts as large."""
    monkeypatch.setattr("llmchat.session.talk.ASK_ABOVE", 1000)
    with hub_server() as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "huggingface")
        hub.repos[NAME] = Repo.of(DATA / "huggingface" / "qwen2")
        yield hub


async def asked(it: Window) -> None:
    """Wait for the question."""
    await it.until(lambda: isinstance(it.app.screen, QuestionScreen) and "Not now" in it.screen, "the question")


async def test_a_large_model_is_asked_for(hub: Hub) -> None:
    """/model OWNER/NAME tells size and memory first; with yes it is fetched, opened and remembered by its name."""
    async with window(options=tiny_options()) as it:
        await it.ready()
        await it.send(f"/model {NAME}")
        await asked(it)
        assert all(words in it.screen for words in ("Fetch small?", "26.2 kB", "0.1 GB"))
        assert hub.sent == 0
        assert it.session.model is not None and it.session.model.name == "tiny"
        await it.press("enter")
        await it.until(lambda: it.session.model is not None and it.session.model.name == "small", "the new model")
        assert recent_models()[0].model == NAME


async def test_no_keeps_the_model(hub: Hub) -> None:
    """Esc fetches nothing; the model before is open, and why is said."""
    async with window(options=tiny_options()) as it:
        await it.ready()
        await it.send(f"/model hf:{NAME}")
        await asked(it)
        await it.press("escape")
        await it.until(lambda: "tiny stays open" in it.notes, "the note")
        assert hub.sent == 0 and it.session.state == "ready"


async def test_what_was_said_meanwhile_follows_a_yes(hub: Hub) -> None:
    """A message that waits for the first model is answered by it after the question, or comes back after a no."""
    options = options_of(GREEDY.changed(max_new_tokens=3), model=NAME)
    for key in ("n", "y"):
        async with window(options=StartOptions(options.settings, options.generation, prompt="hello")) as it:
            await asked(it)
            await it.press(key)
            if key == "n":
                await it.until(lambda: it.chat.prompt.text == "hello", "the message")
                continue
            await it.until(lambda: len(it.session.transcript) == 2 and it.is_idle, "the reply")
            assert it.reply.model == "small"


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_a_fetch_can_be_stopped(hub: Hub, key: str) -> None:
    """In mid-download, while the hub is silent; what has come is kept and the model before stays."""
    hub.hold = threading.Event()
    async with window(options=tiny_options()) as it:
        await it.ready()
        await it.send(f"/model {NAME}")
        await asked(it)
        await it.press("enter")
        await it.until(lambda: hub.sent and it.chat.status.state == "fetching", "the fetch")
        await it.press(key)
        await it.until(lambda: "was stopped. What has come is kept" in it.notes, "the note")
        assert it.session.model is not None and it.session.model.name == "tiny"


async def test_the_list_takes_a_typed_name(hub: Hub) -> None:
    """The model list has what is here, what is worth fetching, and a line for any name."""
    async with window(options=tiny_options(), size=(100, 60)) as it:
        await it.ready()
        await it.press("f3")
        await it.until(lambda: "Open a model" in it.screen, "the list")
        assert "qwen3-0.6b" in it.screen and "Apache-2.0" in it.screen
        await it.press("tab")
        await it.type(NAME)
        await it.press("enter")
        await asked(it)
        await it.press("escape")


async def test_the_set_up_asks_too(hub: Hub) -> None:
    """A name of the hub is taken as it is typed; trying it tells its size first, and Enter again fetches it."""
    async with guide() as person:
        await person.choose_file(Path(NAME))
        assert "a model of the hub, to be fetched" in person.screen.query_one(ModelStep).found.text
        await person.go_to("Try it")
        trial = person.screen.query_one(TrialStep)
        trial.prompt.focus()
        await person.press("enter")
        await person.until(lambda: "Enter fetches it" in str(trial.status.render()), "the question")
        assert hub.sent == 0
        await person.press("enter")
        await person.until(lambda: "small works" in str(trial.status.render()), "the reply")
