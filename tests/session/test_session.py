"""A conversation as the front ends hold it: what is said, what waits, what is kept on disk."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.storage import TranscriptFile, latest_transcript, read_transcript
from llmchat.chat.transcript import Transcript
from llmchat.engine.engine import Engine
from llmchat.errors import LlmchatError, ModelLoadError, UsageError
from llmchat.session import ChatSession
from llmchat.tokenizers.prompt_style import load_prompt_style
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import Event, TokensGenerated
from tests.fakes import ByteTokenizer, ScriptedEngine, prepares
from tests.patience import PATIENCE_SECONDS

GREEDY = GenerationConfig(do_sample=False, repetition_penalty=1.0)


class Talk:
    """A session with a worker whose events the test hands over."""

    def __init__(
        self, engine: Callable[[], Engine], config: GenerationConfig = GREEDY, *, autosave: bool = True
    ) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.worker = InferenceWorker(self.events.put, prepares(lambda request, progress: engine()))
        self.warnings: list[LlmchatError] = []
        self.session = ChatSession(self.worker.submit, self.warnings.append, config=config, autosave=autosave)
        self.worker.start()
        self.session.load_model(ModelSpec("scripted"))

    def settle(self) -> None:
        """Hand over events until nothing is going on."""
        while self.session.state in ("loading", "generating", "stopping"):
            self.session.handle(self.events.get(timeout=PATIENCE_SECONDS))

    def until_text(self) -> None:
        """Hand over events until the reply has begun."""
        while not isinstance(event := self.events.get(timeout=PATIENCE_SECONDS), TokensGenerated):
            self.session.handle(event)
        self.session.handle(event)

    def texts(self) -> list[tuple[str, str]]:
        """Role and text of every turn on the path."""
        return [(turn.role, turn.text) for turn in self.session.transcript.path()]


@pytest.fixture
def talk() -> Iterator[Callable[..., Talk]]:
    """Makes sessions, and ends them."""
    made: list[Talk] = []

    def make(engine: Callable[[], Engine] = ScriptedEngine, config: GenerationConfig = GREEDY, **options: bool) -> Talk:
        made.append(Talk(engine, config, **options))
        return made[-1]

    yield make
    for one in made:
        one.session.close()
        one.worker.close(10)


def test_what_is_said_while_the_model_loads_waits_for_it(talk: Callable[..., Talk]) -> None:
    """Prompts are queued and answered in order."""
    one = talk()
    one.session.send("first")
    one.session.send("second")
    assert one.session.queued == ("first", "second")
    one.settle()
    assert one.texts() == [("user", "first"), ("assistant", "Hello."), ("user", "second"), ("assistant", "Hello.")]


def test_every_turn_is_on_the_disk_when_it_ends(talk: Callable[..., Talk]) -> None:
    """The file holds the conversation, with settings, seed and ids of each reply."""
    one = talk()
    one.session.send("hi")
    one.settle()
    path = one.session.path
    assert path is not None and path == latest_transcript()
    kept, notices = read_transcript(path)
    assert notices == []
    assert [turn.text for turn in kept] == ["hi", "Hello."]
    reply = kept.path()[-1].reply
    assert reply is not None and reply.token_ids == tuple(b"Hello.")
    assert (reply.model, reply.seed) == ("Scripted", one.session.last_seed)


def test_without_autosave_nothing_is_written(talk: Callable[..., Talk], sandbox: Path) -> None:
    """No file, unless one is asked for; then it has everything."""
    one = talk(autosave=False)
    one.session.send("hi")
    one.settle()
    assert one.session.path is None
    assert not list(sandbox.rglob("*.toml"))
    saved = one.session.save(sandbox / "kept.toml")
    assert len(read_transcript(saved)[0]) == 2


def test_a_stopped_reply_keeps_its_text_and_gives_waiting_prompts_back(talk: Callable[..., Talk]) -> None:
    """The context is what is displayed; nothing that was typed is lost."""
    gate = threading.Semaphore(3)
    one = talk(lambda: ScriptedEngine("abcdefghij", gate=gate))
    one.session.send("hi")
    one.until_text()
    one.session.send("later")
    assert one.session.stop() == "later"
    assert one.session.state == "stopping"
    gate.release(50)
    one.settle()
    role, text = one.texts()[-1]
    assert role == "assistant" and text and "abcdefghij".startswith(text)
    reply = one.session.transcript.path()[-1].reply
    assert reply is not None and reply.finish_reason == "cancelled"


def test_regenerating_keeps_the_old_reply_beside_the_new(talk: Callable[..., Talk]) -> None:
    """Alternatives share their parent; they can be walked."""
    one = talk()
    one.session.send("hi")
    one.settle()
    first = one.session.transcript.path()[-1]
    one.session.regenerate(times=2)
    one.settle()
    alternatives = one.session.transcript.alternatives(first.id)
    assert len(alternatives) == 3
    assert one.session.transcript.path()[-1] == alternatives[2]
    assert one.session.choose(alternatives[2].id, -5) == first
    assert one.session.transcript.path()[-1] == first


def test_a_locked_seed_is_used_and_an_unlocked_one_is_rolled(talk: Callable[..., Talk]) -> None:
    """The seed in use is always known."""
    one = talk(config=GREEDY.changed(seed=8417))
    one.session.send("hi")
    one.settle()
    assert one.session.last_seed == 8417
    one.session.config = GREEDY
    seeds = set()
    for _ in range(4):
        one.session.regenerate()
        one.settle()
        seeds.add(one.session.last_seed)
    assert len(seeds) > 1


def test_continuing_makes_one_reply_of_two_parts(talk: Callable[..., Talk]) -> None:
    """The ids go on where they ended, with the same seed, as a new alternative."""
    one = talk(lambda: ContinuingEngine("abcdef"), GREEDY.changed(max_new_tokens=3))
    one.session.send("hi")
    one.settle()
    first = one.session.transcript.path()[-1]
    assert first.text == "abc"
    one.session.continue_reply()
    one.settle()
    whole = one.session.transcript.path()[-1]
    assert whole.text == "abcdef"
    assert whole.reply is not None and first.reply is not None
    assert whole.reply.token_ids == tuple(b"abcdef")
    assert whole.reply.seed == first.reply.seed
    assert len(one.session.transcript.alternatives(first.id)) == 2


class ContinuingEngine(ScriptedEngine):
    """Goes on with its script from what of it is in the prompt."""

    def prefill(self, token_ids, should_stop, on_progress=None, lora_scales=None):  # type: ignore[no-untyped-def]
        """Begin after the letters that are there already."""
        result = super().prefill(token_ids, should_stop, on_progress)
        self._said = len(bytes(token_ids).decode().removeprefix("hi"))
        return type(result)(self._logits(), 0)


def test_editing_a_message_answers_it_anew(talk: Callable[..., Talk]) -> None:
    """The old branch stays."""
    one = talk()
    one.session.send("helo")
    one.settle()
    message = one.session.transcript.path()[0]
    one.session.edit(message.id, "hello")
    one.settle()
    assert one.texts() == [("user", "hello"), ("assistant", "Hello.")]
    assert len(one.session.transcript.alternatives(message.id)) == 2


def test_an_edited_reply_can_be_gone_on_with(talk: Callable[..., Talk]) -> None:
    """The person's words become the start of the reply."""
    one = talk(lambda: ScriptedEngine(" and more"))
    one.session.send("hi")
    one.settle()
    one.session.edit(one.session.transcript.path()[-1].id, "My own words")
    one.session.continue_reply()
    one.settle()
    assert one.texts()[-1] == ("assistant", "My own words and more")


