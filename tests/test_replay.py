"""`llmchat replay` makes every reply again and names the first token that differs."""

from __future__ import annotations

import queue
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from llmchat.chat.archive import read_transcript
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec, recorded_tokenizer
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, SettingsChange
from llmchat.replay import Schedule, replay
from llmchat.session import ChatSession
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import Event
from tests.checkpoints.runs import save_checkpoint
from tests.conftest import DATA
from tests.patience import PATIENCE_SECONDS
from tests.program import Here

TINY = ModelSpec("tiny")


def talk(path: Path, spec: ModelSpec, script: Callable[[ChatSession, Callable[[], None]], None]) -> None:
    """Hold a conversation that is kept in a file.

    Args:
        path: The new transcript.
        spec: The model.
        script: Given the session and a function that lets it come to rest.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    worker = InferenceWorker(events.put)
    session = ChatSession(
        worker.submit,
        lambda error: pytest.fail(error.message),
        config=GenerationConfig(max_new_tokens=12),
        autosave=False,
    )
    session.save(path)

    def settle() -> None:
        while session.state in ("loading", "generating", "stopping"):
            session.handle(events.get(timeout=PATIENCE_SECONDS))

    worker.start()
    session.load_model(spec)
    settle()
    script(session, settle)
    session.close()
    worker.close()


def everything(session: ChatSession, settle: Callable[[], None]) -> None:
    """Replies of every kind: moved sliders, alternatives, a reply gone on with, an edit, a prefill."""
    session.send("Once upon a time")
    assert session.running is not None
    session.config = session.config.changed(temperature=1.7, top_k=3)
    settle()
    session.regenerate(times=2)
    settle()
    session.config = session.config.changed(repetition_penalty=1.4, stop=("the",), min_new_tokens=4)
    session.send("and then")
    settle()
    session.config = session.config.changed(stop=())
    session.continue_reply()
    settle()
    session.prefill_text = "The queen"
    first = session.transcript.path()[0]
    session.edit(first.id, "There was once")
    settle()


def test_a_conversation_comes_out_the_same(here: Here, tmp_path: Path) -> None:
    """Every reply of every branch is drawn again from its settings, seed and changes."""
    path = tmp_path / "story.toml"
    talk(path, TINY, everything)
    before = path.read_bytes()
    done = here("replay", path)
    assert (done.code, done.err) == (0, ""), done.out
    *lines, total = done.out.splitlines()
    assert total == "6 of 6 replies are the same."
    assert all(re.fullmatch(r"[0-9a-f]{12}  same     \d+ tokens?", line) for line in lines)
    assert path.read_bytes() == before


def test_what_was_dropped_from_the_prompt_is_dropped_again(tmp_path: Path) -> None:
    """Where the oldest turns did not fit, the prompt of the replay is cut at the same place."""
    path = tmp_path / "long.toml"

    def script(session: ChatSession, settle: Callable[[], None]) -> None:
        session.config = session.config.changed(min_new_tokens=1)
        for _ in range(8):
            session.send("tell me more about the sea and the ships that sail on it")
            settle()
            session.config = session.config.changed(max_new_tokens=40)
        assert session.dropped_turns

    spec = ModelSpec(str(DATA / "huggingface" / "llama"))
    talk(path, spec, script)
    results = list(replay(read_transcript(path)[0], spec))
    assert len(results) == 8
    assert {result.first_difference for result in results} == {None}


def test_sliders_move_where_they_did(tmp_path: Path) -> None:
    """A change recorded at a token acts from exactly that token, whatever the machine's speed."""
    reply = Reply(
        "", tuple(range(6)), "cancelled", "", GenerationConfig(temperature=0.5, max_new_tokens=99), 1,
        changes=(SettingsChange(2, 0, {"temperature": 1.5}), SettingsChange(4, 0, {"min_new_tokens": 50, "top_k": 1})),
    )  # fmt: skip
    schedule = Schedule(reply)
    seen = [schedule(index) for index in range(7)]
    assert [config.temperature for config in seen] == [0.5] * 2 + [1.5] * 5
    assert [config.top_k for config in seen] == [50] * 4 + [1] * 3
    assert seen[0].max_new_tokens == 99
    assert min(config.max_new_tokens for config in seen[1:]) > 6
    assert {config.stop for config in seen} == {()}


def test_mirostat_goes_on_where_a_reply_was_gone_on_with(tmp_path: Path) -> None:
    """The limit that the earlier tokens left is taken up by a continuation, a branch, and the replay of both."""

    def script(session: ChatSession, settle: Callable[[], None]) -> None:
        session.config = session.config.changed(mirostat_tau=2.0, mirostat_eta=0.9, seed=5)
        session.send("alice was")
        settle()
        session.continue_reply()
        settle()
        turn = session.transcript.path()[-1]
        assert turn.reply is not None and turn.reply.parts
        other = next(token for token in range(400, 500) if token != turn.reply.token_ids[6])
        session.branch_at(turn.id, 6, other)
        settle()

    path = tmp_path / "mirostat.toml"
    talk(path, TINY, script)
    results = list(replay(read_transcript(path)[0], TINY))
    assert len(results) >= 2
    assert [result.first_difference for result in results] == [None] * len(results)


