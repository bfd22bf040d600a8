"""What a person does to a running reply is done again by a replay: sliders, chosen tokens, stops, going on."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.archive import read_transcript
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Reply
from llmchat.engine.engine import Engine, Logits
from llmchat.engine.opening import open_engine
from llmchat.errors import LlmchatError
from llmchat.replay import replay
from llmchat.session import ChatSession
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import Event, TokensGenerated
from tests.conftest import DATA
from tests.fakes import prepares
from tests.patience import PATIENCE_SECONDS

TINY = ModelSpec("tiny", threads=1)
LLAMA = ModelSpec(str(DATA / "huggingface" / "llama"), threads=1)
LIVELY = GenerationConfig(temperature=1.0, max_new_tokens=101, seed=11)


def fail(error: LlmchatError) -> None:
    """Nothing may go wrong on the way."""
    pytest.fail(error.message)


class Watched:
    """A real engine, and a hand that does something at every token."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.at_each_token: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def lora_scale(self) -> float:
        """The engine's."""
        return self._engine.lora_scale

    @lora_scale.setter
    def lora_scale(self, scale: float) -> None:
        self._engine.lora_scale = scale

    def decode(self, token_id: int, draft: Sequence[int] = ()) -> Logits:
        """Let the hand do its work, then the model."""
        self.at_each_token()
        return self._engine.decode(token_id, draft)


class Talk:
    """A session on a real model, kept in a file."""

    def __init__(self, path: Path, spec: ModelSpec, config: GenerationConfig) -> None:
        self.path, self.spec = path, spec
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.engine = Watched(open_engine(spec, lambda stage, fraction: None))
        self.worker = InferenceWorker(self.events.put, prepares(lambda request, progress: self.engine))
        self.session = ChatSession(self.worker.submit, fail, config=config, autosave=False)
        self.session.save(path)
        self.streamed: list[int] = []
        self.worker.start()
        self.session.load_model(spec)

    def settle(self) -> Reply:
        """Let it come to rest; the last reply, of which every token was streamed."""
        while self.session.state in ("loading", "generating", "stopping"):
            event = self.events.get(timeout=PATIENCE_SECONDS)
            if isinstance(event, TokensGenerated):
                self.streamed += event.token_ids
            self.session.handle(event)
        last = self.session.transcript.leaf
        assert last is not None and last.reply is not None
        return last.reply

    def say(self, text: str) -> Reply:
        """Ask and wait for the answer."""
        self.session.send(text)
        return self.settle()

    def drag(self, name: str, values: Iterator[Any]) -> None:
        """Move a slider once for each token from here on."""

        def move() -> None:
            if (value := next(values, None)) is not None:
                self.session.config = self.session.config.changed(**{name: value})

        self.engine.at_each_token = move

    def differences(self) -> list[int | None]:
        """Where each reply differs when it is made again from the file."""
        self.session.close()
        results = list(replay(read_transcript(self.path)[0], self.spec))
        assert not any(result.passed_over for result in results)
        return [result.first_difference for result in results]


@contextmanager
def talking(path: Path, spec: ModelSpec = TINY, config: GenerationConfig = LIVELY) -> Iterator[Talk]:
    """A session that ends with its worker."""
    talk = Talk(path, spec, config)
    try:
        yield talk
    finally:
        talk.session.close()
        talk.worker.close(10)


def test_a_slider_dragged_end_to_end_loses_no_token(tmp_path: Path) -> None:
    """A hundred positions during one reply: each acts on its token, none is lost, and a replay is the same."""
    with talking(tmp_path / "drag.toml") as talk:
        talk.drag("temperature", iter([0.01 + step * 0.02 for step in range(100)]))
        reply = talk.say("Once upon a time")
        assert len(reply.token_ids) == 101 and reply.finish_reason == "length"
        assert talk.streamed == list(reply.token_ids)
        assert [change.token_index for change in reply.changes] == list(range(1, 101))
        assert reply.config_at(100).temperature == pytest.approx(1.99)
        assert talk.differences() == [None]


def test_a_slider_moved_as_fast_as_a_hand_can_from_another_thread(tmp_path: Path) -> None:
    """Positions between two tokens are one move; what acted is what was kept."""
    with talking(tmp_path / "race.toml") as talk:
        talk.session.send("Once upon a time")
        for step in range(100):
            talk.session.config = talk.session.config.changed(temperature=step / 50)
        reply = talk.settle()
        assert talk.streamed == list(reply.token_ids) and len(reply.token_ids) == 101
        assert talk.differences() == [None]


def test_every_kind_of_reply(tmp_path: Path) -> None:
    """Sliders, a stop, going on with other settings, a chosen token, alternatives, other system prompts, a prefill."""
    with talking(tmp_path / "all.toml", LLAMA, LIVELY.changed(max_new_tokens=12)) as talk:
        session = talk.session
        session.system = "You are a king."
        talk.drag("repetition_penalty", iter([1.0, 1.3, 1.6]))
        talk.say("Tell me about the sea.")
        session.continue_reply()
        longer = talk.settle()
        assert longer.parts == (12,) and len(longer.token_ids) > 12
        talk.drag("min_p", iter([0.0, 0.05, 0.2]))
        other = longer.token_ids[5] ^ 1
        session.branch_at(leaf(session), 5, other)
        branched = talk.settle()
        assert branched.forced == ((5, other),) and branched.parts == (5,)
        session.continue_reply()
        again = talk.settle()
        assert again.forced == ((5, other),) and again.parts == (5, len(branched.token_ids))
        session.system = "You are a fool."
        session.regenerate(times=2)
        assert talk.settle().system == "You are a fool."
        session.choose(leaf(session), -3)
        session.prefill_text = "Well, "
        talk.say("And then?")
        count = 0

        def stop_at_third() -> None:
            nonlocal count
            count += 1
            if count == 3:
                session.stop()

        talk.engine.at_each_token = stop_at_third
        assert talk.say("Stop.").finish_reason == "cancelled"
        assert talk.differences() == [None] * 8


def leaf(session: ChatSession) -> str:
    """The id of the selected turn."""
    assert session.transcript.leaf_id is not None
    return session.transcript.leaf_id


def test_a_reply_gone_on_with_in_a_full_context(tmp_path: Path) -> None:
    """Where going on left out older turns to make room, the replay leaves them out at the same token."""
    with talking(tmp_path / "full.toml", LLAMA, LIVELY.changed(max_new_tokens=6, min_new_tokens=6)) as talk:
        session = talk.session
        talk.say("the sea")
        talk.say("the sea")
        session.config = session.config.changed(max_new_tokens=60, min_new_tokens=60)
        session.continue_reply()
        assert "is full" in talk.settle().finish_detail and not session.dropped_turns
        session.continue_reply()
        reply = talk.settle()
        assert session.dropped_turns and len(reply.token_ids) > reply.parts[-1]
        assert talk.differences() == [None] * 4


def test_an_end_token_that_no_longer_comes_is_a_difference(tmp_path: Path) -> None:
    """Equal tokens are not enough where the reply once ended by itself."""
    path = tmp_path / "end.toml"
    with talking(path, config=LIVELY.changed(max_new_tokens=3)) as talk:
        talk.say("Once")
    text = path.read_text()
    assert "max_new_tokens 3" in text
    path.write_text(text.replace('"max_new_tokens 3"', '"end token </s>"'))
    (result,) = replay(read_transcript(path)[0], TINY)
    assert result.first_difference == 3 and len(result.token_ids) == 4
