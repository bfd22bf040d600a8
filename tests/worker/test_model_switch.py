"""Another model in the place of the one that is open: nothing is lost where it does not open."""

from __future__ import annotations

import gc
import queue
import random
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Progress
from llmchat.engine.footprint import Footprint
from llmchat.engine.opened import PreparedModel
from llmchat.errors import MemoryShortError, ModelLoadError
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFinished,
    LoadRequest,
    ModelLoaded,
    ModelLoadFailed,
    ModelLoading,
    ModelPrepared,
    Request,
    TokensGenerated,
)
from tests.fakes import ScriptedEngine
from tests.patience import PATIENCE_SECONDS
from tests.worker.test_inference_worker import TERMINAL, ask

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system must tell what memory there is")


class Shelf:
    """A worker that opens what is on a shelf: engines, by name; a name that begins with a fault has it."""

    def __init__(self, gates: Mapping[str, threading.Semaphore] | None = None) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.built: list[str] = []
        self.open: list[weakref.ref[ScriptedEngine]] = []
        """The engines that were there when a model was built."""
        self._engines: list[weakref.ref[ScriptedEngine]] = []
        self._gates = gates or {}
        self.worker = InferenceWorker(self.events.put, self._prepare)
        self.worker.start()

    def _prepare(self, request: LoadRequest, progress: Progress) -> PreparedModel:
        name = request.spec.model
        if name.startswith("no "):
            raise ModelLoadError(f"There is {name}.")
        weights = {"huge": 2**60, "small": 2**20}.get(name)
        footprint = None if weights is None else Footprint(weights, cache=0, reading=0, host=0)
        return PreparedModel(name, lambda: self._build(name, progress), footprint)

    def _build(self, name: str, progress: Progress) -> ScriptedEngine:
        self.built.append(name)
        self.open = [it for it in self._engines if it() is not None]
        progress("reading weights", 0.5)
        if (gate := self._gates.get(name)) is not None:
            assert gate.acquire(timeout=PATIENCE_SECONDS)
            progress("reading weights", 1.0)
        if name.startswith("damaged"):
            raise MemoryError
        engine = ScriptedEngine(name, gate=self._gates.get(f"reply of {name}"))
        engine.info = replace(engine.info, name=name, path=name)
        self._engines.append(weakref.ref(engine))
        return engine

    def load(self, name: str) -> LoadRequest:
        """Ask for a model."""
        request = LoadRequest(ModelSpec(name))
        self.worker.submit(request)
        return request

    def until_end(self, request: Request) -> list[Event]:
        """All events up to the terminal one of a request."""
        seen: list[Event] = []
        while not seen or seen[-1].request_id != request.request_id or not isinstance(seen[-1], TERMINAL):
            seen.append(self.events.get(timeout=PATIENCE_SECONDS))
        return seen

    def end_of(self, request: Request) -> Event:
        """The terminal event of a request."""
        return self.until_end(request)[-1]

    def reply(self) -> str:
        """What the open model says."""
        request = ask()
        self.worker.submit(request)
        finished = self.end_of(request)
        assert isinstance(finished, GenerationFinished), finished
        return finished.reply.text


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """One without gates."""
    one = Shelf()
    yield one
    one.worker.close(10)


def test_a_model_that_does_not_open_is_refused_while_the_reply_goes_on() -> None:
    """The refusal comes in mid-reply; not a token is lost, and the model stays."""
    gate = threading.Semaphore(2)
    one = Shelf({"reply of old": gate})
    assert isinstance(one.end_of(one.load("old")), ModelLoaded)
    reply = ask()
    one.worker.submit(reply)
    while not isinstance(one.events.get(timeout=PATIENCE_SECONDS), TokensGenerated):
        pass
    refused = one.load("no such model")
    assert one.worker._slot._expected[refused.request_id].is_known.wait(PATIENCE_SECONDS)
    gate.release(100)
    events = one.until_end(reply)
    one.worker.close(10)
    (failed,) = [event for event in events if isinstance(event, ModelLoadFailed)]
    assert failed.request_id == refused.request_id and failed.info is not None
    assert failed.words == "There is no such model. old stays open."
    finished = events[-1]
    assert isinstance(finished, GenerationFinished)
    assert (finished.reply.text, finished.reply.finish_reason) == ("old", "stop")
    assert one.events.empty()


def test_a_model_is_looked_at_during_a_reply_and_opened_after_it() -> None:
    """That it opens is known at once; its weights are read when the reply is whole."""
    gate = threading.Semaphore(2)
    one = Shelf({"reply of old": gate})
    one.end_of(one.load("old"))
    reply = ask()
    one.worker.submit(reply)
    load = one.load("new")
    while not isinstance(event := one.events.get(timeout=PATIENCE_SECONDS), ModelPrepared):
        pass
    assert event.request_id == load.request_id and one.built == ["old"]
    gate.release(100)
    finished = one.end_of(reply)
    assert isinstance(finished, GenerationFinished) and finished.reply.text == "old"
    assert isinstance(one.end_of(load), ModelLoaded) and one.reply() == "new"
    one.worker.close(10)


def test_after_weights_that_cannot_be_read_the_old_model_is_opened_again(shelf: Shelf) -> None:
    """It was let go for the new one, it answers as before, and what was half built is gone."""
    shelf.end_of(shelf.load("old"))
    failed = shelf.end_of(shelf.load("damaged"))
    assert isinstance(failed, ModelLoadFailed) and failed.info is not None
    assert "not enough memory" in failed.words and failed.words.endswith("stays open.")
    assert shelf.built == ["old", "damaged", "old"]
    assert shelf.reply() == "old"