def test_undo_takes_the_message_back(talk: Callable[..., Talk]) -> None:
    """Its text returns to the person; the turns stay as a branch in the file."""
    one = talk()
    one.session.send("hi")
    one.settle()
    assert one.session.undo().message == "hi"
    assert one.texts() == []
    assert len(one.session.transcript) == 2


def test_deleting_a_turn_loses_nothing_until_the_file_is_compacted(talk: Callable[..., Talk]) -> None:
    """What is deleted is shown nowhere, stays in the file, and is gone for good only when that is asked for."""
    one = talk()
    one.session.send("secret words")
    one.settle()
    path = one.session.path
    assert path is not None
    before = path.read_bytes()
    assert len(one.session.delete(one.session.transcript.path()[0].id)) == 2
    assert path.read_bytes().startswith(before)
    assert len(read_transcript(path)[0]) == 0
    assert one.session.compact() == 2
    assert b"secret" not in path.read_bytes().split(b"[[turns]]", 1)[-1]
    assert len(read_transcript(path)[0]) == 0
    with pytest.raises(UsageError, match="nothing to take back"):
        one.session.undo()


def test_a_conversation_is_gone_on_with_from_its_file(talk: Callable[..., Talk]) -> None:
    """Opened again, new turns are appended to the same file."""
    one = talk()
    one.session.send("hi")
    one.settle()
    path = one.session.path
    assert path is not None
    one.session.new()
    assert one.texts() == [] and one.session.path is None
    assert one.session.open(path) == []
    one.session.send("again")
    one.settle()
    assert [turn.text for turn in read_transcript(path)[0]] == ["hi", "Hello.", "again", "Hello."]


