"""Replies side by side on the real small model: same dice, nothing kept unasked, and what is kept is a full answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from llmchat.chat.comparison import Variant, parse_comparison, parse_sweep
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.storage import read_transcript
from llmchat.engine.engine import Engine
from llmchat.errors import GenerationError, UsageError
from llmchat.session import ChatSession
from llmchat.session.laboratory import Experiment
from llmchat.tokenizers.prompt_style import load_prompt_style
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.laboratory import LANES_AT_ONCE
from llmchat.worker.messages import BatchFinished, Event, LaneFinished, LaneGenerated, PromptProcessed
from tests.fakes import ByteTokenizer, ScriptedEngine, prepares
from tests.patience import PATIENCE_SECONDS

BASE = GenerationConfig(max_new_tokens=24, seed=5)


class Bench:
    """A session on a model, and the events of its experiments."""

    def __init__(self, engine: Callable[[], Engine] | None, model: str) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        if engine is None:
            self.worker = InferenceWorker(self.events.put)
        else:
            self.worker = InferenceWorker(self.events.put, prepares(lambda request, progress: engine()))
        self.session = ChatSession(self.worker.submit, print, config=BASE)
        self.worker.start()
        self.session.load_model(ModelSpec(model, threads=1))
        self.settle()

    def settle(self) -> None:
        """Hand over events until the session rests."""
        while self.session.state != "ready":
            self.session.handle(self.events.get(timeout=PATIENCE_SECONDS))

    def begin(self, *words: str, text: str | None = None) -> Experiment:
        """Begin a comparison."""
        return self.start(parse_comparison(words, self.session.config), text)

    def start(self, variants: tuple[Variant, ...], text: str | None) -> Experiment:
        """Begin an experiment."""
        experiment = Experiment(self.session, variants, text)
        self.worker.submit(experiment.request)
        return experiment

    def until(self, experiment: Experiment, is_so: Callable[[], bool]) -> list[Event]:
        """Hand over events until something is so."""
        seen = []
        while not is_so():
            seen.append(self.events.get(timeout=PATIENCE_SECONDS))
            assert experiment.handle(seen[-1])
        return seen

    def run(self, experiment: Experiment) -> list[Event]:
        """Hand over events to the end."""
        return self.until(experiment, lambda: experiment.is_done)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Makes benches, and ends them."""
    made: list[Bench] = []

    def make(engine: Callable[[], Engine] | None = None, model: str = "tiny") -> Bench:
        made.append(Bench(engine, model))
        return made[-1]

    yield make
    for one in made:
        one.session.close()
        one.worker.close(10)


def test_equal_settings_give_equal_text_and_others_part(bench: Callable[..., Bench]) -> None:
    """The dice are the same, so only the settings can make a difference."""
    one = bench()
    experiment = one.begin("now", "temperature=0.8", "temperature=1.6", text="the queen")
    events = one.run(experiment)
    first, second, third = (trial.reply for trial in experiment.trials)
    assert first and second and third
    assert first.token_ids == second.token_ids and first.seed == third.seed == 5
    assert experiment.parting(1) is None and experiment.parting_offset(1) is None
    index = experiment.parting(2)
    assert index is not None
    assert first.token_ids[:index] == third.token_ids[:index] and first.token_ids[index] != third.token_ids[index]
    offset = experiment.parting_offset(2)
    assert offset is not None and first.text[:offset] == third.text[:offset]
    streamed = {lane: "" for lane in range(3)}
    for event in events:
        if isinstance(event, LaneGenerated):
            streamed[event.lane] += event.text
            assert len(event.facts) == len(event.token_ids)
    assert list(streamed.values()) == [first.text, second.text, third.text]


def test_nothing_is_in_the_conversation_before_a_reply_is_kept(bench: Callable[..., Bench]) -> None:
    """An experiment that is not kept leaves neither a message nor a file."""
    one = bench()
    one.run(one.begin("greedy", "now", text="the queen"))
    assert len(one.session.transcript) == 0 and one.session.path is None


def test_a_kept_reply_answers_and_is_gone_on_from(bench: Callable[..., Bench]) -> None:
    """It is a turn like any other: on the disk with settings, seed and ids, and part of the next prompt."""
    one = bench()
    experiment = one.begin("greedy", "temperature=1.3", text="the queen")
    one.run(experiment)
    turn = experiment.keep(1)
    said = [(turn.role, turn.text) for turn in one.session.transcript.path()]
    assert said == [("user", "the queen"), ("assistant", turn.text)]
    assert one.session.path is not None
    kept = read_transcript(one.session.path)[0].path()[-1].reply
    assert kept is not None and turn.reply is not None
    assert (kept.token_ids, kept.seed, kept.config.temperature) == (turn.reply.token_ids, 5, 1.3)
    assert kept.model_path == turn.reply.model_path != ""
    one.session.send("and then")
    one.settle()
    assert [turn.text for turn in one.session.transcript.path()][:3] == ["the queen", turn.text, "and then"]


