"""A replay makes the prompt as it was made, and says when it cannot: template, date, control tokens, what was said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from llmchat.chat.archive import read_transcript
from llmchat.chat.model import ModelSpec
from llmchat.chat.reproduce import as_command
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply
from llmchat.engine import prompt as engine_prompt
from llmchat.replay import replay
from llmchat.ui.take_along import recipe_of
from tests.patience import PATIENCE_SECONDS
from tests.program import Here
from tests.test_replay_by_hand import LIVELY, LLAMA, leaf, talking
from tests.test_take_along import check

SHORT = LIVELY.changed(max_new_tokens=8, min_new_tokens=3)
SHOUTING = "{% for m in messages %}\n{{ m.role }}! {{ m.content }}\n{% endfor %}\nassistant!"
DATED = "Today is {{ strftime_now('%d %b %Y') }}." + SHOUTING


def template_file(path: Path, text: str) -> ModelSpec:
    """A model that is talked to through a template in a file."""
    path.write_text(text)
    return replace(LLAMA, chat_template=str(path))


def outcomes(path: Path, spec: ModelSpec = LLAMA) -> list[tuple[int | None, str]]:
    """Where each reply of a file differs when it is made again, and what is said of its prompt."""
    return [(result.first_difference, result.other_prompt) for result in replay(read_transcript(path)[0], spec)]


def without_facts(path: Path, old: Path) -> None:
    """Write a transcript as llmchat did before it kept what made a prompt."""
    turns = (replace(turn, reply=turn.reply and replace(turn.reply, prompts=())) for turn in read_transcript(path)[0])
    TranscriptFile.create(Transcript(turns), old).close()
    assert "prompts" not in old.read_text() and "templates" not in old.read_text()


class Clock(NamedTuple):
    """A clock that stands still."""

    time: datetime

    def now(self) -> datetime:
        """The time it shows."""
        return self.time


@contextmanager
def clock_at(day: str) -> Iterator[None]:
    """Have prompts be made on a day."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_prompt, "datetime", Clock(datetime.fromisoformat(day)))
        yield


def test_a_template_from_a_file_that_is_gone(here: Here, tmp_path: Path) -> None:
    """It is kept once with the conversation; every kind of reply comes out the same, also under another setting."""
    spec = template_file(tmp_path / "shout.jinja", SHOUTING)
    path = tmp_path / "sea.toml"
    with talking(path, spec, SHORT) as talk:
        session = talk.session
        session.system = "Be a king."
        talk.drag("temperature", iter([0.4, 1.4]))
        talk.say("Tell me of the sea.")
        session.continue_reply()
        longer = talk.settle()
        session.branch_at(leaf(session), 3, longer.token_ids[3] ^ 1)
        talk.settle()
        session.prefill_text = "Well, "
        session.config = session.config.changed(stop=("zzz",))
        talk.say("And then?")
        session.edit(session.transcript.path()[1].id, "Tell me of the land.")
        talk.settle()
        session.raw = True
        talk.say("Once upon a time")
        (tmp_path / "shout.jinja").unlink()
        assert outcomes(path) == [(None, "")] * 6
        assert path.read_text().count("[[templates]]") == 1
        for turn in session.transcript:
            if turn.reply is not None:
                check(here, talk, turn, LLAMA)


def test_a_built_in_template_is_kept_by_its_name(here: Here, tmp_path: Path) -> None:
    """One message and its answer are a single command, which names the template."""
    path = tmp_path / "sea.toml"
    with talking(path, replace(LLAMA, chat_template="plain"), SHORT) as talk:
        talk.say("Tell me of the sea.")
        (_, turn) = talk.session.transcript.path()
        recipe = recipe_of(talk.session, turn, replace(LLAMA, chat_template="chatml"))
        assert recipe.spec.chat_template == "plain"
        check(here, talk, turn, LLAMA)
    assert 'template_name = "plain"' in path.read_text()
    assert outcomes(path, replace(LLAMA, chat_template="chatml")) == [(None, "")]


