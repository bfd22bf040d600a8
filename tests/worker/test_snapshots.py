"""What was read of a conversation is kept beside it: by whom, when, and when it goes."""

from __future__ import annotations

import os
import queue
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Turn
from llmchat.paths import snapshots_dir
from llmchat.session import ChatSession
from llmchat.worker import snapshots
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFinished,
    GenerationRequest,
    InspectRequest,
    LiveConfig,
    LoadRequest,
    ModelLoaded,
    NextToken,
    PromptProcessed,
    Request,
)
from tests.conftest import DATA
from tests.patience import PATIENCE_SECONDS

MODEL = DATA / "huggingface" / "llama"
QUESTION = "the queen and the king went to the sea and saw a ship"
SHORT = GenerationConfig(max_new_tokens=3, seed=1)


class Desk:
    """A worker with a model, asked for one thing at a time."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.worker = InferenceWorker(self._events.put)
        self.worker.start()

    def wait(self, request: Request, kind: type[Event]) -> Event:
        """Submit a request, and give the first event of a kind."""
        self.worker.submit(request)
        while not isinstance(event := self._events.get(timeout=PATIENCE_SECONDS), kind):
            pass
        return event

    def ask(self, transcript: Path | None, said: str = QUESTION) -> tuple[int, tuple[int, ...]]:
        """Answer a question; how much of its prompt was known, and the reply's ids."""
        request = GenerationRequest((Turn("user", said),), LiveConfig(SHORT), 1, transcript=transcript)
        processed = self.wait(request, PromptProcessed)
        assert isinstance(processed, PromptProcessed)
        while not isinstance(event := self._events.get(timeout=PATIENCE_SECONDS), GenerationFinished):
            pass
        return processed.cached_tokens, event.reply.token_ids


@contextmanager
def desk(model: Path = MODEL) -> Iterator[Desk]:
    """A worker that is closed at the end."""
    one = Desk()
    try:
        one.wait(LoadRequest(ModelSpec(str(model), threads=1)), ModelLoaded)
        yield one
    finally:
        one.worker.close(PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def small_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let short texts be worth something."""
    monkeypatch.setattr(snapshots, "_WORTH", 2)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A conversation's file."""
    path = tmp_path / "talk.toml"
    path.write_text("")
    return path


def files() -> list[Path]:
    """The snapshots on the disk."""
    return sorted(snapshots_dir().glob("*")) if snapshots_dir().exists() else []


def test_a_conversation_is_gone_on_with_by_the_next_process(talk: Path) -> None:
    """Its prompt is known at once, its reply is the same, and the file is its owner's alone."""
    with desk() as first:
        known, ids = first.ask(talk)
    assert known == 0
    (file,) = files()
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    with desk() as second:
        known, again = second.ask(talk)
    assert known > 10 and again == ids


def test_only_what_is_kept_in_a_file_is_kept() -> None:
    """A conversation without a transcript leaves nothing behind."""
    with desk() as one:
        one.ask(None)
    assert files() == []


def test_another_model_reads_for_itself(talk: Path, tmp_path: Path) -> None:
    """Also the same one, written anew under the same name."""
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    with desk(model) as one:
        one.ask(talk)
    os.utime(next(model.glob("*.safetensors")), (5, 5))
    with desk(model) as one:
        assert one.ask(talk)[0] == 0


def test_a_damaged_file_costs_nothing_but_time(talk: Path) -> None:
    """The reply is the same, and the file is whole again afterwards."""
    with desk() as one:
        _, ids = one.ask(talk)
    (file,) = files()
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with desk() as one:
        assert one.ask(talk) == (0, ids)
    assert file.read_bytes() == whole


def test_what_was_read_goes_with_its_transcript(talk: Path, tmp_path: Path) -> None:
    """When the next one is kept, those whose conversation was removed go, and what a killed program left."""
    with desk() as one:
        one.ask(talk)
    (old,) = files()
    left = snapshots_dir() / f".{old.name}.1.part"
    left.write_bytes(b"x")
    os.utime(left, (5, 5))
    talk.unlink()
    other = tmp_path / "other.toml"
    other.write_text("")
    with desk() as one:
        one.ask(other)
    assert len(files()) == 1 and old not in files() and not left.exists()


def test_what_was_dropped_for_good_is_not_kept_either(sandbox: Path) -> None:
    """A turn that /compact takes out of the transcript is in no KV cache on the disk."""
    with desk() as one:
        session = ChatSession(one.worker.submit, lambda error: pytest.fail(error.message))
        session.say(QUESTION)
        assert session.path is not None
        one.ask(session.path)
    assert len(files()) == 1
    session.delete(session.transcript.path()[0].id)
    session.compact()
    session.close()
    assert files() == []


def test_the_oldest_go_where_there_is_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All together never take more than their share; on a full disk nothing is kept."""
    talks = [tmp_path / f"{number}.toml" for number in range(3)]

    def keep(path: Path, free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda directory: SimpleNamespace(free=free))
        path.write_text("")
        with desk() as one:
            one.ask(path)

    keep(talks[0], 2**40)
    (first,) = files()
    os.utime(first, (5, 5))
    size = first.stat().st_size
    keep(talks[1], 10 * size)
    keep(talks[2], 10 * size)
    assert len(files()) == 2 and first not in files()
    keep(talks[0], 0)
    assert first not in files()


def test_a_look_into_another_text_is_not_taken_for_the_conversation(talk: Path) -> None:
    """What the file has is what was said in it."""
    with desk() as one:
        _, ids = one.ask(talk)
        (_, reply) = one.ask(talk)
        request = GenerationRequest((Turn("user", "a ship"),), LiveConfig(SHORT), 1)
        finished = one.wait(request, GenerationFinished)
        assert isinstance(finished, GenerationFinished)
        one.wait(InspectRequest((Turn("user", "a ship"),), finished.reply, 1, 3), NextToken)
    with desk() as one:
        assert one.ask(talk)[1] == ids == reply