def test_the_last_message_is_answered_again(bench: Callable[..., Bench]) -> None:
    """Kept replies are alternatives of the one that is there; a kept reply is not kept twice."""
    one = bench()
    one.session.send("the queen")
    one.settle()
    experiment = one.begin("greedy", "temperature=1.3")
    assert experiment.question == "the queen"
    one.run(experiment)
    experiment.keep_all(shown=0)
    path = one.session.transcript.path()
    assert len(one.session.transcript.alternatives(path[-1].id)) == 3
    assert path[-1].reply is not None and not path[-1].reply.config.do_sample
    experiment.keep(1)
    assert len(one.session.transcript) == 4
    shown = one.session.transcript.path()[-1].reply
    assert shown is not None and shown.config.temperature == 1.3


def test_a_kept_reply_is_what_the_conversation_would_have_said(bench: Callable[..., Bench]) -> None:
    """With the same settings and seed, answering normally gives the same ids."""
    one = bench()
    experiment = one.begin("now", "greedy", text="the queen")
    one.run(experiment)
    experiment.keep(0)
    one.session.regenerate()
    one.settle()
    first, again = one.session.transcript.children(one.session.transcript.path()[0].id)
    assert first.reply is not None and again.reply is not None
    assert first.reply.token_ids == again.reply.token_ids


def test_stopping_in_the_middle_keeps_nothing(bench: Callable[..., Bench]) -> None:
    """What was written can be looked at; the conversation has none of it."""
    gate = threading.Semaphore(6)
    one = bench(lambda: ScriptedEngine("A long reply that is stopped.", gate=gate), "scripted")
    experiment = one.begin("greedy", "top_k=1", text="hi")
    one.until(experiment, lambda: bool(experiment.trials[0].token_ids))
    with pytest.raises(UsageError, match="still being written"):
        experiment.keep(0)
    with pytest.raises(UsageError, match="still being written"):
        experiment.keep_all(0)
    experiment.stop()
    gate.release(50)
    one.run(experiment)
    assert [trial.reply.finish_reason for trial in experiment.trials if trial.reply] == ["cancelled", "cancelled"]
    assert experiment.parting(1) is None
    assert len(one.session.transcript) == 0 and one.session.path is None


def test_a_sweep_is_made_in_batches_and_each_reply_is_told_when_it_ends(bench: Callable[..., Bench]) -> None:
    """More values than fit into one forward; every one gets its reply once, and the prompt is told of once."""
    one = bench()
    _, variants = parse_sweep(f"max_new_tokens 1..{LANES_AT_ONCE + 3} {LANES_AT_ONCE + 3}", BASE)
    experiment = one.start(variants, "the queen")
    events = one.run(experiment)
    finished = [event for event in events if isinstance(event, LaneFinished)]
    assert sorted(event.lane for event in finished) == list(range(len(variants)))
    assert sum(isinstance(event, PromptProcessed) for event in events) == 1
    assert isinstance(events[-1], BatchFinished)
    assert [len(trial.token_ids) for trial in experiment.trials] == list(range(1, len(variants) + 1))
    assert experiment.progress == 1.0
    assert [outcome.label for outcome in experiment.outcomes()] == [variant.label for variant in variants]


def test_one_reply_that_ends_before_the_other_parts_there(bench: Callable[..., Bench]) -> None:
    """They part where the shorter one ends, which is known only once it has ended."""
    one = bench()
    experiment = one.begin("max_new_tokens=4", "max_new_tokens=9", text="the queen")
    assert experiment.parting(1) is None
    one.run(experiment)
    assert experiment.parting(1) == 4
    short = experiment.trials[0].reply
    assert short is not None and experiment.parting_offset(1) == len(short.text)


def test_what_is_not_possible_is_refused(bench: Callable[..., Bench]) -> None:
    """No message, no model, a reply under way, an empty reply: a line each."""
    one = bench(lambda: ScriptedEngine(""), "scripted")
    with pytest.raises(UsageError, match="no message to answer"):
        one.begin("greedy")
    experiment = one.begin("greedy", text="hi")
    one.run(experiment)
    with pytest.raises(UsageError, match="nothing to keep"):
        experiment.keep(0)
    one.session.send("hi")
    with pytest.raises(UsageError, match="Stop the reply"):
        one.begin("greedy")
    one.settle()
    with pytest.raises(UsageError, match="No model is open"):
        Experiment(ChatSession(print, print), parse_comparison(["greedy"], BASE), "hi")


def test_a_failure_is_the_experiments(bench: Callable[..., Bench]) -> None:
    """Numbers that are not finite end it with a reason; the session can go on."""
    one = bench(lambda: ScriptedEngine("abc", fail_at=1), "scripted")
    experiment = one.begin("greedy", text="hi")
    one.run(experiment)
    assert isinstance(experiment.error, GenerationError)
    assert one.session.state == "ready"


def test_the_system_prompt_of_the_moment_is_kept_with_the_reply(bench: Callable[..., Bench]) -> None:
    """Where it is not the one that the conversation begins with, the turn says which it was."""
    one = bench(lambda: ScriptedEngine(prompt_style=load_prompt_style("chatml", ByteTokenizer())), "scripted")
    one.session.send("hi")
    one.settle()
    one.session.system = "Be brief."
    experiment = one.begin("greedy")
    assert [turn.text for turn in experiment.request.turns] == ["Be brief.", "hi"]
    one.run(experiment)
    reply = experiment.keep(0).reply
    assert reply is not None and reply.system == "Be brief."