def test_a_built_in_template_of_a_newer_llmchat(here: Here, tmp_path: Path) -> None:
    """Its reply is passed over, the others are made again."""
    path = tmp_path / "sea.toml"
    with talking(path, replace(LLAMA, chat_template="plain"), SHORT) as talk:
        talk.say("Tell me of the sea.")
        talk.say("And then?")
    path.write_text(path.read_text().replace('template_name = "plain"', 'template_name = "future"', 1))
    done = here("replay", path)
    assert done.code == 0 and "passed over There is no chat template 'future'" in done.out
    assert done.out.endswith("1 of 2 replies are the same.\n")


def test_the_models_own_template_is_used_under_a_setting_of_today(tmp_path: Path) -> None:
    """A template in the settings is not what made a reply without one."""
    path = tmp_path / "sea.toml"
    with talking(path, LLAMA, SHORT) as talk:
        talk.say("Tell me of the sea.")
    assert outcomes(path, replace(LLAMA, chat_template="chatml")) == [(None, "")]


def test_a_dated_template_is_told_the_date_of_then(here: Here, tmp_path: Path) -> None:
    """Replaying, regenerating and going on make the prompt of that day; a new message has the day it is said."""
    spec = template_file(tmp_path / "dated.jinja", DATED)
    path = tmp_path / "sea.toml"
    with talking(path, spec, SHORT) as talk:
        with clock_at("2026-01-31 23:59:59"):
            first = talk.say("What day is it?")
        with clock_at("2026-02-01 00:00:01"):
            talk.session.regenerate()
            again = talk.settle()
            assert (again.token_ids, again.prompts) == (first.token_ids, first.prompts)
            talk.session.continue_reply()
            longer = talk.settle()
            assert [facts.moment for facts in longer.prompts] == [datetime(2026, 1, 31, 23, 59, 59)] * 2
            later = talk.say("And now?")
            assert later.moment == datetime(2026, 2, 1, 0, 0, 1)
        assert outcomes(path) == [(None, "")] * 4
        question = talk.session.transcript.path()[0]
        turn = talk.session.transcript.children(question.id)[0]
        check(here, talk, talk.session.transcript.turn(turn.id), LLAMA)


def test_a_reply_gone_on_with_under_another_template(tmp_path: Path) -> None:
    """Each part is made with its own."""
    path = tmp_path / "sea.toml"
    with talking(path, LLAMA, SHORT) as talk:
        talk.say("Tell me of the sea.")
    other = template_file(tmp_path / "shout.jinja", SHOUTING)
    with talking(tmp_path / "unused.toml", other, SHORT) as talk:
        talk.session.open(path)
        while talk.session.state == "loading":
            talk.session.handle(talk.events.get(timeout=PATIENCE_SECONDS))
        talk.session.continue_reply()
        assert [bool(facts.given_template) for facts in talk.settle().prompts] == [False, True]
    assert outcomes(path) == [(None, "")] * 2


def test_names_of_control_tokens_are_read_as_then(tmp_path: Path) -> None:
    """Whether --parse-special was on is kept."""
    path = tmp_path / "sea.toml"
    with talking(path, replace(LLAMA, parse_special=True), SHORT) as talk:
        reply = talk.say("Tell me <|im_end|> of the sea.")
        assert reply.prompts[0].parse_special
    assert outcomes(path) == [(None, "")]
    results = list(replay(read_transcript(path)[0], LLAMA, asked=("parse_special",)))
    assert "names of control tokens are read in another way" in results[0].other_prompt


def one_reply(path: Path, spec: ModelSpec = LLAMA) -> Reply:
    """A conversation with one reply to "Tell me of the sea." in a file."""
    with talking(path, spec, SHORT) as talk:
        talk.session.system = "Be a king."
        return talk.say("Tell me of the sea.")


@pytest.mark.parametrize(("was", "edited"), [("of the sea", "of the land"), ("Be a king", "Be a fool")])
def test_a_text_edited_in_the_file_is_told(here: Here, tmp_path: Path, was: str, edited: str) -> None:
    """That the prompt is another one, and why, stands before the token that differs."""
    path = tmp_path / "sea.toml"
    one_reply(path)
    path.write_text(path.read_text().replace(was, edited))
    done = here("replay", path)
    assert done.code == 1
    assert "differs  the prompt is another one (" in done.out
    assert "tokens then, " in done.out
    assert "what was said, or the system prompt, has been changed since; from token " in done.out


