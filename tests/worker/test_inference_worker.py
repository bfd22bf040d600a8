"""The worker's contract: one terminal event per request, whatever happens."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Turn
from llmchat.engine.engine import Engine
from llmchat.errors import GenerationError, ModelLoadError
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    LiveConfig,
    LoadRequest,
    ModelChanged,
    ModelLoaded,
    ModelLoadFailed,
    PromptProcessed,
    Request,
    TokensGenerated,
)
from tests.fakes import ChangingEngine, ScriptedEngine, prepares
from tests.patience import PATIENCE_SECONDS

TERMINAL = (ModelLoaded, ModelLoadFailed, GenerationFinished, GenerationFailed)
GREEDY = GenerationConfig(do_sample=False, repetition_penalty=1.0)


class Desk:
    """A worker and the events that come from it."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.worker = InferenceWorker(self.events.put, prepares(lambda request, progress: engine()))
        self.worker.start()

    def serve(self, request: Request) -> list[Event]:
        """Submit a request and return its events, the terminal one last."""
        self.worker.submit(request)
        return self.until_end(request)

    def until_end(self, request: Request) -> list[Event]:
        """The events of a request, up to its terminal one."""
        seen = []
        while True:
            event = self.events.get(timeout=PATIENCE_SECONDS)
            if event.request_id == request.request_id:
                seen.append(event)
                if isinstance(event, TERMINAL):
                    return seen


@pytest.fixture
def desk() -> Iterator[Callable[[Callable[[], Engine]], Desk]]:
    """Makes desks with an engine loaded, and closes them."""
    made: list[Desk] = []

    def make(engine: Callable[[], Engine]) -> Desk:
        made.append(Desk(engine))
        assert isinstance(made[-1].serve(LoadRequest(ModelSpec()))[-1], ModelLoaded)
        return made[-1]

    yield make
    for one in made:
        one.worker.close(10)


def ask(text: str = "hi", config: GenerationConfig = GREEDY) -> GenerationRequest:
    """A request for a reply."""
    return GenerationRequest((Turn("user", text),), LiveConfig(config), seed=1)


