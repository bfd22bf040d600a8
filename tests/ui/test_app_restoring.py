"""An opened conversation goes on as it was left, and its model is offered, never taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.transcript import Transcript
from tests.chat.conversations import answer, kept
from tests.fakes import ScriptedEngine
from tests.ui.helpers import options_of, window

HOT = GenerationConfig(temperature=1.4, top_k=7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A conversation with another model, under settings of its own."""
    model = tmp_path / "other.gguf"
    model.write_bytes(b"")
    transcript = Transcript()
    transcript.say("user", "hi")
    answer(transcript, config=HOT, changes=(), system=None, prefill_text="The", model_path=str(model), parts=())
    return kept(transcript, tmp_path / "sea.toml")


async def test_settings_come_back_and_the_model_is_offered(path: Path) -> None:
    """By /load as at a start; one command opens the model of the last reply."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.send(f"/load {path}")
        assert it.session.config == HOT and it.session.prefill_text == "The"
        assert it.chat.panel.config == HOT
        assert "temperature 1.4" in it.notes and "prefill The" in it.notes.replace('"', "")
        assert "The last reply is by SmolLM2; Scripted is open. /model last opens SmolLM2." in it.notes
        await it.send("/model last")
        assert it.chat.spec.model == str(path.with_name("other.gguf"))
    options = replace(options_of(), resume=path, given=frozenset({"temperature"}))
    async with window(ScriptedEngine(), options=options) as it:
        await it.until(lambda: "/model last opens SmolLM2" in it.notes)
        assert it.session.config == HOT.changed(temperature=options.config.temperature, do_sample=False)
        assert "top_k 7" in it.toasts
        assert it.chat.spec.model == ""


async def test_no_model_to_go_back_to(path: Path) -> None:
    """Said in words, and nothing is opened."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.send("/model last")
        await it.until(lambda: "No reply here says by which model" in it.toasts)
        path.with_name("other.gguf").unlink()
        await it.send(f"/load {path}")
        assert "The last reply is by SmolLM2; Scripted is open." in it.notes and "/model last" not in it.notes