def test_a_schedule_ends_behind_its_last_token() -> None:
    """What ended the reply may have been a person: the settings of then never end it early, its length does."""
    reply = Reply("", tuple(range(6)), "cancelled", "", GenerationConfig(max_new_tokens=2), 1)
    for schedule, last in ((Schedule(reply), 5), (Schedule(reply, 2, 4), 3)):
        for index in range(last + 1):
            schedule(index)
        assert not schedule.done.is_set()
        schedule(last + 1)
        assert schedule.done.is_set()


def test_a_tampered_transcript_is_found_out(here: Here, tmp_path: Path) -> None:
    """The first token that differs is named, with what it was and is; the exit code is 1."""
    path = tmp_path / "story.toml"
    assert here.tiny("-p", "Once", "-n", "6", "--seed", "4", "--num-samples", "2", "--save", path).code == 0
    first = next(turn.reply for turn in read_transcript(path)[0] if turn.reply is not None)
    ids = list(first.token_ids)
    forged = [*ids[:3], ids[3] + 1, *ids[4:]]
    text = path.read_text().replace(" ".join(map(str, ids)), " ".join(map(str, forged)))
    path.write_text(text)
    done = here("replay", path)
    assert (done.code, done.err) == (1, "")
    one, other, total = done.out.splitlines()
    assert one.endswith(f"  differs  from token 3 of 6: {ids[3] + 1} then, {ids[3]} now")
    assert other.endswith("  same     6 tokens")
    assert total == "1 of 2 replies are the same."


def test_each_reply_is_made_by_its_own_model(here: Here, tmp_path: Path) -> None:
    """Replies of several checkpoints stand side by side; one model can be made to try them all."""
    path = tmp_path / "story.toml"
    assert here.tiny("-p", "Once", "-n", "8", "--save", path).code == 0
    other = save_checkpoint(tmp_path / "runs" / "step_100.pt", step=100, shake=0.6)
    assert here("--once", "--model", other, "-p", "and", "-n", "8", "--resume", path).code == 0
    done = here("replay", path)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("2 of 2 replies are the same.\n")
    done = here("replay", path, "--model", other)
    assert done.code == 1 and done.out.endswith("1 of 2 replies are the same.\n")
    other.unlink()
    done = here("replay", path)
    assert done.code == 0 and "passed over" in done.out
    assert done.out.endswith("1 of 2 replies are the same.\n")


def test_old_replies_of_another_model_are_passed_over(here: Here, tmp_path: Path, tiny_dir: Path) -> None:
    """Where a transcript does not say which file made a reply, its model's name decides."""
    path = tmp_path / "story.toml"
    assert here.tiny("-p", "Once", "-n", "8", "--save", path).code == 0
    other = ("--model", tiny_dir / "model" / "model.pt")
    assert here("--once", *other, "-p", "and", "-n", "4", "--resume", path).code == 0
    header, *turns = path.read_text().split("[[turns]]")
    path.write_text("[[turns]]".join([header, *(re.sub(r"(?m)^\w+_path = .*\n", "", turn) for turn in turns)]))
    done = here("replay", path)
    assert done.code == 0
    assert "  passed over made by model; give it with --model" in done.out
    assert done.out.endswith("1 of 2 replies are the same.\n")
    assert "passed over" not in here("replay", path, *other, "--threads", "1").out


def test_one_reply_alone_is_shown(here: Here, tmp_path: Path) -> None:
    """--turn makes one reply again and prints its text; what is no reply is refused."""
    path = tmp_path / "story.toml"
    assert here.tiny("-p", "Once", "-n", "6", "--num-samples", "3", "--save", path).code == 0
    question, _, turn, _ = read_transcript(path)[0]
    done = here("replay", path, "--turn", turn.id)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{turn.text}\n\n{turn.id}  same     6 tokens\n1 of 1 replies are the same.\n"
    assert "is no reply that a model drew" in here("replay", path, "--turn", question.id).err
    assert "has no turn 'gone'" in here("replay", path, "--turn", "gone").err


def test_a_tokenizer_inside_the_model_is_not_asked_for(tmp_path: Path) -> None:
    """A GGUF file is its own tokenizer: naming it as one would fail."""
    assert recorded_tokenizer("/m/x.gguf", "/m/x.gguf") is None
    assert recorded_tokenizer("/m/x.pt", str(tmp_path / "gone")) is None
    assert recorded_tokenizer("/m/x.pt", str(tmp_path)) == str(tmp_path)


def test_a_model_that_is_gone_is_asked_for(here: Here, tmp_path: Path) -> None:
    """Nothing is fetched in its place; the error names the path and the flag."""
    path = tmp_path / "story.toml"
    assert here.tiny("-p", "Once", "-n", "8", "--save", path).code == 0
    with TranscriptFile.open(path)[0] as file:
        file.transcript.model_path = "/gone/model.pt"
        file.keep()
    done = here("replay", path)
    assert (done.code, done.out) == (1, "")
    assert "no longer at /gone/model.pt. Say where it is with --model." in done.err
    assert here("--model", "tiny", "replay", path).code == 0


def test_an_empty_conversation(here: Here, tmp_path: Path) -> None:
    """A conversation without a reply has nothing that could differ."""
    path = tmp_path / "empty.toml"
    with TranscriptFile.create(Transcript(), path):
        pass
    assert here("--model", "tiny", "replay", path).out == "0 of 0 replies are the same.\n"