def test_a_failed_load_is_told_and_leaves_no_model(talk: Callable[..., Talk]) -> None:
    """What is said then is refused in words."""

    def broken() -> Engine:
        raise ModelLoadError("no such file")

    one = talk(broken)
    one.session.send("hi")
    one.settle()
    assert one.session.state == "empty"
    assert one.session.returned == "hi" and one.session.queued == ()
    with pytest.raises(UsageError, match="No model is open"):
        one.session.send("again")


def test_a_failed_reply_keeps_what_there_was(talk: Callable[..., Talk]) -> None:
    """The partial reply is a turn, marked as an error; the message can be answered again."""
    one = talk(lambda: ScriptedEngine("abcdef", fail_at=3))
    one.session.send("hi")
    one.settle()
    turn = one.session.transcript.path()[-1]
    assert turn.text == "abc"
    assert turn.reply is not None and turn.reply.finish_reason == "error"


def test_closing_in_mid_reply_keeps_what_there_is(talk: Callable[..., Talk]) -> None:
    """The window may be closed at any moment."""
    gate = threading.Semaphore(3)
    one = talk(lambda: ScriptedEngine("abcdefghij", gate=gate))
    one.session.send("hi")
    one.until_text()
    path = one.session.path
    one.session.close()
    gate.release(50)
    assert path is not None
    kept = read_transcript(path)[0].path()[-1]
    assert kept.text and "abcdefghij".startswith(kept.text)
    assert kept.reply is not None and kept.reply.finish_detail == "llmchat was closed"


def test_a_file_that_cannot_be_written_is_told_once(talk: Callable[..., Talk], sandbox: Path) -> None:
    """The conversation goes on unsaved, and is kept whole as soon as that is possible."""
    blocker = sandbox / "data"
    blocker.write_text("not a directory")
    one = talk()
    for text in ("one", "two"):
        one.session.send(text)
        one.settle()
    assert len(one.texts()) == 4
    assert len(one.warnings) == 1
    assert "not saved" in one.warnings[0].message
    os.unlink(blocker)
    one.session.send("three")
    one.settle()
    assert one.session.path is not None
    assert len(read_transcript(one.session.path)[0]) == 6


def test_a_system_prompt_is_the_first_turn(talk: Callable[..., Talk]) -> None:
    """With a template it is kept in the file; a text to continue has none."""
    from llmchat.tokenizers.prompt_style import load_prompt_style
    from tests.fakes import ByteTokenizer

    engine = ScriptedEngine(prompt_style=load_prompt_style("plain", ByteTokenizer()))
    one = talk(lambda: engine)
    one.session.system = "Be brief."
    one.session.send("hi")
    one.settle()
    assert one.texts()[0] == ("system", "Be brief.")
    assert b"Be brief." in bytes(engine.prompts[-1])
    one.session.system = "Be long."
    one.session.send("more")
    one.settle()
    assert b"Be long." in bytes(engine.prompts[-1]) and b"Be brief." not in bytes(engine.prompts[-1])


def test_an_open_file_is_not_opened_twice(talk: Callable[..., Talk]) -> None:
    """Another llmchat has it: the present conversation stays as it is."""
    one = talk()
    one.session.send("hi")
    one.settle()
    assert one.session.path is not None
    other = talk()
    with pytest.raises(LlmchatError, match="another llmchat"):
        other.session.open(one.session.path)
    with pytest.raises(LlmchatError):
        TranscriptFile.open(one.session.path)