def test_a_reply_comes_as_events_in_order(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """The prompt, then text, then the whole reply; the pieces joined are the text."""
    events = desk(lambda: ScriptedEngine("Hello there.")).serve(ask())
    kinds = [type(event) for event in events]
    assert kinds.index(PromptProcessed) < kinds.index(TokensGenerated)
    pieces = [event for event in events if isinstance(event, TokensGenerated)]
    finished = events[-1]
    assert isinstance(finished, GenerationFinished)
    assert "".join(piece.text for piece in pieces) == finished.reply.text == "Hello there."
    assert sum((piece.token_ids for piece in pieces), ()) == finished.reply.token_ids


def test_a_model_that_runs_otherwise_than_told_is_told_of_once(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """The event comes before the reply's last one, and not again with the next reply."""
    one = desk(ChangingEngine)
    first, second = one.serve(ask()), one.serve(ask())
    (changed,) = (event for event in first if isinstance(event, ModelChanged))
    assert not changed.info.cuda_graph and changed.info.notes == (ChangingEngine.NOTE,)
    assert not any(isinstance(event, ModelChanged) for event in second)


def test_fast_tokens_are_gathered_into_few_events(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """The window is not flooded: far fewer events than tokens."""
    events = desk(lambda: ScriptedEngine("x" * 400)).serve(ask(config=GREEDY.changed(max_new_tokens=400)))
    assert sum(isinstance(event, TokensGenerated) for event in events) < 100


def test_cancelling_stops_within_a_token_and_keeps_the_text(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """After the signal at most one more token is drawn; the event is GenerationFinished all the same."""
    gate = threading.Semaphore(5)
    one = desk(lambda: ScriptedEngine("abcdefghij", gate=gate))
    request = ask()
    one.worker.submit(request)
    while not isinstance(one.events.get(timeout=PATIENCE_SECONDS), TokensGenerated):
        pass
    request.cancel.set()
    gate.release(20)
    finished = one.until_end(request)[-1]
    assert isinstance(finished, GenerationFinished)
    assert finished.reply.finish_reason == "cancelled"
    assert finished.reply.text == "abcdefghij"[: len(finished.reply.token_ids)]
    assert len(finished.reply.token_ids) <= 7


def test_a_request_cancelled_before_its_turn_ends_at_once(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """What waits in the queue can be given up; the next one is served."""
    one = desk(lambda: ScriptedEngine("abc"))
    given_up = ask()
    given_up.cancel.set()
    finished = one.serve(given_up)[-1]
    assert isinstance(finished, GenerationFinished)
    assert (finished.reply.finish_reason, finished.reply.text) == ("cancelled", "")
    after = one.serve(ask())[-1]
    assert isinstance(after, GenerationFinished) and after.reply.text == "abc"


def test_broken_numbers_fail_with_what_there_is(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """NaN in mid-reply: the error and the partial reply come together, and the worker goes on."""
    one = desk(lambda: ScriptedEngine("abcdef", fail_at=3))
    failed = one.serve(ask())[-1]
    assert isinstance(failed, GenerationFailed)
    assert failed.reply is not None
    assert (failed.reply.text, failed.reply.finish_reason) == ("abc", "error")
    assert isinstance(one.serve(ask())[-1], GenerationFailed)


class Boom(Exception):
    """A fault that nobody foresaw."""


class BrokenEngine(ScriptedEngine):
    """Fails in its driver at the first decode."""

    def decode(self, token_id: int, draft: Sequence[int] = ()) -> None:  # type: ignore[override]
        """Fail."""
        raise Boom("the driver\nfell over")


def test_an_unforeseen_fault_is_one_line_and_the_worker_lives(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """Any exception of an engine becomes a failure event; later requests are served."""
    one = desk(lambda: BrokenEngine("abc"))  # type: ignore[arg-type, return-value]
    failed = one.serve(ask())[-1]
    assert isinstance(failed, GenerationFailed)
    assert "Boom: the driver fell over" in failed.error.message
    assert isinstance(one.serve(LoadRequest(ModelSpec()))[-1], ModelLoaded)


def test_running_out_of_memory_is_said_as_such() -> None:
    """The advice is about the model's size, not a traceback."""

    def too_large() -> Engine:
        raise MemoryError

    one = Desk(too_large)
    failed = one.serve(LoadRequest(ModelSpec()))[-1]
    one.worker.close()
    assert isinstance(failed, ModelLoadFailed)
    assert "not enough memory" in failed.error.message


def test_a_failed_load_leaves_no_model_behind(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """After a failed load a request says that no model is open."""
    engines: list[Engine] = [ScriptedEngine()]

    def next_engine() -> Engine:
        if engines:
            return engines.pop()
        raise ModelLoadError("gone")

    one = desk(next_engine)
    assert isinstance(one.serve(LoadRequest(ModelSpec()))[-1], ModelLoadFailed)
    failed = one.serve(ask())[-1]
    assert isinstance(failed, GenerationFailed)
    assert "No model is open" in failed.error.message


def test_closing_answers_every_request(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """The running one and those that wait all get their terminal event; the thread ends."""
    gate = threading.Semaphore(3)
    one = desk(lambda: ScriptedEngine("abcdefghij", gate=gate))
    requests = [ask() for _ in range(4)]
    for request in requests:
        one.worker.submit(request)
    while not isinstance(one.events.get(timeout=PATIENCE_SECONDS), TokensGenerated):
        pass
    gate.release(100)
    one.worker.close(10)
    ended = set()
    while not one.events.empty():
        event = one.events.get()
        if isinstance(event, TERMINAL):
            assert event.request_id not in ended
            ended.add(event.request_id)
    assert ended == {request.request_id for request in requests}


def test_settings_are_read_once_per_token(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """A config put in place while the reply runs acts on it, and the event carries the move."""
    gate = threading.Semaphore(4)
    one = desk(lambda: ScriptedEngine("abcdefghij", gate=gate))
    live = LiveConfig(GREEDY)
    request = GenerationRequest((Turn("user", "hi"),), live, seed=1)
    one.worker.submit(request)
    while not isinstance(one.events.get(timeout=PATIENCE_SECONDS), TokensGenerated):
        pass
    live.config = GREEDY.changed(top_p=0.5)
    gate.release(20)
    finished = one.until_end(request)[-1]
    assert isinstance(finished, GenerationFinished)
    (change,) = finished.reply.changes
    assert dict(change.values) == {"top_p": 0.5}


def test_an_empty_prompt_fails_in_words(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """The tokenizer gives nothing to go on from."""
    failed = desk(ScriptedEngine).serve(ask(""))[-1]
    assert isinstance(failed, GenerationFailed)
    assert "empty" in failed.error.message
    assert not isinstance(failed.error, GenerationError)


@pytest.mark.stress
def test_cancelling_at_any_moment_gives_one_terminal_event(desk: Callable[[Callable[[], Engine]], Desk]) -> None:
    """Two hundred races between the signal and the tokens."""
    one = desk(lambda: ScriptedEngine("x" * 200))
    for delay in range(200):
        request = ask()
        one.worker.submit(request)
        timer = threading.Timer(delay / 20_000, request.cancel.set)
        timer.start()
        assert sum(isinstance(event, TERMINAL) for event in one.until_end(request)) == 1
        timer.join()


class _Panic(BaseException):
    """As the one of a library in Rust: no Exception."""


@pytest.mark.parametrize("kind", [_Panic, SystemExit, KeyboardInterrupt, MemoryError, RecursionError])
def test_whatever_is_raised_the_request_is_answered_and_the_next_one_served(
    desk: Callable[[Callable[[], Engine]], Desk], kind: type[BaseException]
) -> None:
    """A library may raise what is no Exception; nobody waits for ever, and the model stays open."""
    engine = ScriptedEngine("abc")
    one = desk(lambda: engine)
    encode = engine.tokenizer.encode

    def fail(text: str, *, parse_special: bool = False) -> list[int]:
        raise kind("at encoding")

    engine.tokenizer.encode = fail  # type: ignore[method-assign]
    failed = one.serve(ask())[-1]
    assert isinstance(failed, GenerationFailed) and failed.reply is None
    engine.tokenizer.encode = encode  # type: ignore[method-assign]
    assert isinstance(one.serve(ask())[-1], GenerationFinished)


def test_a_load_that_raises_what_is_no_exception_fails_as_one() -> None:
    """The window says that the model could not be loaded."""

    def fail() -> Engine:
        raise _Panic("at opening")

    one = Desk(fail)
    failed = one.serve(LoadRequest(ModelSpec()))[-1]
    one.worker.close()
    assert isinstance(failed, ModelLoadFailed) and "at opening" in failed.error.message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("after", [False, True])
def test_a_worker_whose_thread_has_ended_answers_all_the_same(after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was at, what waits and what is submitted later: each fails with a sentence that says so."""
    one = Desk(lambda: ScriptedEngine("abc"))

    def die(request: Request) -> None:
        raise SystemExit

    monkeypatch.setattr(one.worker, "_serve", die)
    first, second = ask(), LoadRequest(ModelSpec())
    events = one.serve(first)
    if after:
        one.worker.close()  # It has ended for certain.
    events += one.serve(second)
    failed = [event.error.message for event in events if isinstance(event, GenerationFailed | ModelLoadFailed)]
    assert len(failed) == 2 and all("has stopped: start llmchat again" in message for message in failed)


def test_a_worker_that_gets_no_thread_answers_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system at its limit of threads must not leave a window that waits."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    one = Desk(lambda: ScriptedEngine("abc"))
    assert isinstance(one.serve(LoadRequest(ModelSpec()))[-1], ModelLoadFailed)
