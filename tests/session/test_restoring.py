"""Opening a conversation brings back what it was held under."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Turn
from llmchat.errors import UsageError
from llmchat.session import ChatSession
from llmchat.session.restoring import last_model, other_model
from tests.chat.conversations import answer, kept, make_reply

HOT = GenerationConfig(temperature=1.4, top_k=7, stop=("END",), seed=5)


@pytest.fixture
def session() -> Iterator[ChatSession]:
    """A session at its defaults, without a model."""
    made = ChatSession(lambda request: None, lambda error: None, system="Of the settings.", prefill_text="Once")
    yield made
    made.close()


@pytest.fixture
def story(tmp_path: Path) -> Callable[..., Path]:
    """Makes the file of a conversation whose reply has these facts."""

    def make(system: str | None = None, first: str = "Be brief.", **changed: Any) -> Path:
        transcript = Transcript()
        if first:
            transcript.say("system", first)
        transcript.say("user", "hi")
        answer(transcript, **{"config": HOT, "changes": (), "system": system, "parts": (), "forced": (), **changed})
        return kept(transcript, tmp_path / "sea.toml")

    return make


def test_settings_system_prompt_and_prefill_come_back_and_are_told(
    session: ChatSession, story: Callable[..., Path], tmp_path: Path
) -> None:
    """Those of the last reply, a locked seed with them; a sentence says which are others than before."""
    assert session.open(story(prefill_text="The")) == []
    assert (session.config, session.system, session.prefill_text) == (HOT, "Be brief.", "The")
    assert session.last_seed == 8417
    for words in ("temperature 1.4", "top_k 7", "stop END", "seed 5", "system Be brief.", "prefill The"):
        assert words in session.brought_back.replace('"', "")
    session.new()
    assert session.open(tmp_path / "sea.toml") == [] and session.brought_back == ""


def test_sliders_count_as_they_were_left(session: ChatSession, story: Callable[..., Path]) -> None:
    """What moved during the last reply stays where it was moved to."""
    change = replace(make_reply().changes[0], values={"temperature": 0.2, "seed": None})
    session.open(story(changes=(change,)))
    assert session.config == HOT.changed(temperature=0.2, seed=None)


def test_what_was_asked_for_at_the_start_stays(session: ChatSession, story: Callable[..., Path]) -> None:
    """Flags go before the conversation; whoever gives a temperature wants it to have an effect."""
    session.config = session.config.changed(temperature=0.5, top_p=0.4)
    path = story(config=HOT.changed(do_sample=False), prefill_text="The")
    session.open(path, {"temperature", "system", "prefill"})
    assert session.config == HOT.changed(temperature=0.5)
    assert (session.system, session.prefill_text) == ("Of the settings.", "Once")


def test_lengths_that_contradict_each_other_are_those_of_the_start(
    session: ChatSession, story: Callable[..., Path]
) -> None:
    """A flag for the greatest length below the conversation's least."""
    session.config = session.config.changed(max_new_tokens=5)
    session.open(story(config=HOT.changed(min_new_tokens=100)), {"max_new_tokens"})
    assert (session.config.min_new_tokens, session.config.max_new_tokens) == (0, 5)
    assert session.config.temperature == 1.4


def test_the_system_prompt_of_the_last_reply_goes_before_the_first_one(
    session: ChatSession, story: Callable[..., Path], tmp_path: Path
) -> None:
    """Also where it had been taken off."""
    session.open(story(system="Be rude."))
    assert session.system == "Be rude."
    session.new()
    (tmp_path / "sea.toml").unlink()
    session.open(story(system=""))
    assert session.system == ""


def test_an_edited_reply_that_was_gone_on_with_is_no_prefill(session: ChatSession, tmp_path: Path) -> None:
    """Its beginning was written by a person, once."""
    transcript = Transcript()
    question = transcript.say("user", "hi")
    transcript.add(Turn("assistant", "My words", parent=question.id))
    reply = make_reply("My words and more", prefill_text="My words", parts=(), forced=())
    transcript.add(Turn("assistant", reply.text, parent=question.id, reply=reply))
    session.open(kept(transcript, tmp_path / "sea.toml"))
    assert session.prefill_text == ""


def test_a_conversation_without_a_reply_changes_nothing_but_the_system_prompt(
    session: ChatSession, tmp_path: Path
) -> None:
    """There is nothing to bring back."""
    transcript = Transcript()
    transcript.say("system", "Be brief.")
    transcript.say("user", "hi")
    session.open(kept(transcript, tmp_path / "sea.toml"))
    assert (session.config, session.system, session.brought_back) == (GenerationConfig(), "Be brief.", "")


def test_a_model_that_is_gone_is_not_offered(session: ChatSession, story: Callable[..., Path]) -> None:
    """Asking for it says where it was; without a model there is nothing to compare."""
    session.open(story(first=""))
    assert other_model(session) == ""
    with pytest.raises(UsageError, match=r"SmolLM2 is no longer at /models/smol\.gguf"):
        last_model(session)
    session.new()
    with pytest.raises(UsageError, match="No reply here"):
        last_model(session)


def test_what_was_changed_after_the_last_reply_comes_back_too(
    session: ChatSession, story: Callable[..., Path], tmp_path: Path
) -> None:
    """Settings, system prompt, prefill and raw prompts, as they were when the conversation was closed; once kept."""
    path = story()
    session.open(path)
    before = path.read_bytes()
    session.new()
    assert path.read_bytes() == before
    session.open(path)
    session.config = HOT.changed(temperature=0.3)
    session.system, session.prefill_text, session.raw = "Be long.", "Well", True
    session.new()
    assert path.read_bytes().startswith(before)
    changed = path.read_bytes()
    session.config, session.system, session.prefill_text, session.raw = GenerationConfig(), "", "", False
    assert session.open(path) == []
    assert (session.config.temperature, session.system, session.prefill_text) == (0.3, "Be long.", "Well")
    assert session.raw
    session.close()
    assert path.read_bytes() == changed


def test_a_reply_says_more_than_what_was_in_force_before_it(session: ChatSession, story: Callable[..., Path]) -> None:
    """What was noted when the conversation was closed holds until the next reply."""
    path = story()
    session.open(path)
    session.config = HOT.changed(temperature=0.3)
    session.new()
    session.open(path)
    answer(session.transcript, config=HOT, changes=(), parts=(), forced=(), system=None)
    session.config = HOT
    session.new()
    session.open(path)
    assert session.config == HOT