def test_replies_know_what_made_them(talk: Callable[..., Talk]) -> None:
    """Model, tokenizer and a system prompt that is not the conversation's own are kept with each reply."""
    one = talk(lambda: ScriptedEngine(prompt_style=load_prompt_style("chatml", ByteTokenizer())))
    one.settle()
    one.session.system = "Be brief."
    one.session.send("hi")
    one.settle()
    one.session.system = "Be rude."
    one.session.regenerate(seed=77)
    one.settle()
    first, second = (turn for turn in one.session.transcript if turn.reply is not None)
    assert first.reply is not None and second.reply is not None
    assert (first.reply.system, second.reply.system, second.reply.seed) == (None, "Be rude.", 77)
    assert [turn.text for turn in one.session.transcript.asked(first.id)] == ["Be brief.", "hi"]
    assert [turn.text for turn in one.session.transcript.asked(second.id)] == ["Be rude.", "hi"]
    assert first.reply.model_path == first.reply.tokenizer_path == str(Path("scripted").absolute())
    assert one.session.path is not None
    kept = [turn.reply for turn in read_transcript(one.session.path)[0] if turn.reply is not None]
    assert [replace(reply, facts=()) for reply in kept] == [
        replace(reply, facts=()) for reply in (first.reply, second.reply)
    ]


def test_going_on_with_a_reply_keeps_its_system_prompt(talk: Callable[..., Talk]) -> None:
    """A reply is made under one system prompt; where it was gone on from is kept."""
    one = talk(
        lambda: ScriptedEngine(prompt_style=load_prompt_style("chatml", ByteTokenizer())),
        GREEDY.changed(max_new_tokens=3),
    )
    one.settle()
    one.session.send("hi")
    one.settle()
    one.session.system = "Be rude."
    one.session.continue_reply()
    one.settle()
    reply = one.session.transcript.path()[-1].reply
    assert reply is not None and (reply.system, reply.parts) == (None, (3,))


def test_a_message_that_was_too_long_is_in_no_step_back(talk: Callable[..., Talk]) -> None:
    """Taken back is what was said before it, also after the file was opened anew; nothing makes a turn of it."""
    style = load_prompt_style("plain", ByteTokenizer())
    one = talk(lambda: ScriptedEngine("Yes.", context_length=120, prompt_style=style))
    path = said_too_much(one)
    assert one.texts() == [("user", "one"), ("assistant", "Yes.")]
    assert one.session.returned == "much too long " * 20
    one.session.new()
    assert one.session.open(path) == []
    assert one.session.undo().message == "one"
    assert one.session.redo().message == "one"
    assert one.session.transcript.deleted == frozenset()
    one.session.compact()
    assert [turn.text for turn in read_transcript(path)[0]] == ["one", "Yes."]
    assert "much too long" not in path.read_text()


def said_too_much(one: Talk) -> Path:
    """The file of a conversation whose second message was too long."""
    for text in ("one", "much too long " * 20):
        one.session.send(text)
        one.settle()
    assert one.session.path is not None
    return one.session.path


def test_a_first_message_that_was_too_long_gives_no_title(talk: Callable[..., Talk]) -> None:
    """The conversation is named after what was said."""
    style = load_prompt_style("plain", ByteTokenizer())
    one = talk(lambda: ScriptedEngine("Yes.", context_length=120, prompt_style=style))
    for text in ("much too long " * 20, "one"):
        one.session.send(text)
        one.settle()
    assert one.session.path is not None
    assert read_transcript(one.session.path)[0].title == "one"
    with pytest.raises(UsageError, match="nothing to take back"):
        [one.session.undo() for _ in range(2)]


def test_what_is_in_no_file_is_let_go_only_at_the_second_time(talk: Callable[..., Talk], tmp_path: Path) -> None:
    """A new conversation, and an opened one in its place; what was said in between makes it the first time again."""
    other = TranscriptFile.create(Transcript(), tmp_path / "other.toml")
    other.close()
    one = talk(autosave=False)
    for leave in (one.session.new, lambda: one.session.open(other.path)):
        for _ in range(2):
            one.session.send("hi")
            one.settle()
            with pytest.raises(UsageError, match="not saved"):
                leave()
            assert one.texts()[-2:] == [("user", "hi"), ("assistant", "Hello.")]
        leave()
        assert one.texts() == []


def test_what_a_file_could_not_take_is_not_let_go_at_once(talk: Callable[..., Talk], tmp_path: Path) -> None:
    """A file that is put in the place of the conversation's counts as none; saved under another name it may go."""
    one = talk()
    one.session.send("hi")
    one.settle()
    assert one.session.path is not None
    one.session.path.unlink()
    one.session.path.write_text("")
    one.session.send("more")
    one.settle()
    with pytest.raises(UsageError, match="not saved"):
        one.session.new()
    one.session.save(tmp_path / "kept.toml")
    one.session.new()
    assert len(read_transcript(tmp_path / "kept.toml")[0]) == 4