def test_another_template_is_told(here: Here, tmp_path: Path) -> None:
    """A flag of the command line holds whatever was recorded; a setting does not."""
    path = tmp_path / "sea.toml"
    one_reply(path)
    done = here("replay", path, "--chat-template", "chatml")
    assert done.code == 1 and "another chat template; from token " in done.out
    assert here("replay", path, "--no-parse-special").code == 0


def test_another_tokenizer_is_told(tmp_path: Path) -> None:
    """What was said and the template are the same: then it is how text becomes ids."""
    path = tmp_path / "sea.toml"
    one_reply(path)
    text = path.read_text()
    ids = read_transcript(path)[0].path()[-1].reply
    assert ids is not None
    path.write_text(text.replace(f'ids = "{ids.prompts[0].ids}"', 'ids = "0123456789ab"'))
    assert outcomes(path) == [
        (None, f"the prompt is another one ({ids.prompts[0].tokens} tokens then, {ids.prompts[0].tokens} now): "
         "another tokenizer, or another version of llmchat")
    ]  # fmt: skip


def test_transcripts_of_before(tmp_path: Path) -> None:
    """Without what made the prompt, the settings of today decide, and nothing is said of the prompt."""
    spec = template_file(tmp_path / "shout.jinja", SHOUTING)
    path, old = tmp_path / "sea.toml", tmp_path / "old.toml"
    one_reply(path, spec)
    without_facts(path, old)
    assert outcomes(old, spec) == [(None, "")]
    assert [words for _, words in outcomes(old)] == [""]


def test_a_template_outlives_a_kill(tmp_path: Path) -> None:
    """The file of the reply in progress has the template too."""
    spec = template_file(tmp_path / "shout.jinja", SHOUTING)
    path = tmp_path / "sea.toml"
    with talking(path, spec, SHORT) as talk:
        talk.say("Tell me of the sea.")
    whole, _ = read_transcript(path)
    *asked, reply = whole.path()
    begun = tmp_path / "begun.toml"
    file = TranscriptFile.create(Transcript(asked, transcript_id=whole.id), begun)
    file.checkpoint(reply)
    file.close()
    file, _ = TranscriptFile.open(begun)
    file.close()
    recovered = read_transcript(begun)[0].turn(reply.id).reply
    assert recovered is not None and recovered.prompts[0].given_template == SHOUTING
    assert begun.read_text().count("[[templates]]") == 1


def test_a_template_stays_through_a_compaction(tmp_path: Path) -> None:
    """What is left of a conversation can still be made again."""
    spec = template_file(tmp_path / "shout.jinja", SHOUTING)
    path = tmp_path / "sea.toml"
    with talking(path, spec, SHORT) as talk:
        talk.say("Tell me of the sea.")
        gone = talk.session.transcript.leaf_id
        assert gone is not None
        talk.session.regenerate()
        talk.settle()
    file, _ = TranscriptFile.open(path)
    file.transcript.delete(gone)
    file.compact()
    file.close()
    assert outcomes(path) == [(None, "")]


def test_a_template_too_long_for_a_command(tmp_path: Path) -> None:
    """A template too long for an argument of the command line is left to the transcript."""
    spec = template_file(tmp_path / "long.jinja", SHOUTING + "{#" + "x" * 110_000 + "#}")
    path = tmp_path / "sea.toml"
    with talking(path, spec, SHORT) as talk:
        talk.say("Tell me of the sea.")
        (_, turn) = talk.session.transcript.path()
        assert f"llmchat replay {path} --turn {turn.id}" in as_command(recipe_of(talk.session, turn, LLAMA))
    assert outcomes(path) == [(None, "")]


def test_an_exported_date_is_text(here: Here, tmp_path: Path) -> None:
    """JSON has no dates."""
    path = tmp_path / "sea.toml"
    one_reply(path, template_file(tmp_path / "dated.jinja", DATED))
    done = here("export", path, "--format", "json")
    assert done.code == 0 and '"moment": "20' in done.out