def test_where_the_old_model_cannot_come_back_both_reasons_are_said(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file may have been deleted since; then no model is open."""
    shelf.end_of(shelf.load("old"))
    usual = shelf._build

    def deleted(name: str, progress: Progress) -> ScriptedEngine:
        if name == "old":
            raise ModelLoadError("It was deleted.")
        return usual(name, progress)

    monkeypatch.setattr(shelf, "_build", deleted)
    failed = shelf.end_of(shelf.load("damaged"))
    assert isinstance(failed, ModelLoadFailed) and failed.info is None
    assert "not enough memory" in failed.words
    assert failed.words.endswith("The model before could not be opened again: It was deleted.")
    assert isinstance(shelf.end_of(shelf.load("new")), ModelLoaded)


def test_reading_weights_can_be_stopped() -> None:
    """At the next tensor; the model before comes back."""
    gate = threading.Semaphore(0)
    one = Shelf({"large": gate})
    one.end_of(one.load("old"))
    load = one.load("large")
    while not (isinstance(event := one.events.get(timeout=PATIENCE_SECONDS), ModelLoading) and event.fraction == 0.5):
        pass
    load.cancel.set()
    gate.release()
    failed = one.end_of(load)
    assert isinstance(failed, ModelLoadFailed) and "was stopped" in failed.words and failed.info is not None
    assert one.reply() == "old"
    one.worker.close(10)


@pytest.mark.parametrize("second", ["new", "no such model", "damaged too"])
def test_a_load_given_up_for_another_does_not_bring_the_old_model_back_in_between(second: str) -> None:
    """Only where the second fails as well does the first model come back, once."""
    gate = threading.Semaphore(0)
    one = Shelf({"large": gate})
    one.end_of(one.load("old"))
    first = one.load("large")
    while not (isinstance(event := one.events.get(timeout=PATIENCE_SECONDS), ModelLoading) and event.fraction == 0.5):
        pass
    first.cancel.set()
    follows = one.load(second)
    gate.release()
    assert isinstance(one.end_of(first), ModelLoadFailed)
    ended = one.end_of(follows)
    tried = [] if second.startswith("no ") else [second]
    if second == "new":
        assert isinstance(ended, ModelLoaded) and one.reply() == "new"
        assert one.built == ["old", "large", *tried]
    else:
        assert isinstance(ended, ModelLoadFailed) and ended.info is not None and one.reply() == "old"
        assert one.built == ["old", "large", *tried, "old"]
    one.worker.close(10)


def test_what_was_let_go_is_let_go(shelf: Shelf) -> None:
    """No reply, error or closure keeps the old model's memory while the new one is built."""
    shelf.end_of(shelf.load("old"))
    shelf.reply()
    shelf.end_of(shelf.load("damaged"))
    shelf.reply()
    shelf.end_of(shelf.load("new"))
    gc.collect()
    assert shelf.open == []


@linux
def test_a_model_that_fits_beside_the_old_one_is_opened_first(shelf: Shelf) -> None:
    """The old one is there until the new one is ready, and not a moment longer."""
    shelf.end_of(shelf.load("old"))
    assert isinstance(shelf.end_of(shelf.load("small")), ModelLoaded)
    assert len(shelf.open) == 1
    shelf.end_of(shelf.load("new"))
    assert shelf.open == [] and shelf.reply() == "new"


@linux
def test_a_model_too_large_for_the_memory_is_refused_unless_it_is_wanted_all_the_same(shelf: Shelf) -> None:
    """Nothing of it is read; the old model is not even let go."""
    shelf.end_of(shelf.load("old"))
    failed = shelf.end_of(shelf.load("huge"))
    assert isinstance(failed, ModelLoadFailed) and isinstance(failed.error, MemoryShortError)
    assert failed.info is not None and shelf.built == ["old"] and shelf.reply() == "old"
    for request in (
        LoadRequest(ModelSpec("huge"), ignores_memory=True),
        LoadRequest(ModelSpec("huge", ignore_memory=True)),
    ):
        shelf.worker.submit(request)
        assert isinstance(shelf.end_of(request), ModelLoaded)


def test_closing_while_a_model_is_opened_answers_it_once() -> None:
    """And does not open the one before again, for nobody waits for it."""
    gate = threading.Semaphore(0)
    one = Shelf({"large": gate})
    one.end_of(one.load("old"))
    requests: list[Request] = [one.load("large"), ask(), one.load("new")]
    one.worker.submit(requests[1])
    while not (isinstance(event := one.events.get(timeout=PATIENCE_SECONDS), ModelLoading) and event.fraction == 0.5):
        pass
    threading.Timer(0.05, gate.release).start()
    one.worker.close(10)
    ended = []
    while not one.events.empty():
        if isinstance(event := one.events.get(), TERMINAL):
            ended.append(event.request_id)
    assert sorted(ended) == sorted(request.request_id for request in requests)
    assert one.built == ["old", "large"]


@pytest.mark.stress
def test_switching_at_any_moment_gives_one_terminal_event_each(shelf: Shelf) -> None:
    """Replies, loads that open, loads that do not, and all of them given up at random."""
    dice, requests = random.Random(8), []
    for _ in range(400):
        name = dice.choice(["old", "new", "no such model", "damaged"])
        request: Request = ask() if dice.random() < 0.4 else LoadRequest(ModelSpec(name))
        requests.append(request)
        shelf.worker.submit(request)
        if dice.random() < 0.5:
            threading.Timer(dice.random() / 500, request.cancel.set).start()
    last = ask()
    shelf.worker.submit(last)
    ended = [event.request_id for event in shelf.until_end(last) if isinstance(event, TERMINAL)]
    assert sorted(ended) == sorted(request.request_id for request in (*requests, last))
