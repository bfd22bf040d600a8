"""Every slash command, typed into the real window."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from threading import Event, Semaphore

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.storage import read_transcript
from llmchat.checkpoints.checkpoint import Progress
from llmchat.engine.engine import Engine
from llmchat.engine.footprint import Footprint
from llmchat.engine.opened import PreparedModel
from llmchat.errors import ModelLoadError
from llmchat.ui.commands import COMMANDS
from llmchat.ui.screens.help import HelpScreen
from llmchat.ui.screens.question import QuestionScreen
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import LoadRequest
from tests.fakes import ChangingEngine, ScriptedEngine, prepares
from tests.patience import PATIENCE_SECONDS
from tests.session.test_session import ContinuingEngine
from tests.ui.helpers import GREEDY, Window, chat_engine, drawn, tiny_options, window
from tests.ui.test_app_turns import CountingEngine


def last_prompt(engine: ScriptedEngine) -> str:
    """The text that the model was given last."""
    return bytes(engine.prompts[-1]).decode()


async def command(it: Window, line: str) -> str:
    """Give a command; returns the notes it left."""
    await it.send(line)
    assert it.chat.prompt.text == "", f"refused: {it.chat.prompt.border_subtitle}"
    return it.notes


async def test_an_unknown_command_never_reaches_the_model() -> None:
    """It stays in the prompt, with the nearest known one beside it."""
    engine = ScriptedEngine()
    async with window(engine) as it:
        await it.ready()
        for line, hint in (("/temperature 1", "/set temperature"), ("/qiut", "/quit"), ("/", "/help")):
            await it.send(line)
            assert it.chat.prompt.text == line
            assert hint in it.screen
        assert engine.prompts == [] and it.said == []


@pytest.mark.parametrize(
    ("written", "meant"), [("//help me", "/help me"), ("/etc/hosts", "/etc/hosts"), ("/* note */", "/* note */")]
)
async def test_text_that_only_looks_like_a_command_is_sent(written: str, meant: str) -> None:
    """Two slashes escape; paths and comments are text."""
    engine = ScriptedEngine()
    async with window(engine) as it:
        await it.ask(written)
        assert it.said[0] == ("user", meant) and last_prompt(engine) == meant


async def test_help() -> None:
    """/help opens the screen of all keys; with a name it tells of one command."""
    async with window(ScriptedEngine()) as it:
        assert "/regen [N]" in await command(it, "/help regen")
        await command(it, "/help")
        assert isinstance(it.app.screen, HelpScreen)
        await it.press("escape")
        await it.press("f1")
        assert isinstance(it.app.screen, HelpScreen) and "^R" in it.screen
        await it.press("escape")
        assert "Write a message" in it.screen


async def test_set_reset_preset_and_seed() -> None:
    """They change the settings in force, and the sidebar shows it."""
    async with window(ScriptedEngine(), config=GenerationConfig()) as it:
        await command(it, "/set temp 1.25")
        await command(it, "/set stop THE END")
        assert it.session.config == GenerationConfig(temperature=1.25, stop=("THE END",))
        assert it.chat.panel.slider("temperature").value == 1.25
        assert "≠ temperature = 1.25" in await command(it, "/set")
        assert "sampler_order = penalties dry top_n_sigma" in it.notes and "temperature_last = off" in it.notes
        assert "0 to 5" in await command(it, "/settings temperature")
        await command(it, "/reset temperature")
        assert it.session.config.temperature == 0.8
        await command(it, "/preset creative")
        assert it.session.config.temperature == 1.5
        await command(it, "/reset")
        assert it.session.config == GenerationConfig()
        await it.send("/seed lock")
        await it.until(lambda: "no seed to lock yet" in it.toasts)
        await command(it, "/seed 8417")
        assert it.session.config.seed == 8417 and "8417   locked" in it.screen
        await command(it, "/seed roll")
        assert it.session.config.seed is None
        await it.ask("hi")
        await command(it, "/seed lock")
        assert it.session.config.seed == it.reply.seed


async def test_a_value_out_of_range_is_refused_with_the_range() -> None:
    """The line stays for correction."""
    async with window(ScriptedEngine()) as it:
        await it.send("/set temperature 99")
        assert it.chat.prompt.text == "/set temperature 99"
        assert "0 to 5" in it.screen


async def test_system_raw_and_prefill() -> None:
    """What the model is given is what the commands say."""
    engine = chat_engine()
    async with window(engine) as it:
        await it.ready()
        assert "Be brief." in await command(it, "/system Be brief.")
        await it.ask("hi")
        assert "Be brief." in last_prompt(engine) and it.said[0] == ("system", "Be brief.")
        assert "no system prompt" in await command(it, "/system")
        assert "Ahoy" in await command(it, "/prefill Ahoy, ")
        await it.ask("sail")
        assert last_prompt(engine).endswith("Ahoy,") and it.said[-1] == ("assistant", "Ahoy,Hello.")
        await command(it, "/prefill")
        await command(it, "/raw on")
        await it.ask("as it is")
        assert last_prompt(engine) == "as it is" and it.reply.raw
        await command(it, "/raw off")
        await it.ask("again")
        assert last_prompt(engine) != "again" and not it.reply.raw


async def test_what_holds_for_every_reply_is_seen_and_off_is_off() -> None:
    """A prefill, stop strings and a system prompt stand on the prompt's border until they are switched off."""
    engine = chat_engine("one\ntwo")
    async with window(engine) as it:
        await it.ready()
        for line in ("/system Be brief.", '/prefill "Ahoy, "', r'/set stop "\n" "User:"'):
            await command(it, line)
        await it.ask("hi")
        assert it.last.text == "Ahoy, one"
        assert r'system "Be brief." · prefill "Ahoy, " · stop "\n" "User:"' in it.screen
        for line in ("/system off", "/prefill off", "/set stop off"):
            await command(it, line)
        await it.ask("hi")
        assert it.last.text == "one\ntwo"
        assert str(it.chat.prompt.border_title) == ""


async def test_raw_off_without_a_template_says_what_is_missing() -> None:
    """A base model stays a base model."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        assert "no chat template" in await command(it, "/raw off")


@pytest.mark.parametrize("line", ["/new", "/clear"])
async def test_new_begins_again_and_keeps_the_old_file(line: str) -> None:
    """The next message makes another file; the same by ^N."""
    async with window(ScriptedEngine()) as it:
        await it.ask("one")
        first = it.session.path
        await command(it, line)
        assert it.said == [] and it.session.path is None
        await it.ask("two")
        assert first is not None and it.session.path not in (None, first)
        assert [turn.text for turn in read_transcript(first)[0]] == ["one", "Hello."]
        await it.press("ctrl+n")
        assert it.said == []


async def test_new_in_mid_reply_keeps_what_there_is() -> None:
    """Nothing that was shown is lost."""
    gate = Semaphore(0)
    async with window(ScriptedEngine("abcdef", gate=gate), gate=gate) as it:
        await it.ask_without_waiting("one")
        await it.send("waiting")
        path = it.session.path
        await it.press("ctrl+n")
        assert it.said == [] and it.chat.prompt.text == "waiting"
        gate.release(9)
        await it.until(lambda: it.session.state == "ready")
        assert it.said == []
        assert path is not None
        assert [turn.text for turn in read_transcript(path)[0]] == ["one", "a"]


async def test_save_load_and_export(tmp_path: Path) -> None:
    """A conversation goes to a chosen file and comes back; exports choose their form by the ending."""
    kept = tmp_path / "my sea.toml"
    async with window(ScriptedEngine()) as it:
        await it.ask("the sea")
        assert str(kept) in await command(it, f"/save {kept}")
        assert it.session.path == kept and "my sea.toml" in it.lines()[0]
        for ending, start in (("md", "# the sea"), ("txt", "You:\nthe sea"), ("json", "{")):
            target = tmp_path / f"out.{ending}"
            assert str(target) in await command(it, f"/export {target}")
            assert target.read_text().startswith(start)
        assert len(json.loads((tmp_path / "out.json").read_text())["turns"]) == 2
        await command(it, "/new")
        await command(it, f'/load "{kept}"')
        await it.send(f"/load {kept}")
        await it.until(lambda: "open already" in it.toasts)
        assert it.said == [("user", "the sea"), ("assistant", "Hello.")]
        await it.send(f"/load {tmp_path / 'nothing.toml'}")
        await it.until(lambda: "nothing.toml" in it.toasts)
        assert len(it.said) == 2
        await it.send(f"/save {kept}")
        await it.until(lambda: "exists already" in it.toasts)


async def test_copy_to_clipboard_and_file(tmp_path: Path) -> None:
    """/copy takes the last reply."""
    async with window(ScriptedEngine()) as it:
        await it.send("/copy")
        await it.until(lambda: "no reply to copy" in it.toasts)
        await it.ask("hi")
        await command(it, "/copy")
        await it.until(lambda: it.app.clipboard == "Hello.")
        await command(it, f"/copy {tmp_path / 'reply.txt'}")
        assert (tmp_path / "reply.txt").read_text() == "Hello.\n"
        await it.send(f"/copy {tmp_path}/no/such/place.txt")
        await it.until(lambda: "cannot be written" in it.toasts)


async def test_regen_undo_and_edit() -> None:
    """Several answers at once; taking a message back; changing it."""
    async with window(CountingEngine()) as it:
        await it.send("/regen")
        await it.until(lambda: "no message to answer" in it.toasts)
        await it.ask("hi")
        await command(it, "/regen 2")
        await it.until(lambda: it.blocks[-1].alternatives == (3, 3) and it.is_idle)
        for shown in ((2, 3), (1, 3)):
            await it.send("/undo")
            assert it.blocks[-1].alternatives == shown and it.chat.prompt.text == ""
        await it.send("/undo")
        assert it.chat.prompt.text == "hi" and it.said == []
        await it.send("/redo")
        assert it.chat.prompt.text == "" and it.said[0] == ("user", "hi")
        await it.send("/undo")
        await it.write("")
        await it.ask("helo")
        await it.send("/edit")
        assert it.chat.prompt.text == "helo"
        await it.write("hello")
        await it.press("enter")
        await it.until(lambda: it.said[0] == ("user", "hello") and len(it.said) == 2 and it.is_idle)


async def test_compacting_takes_a_second_word() -> None:
    """What was deleted can be brought back until it is dropped for good."""
    async with window(CountingEngine()) as it:
        await it.ask("hi")
        await it.select()
        await it.press("d", "d")
        await it.send("/compact")
        assert "Deleted and still kept: 1 turn. /compact yes" in it.notes
        assert it.session.path is not None and b"Answer 1." in it.session.path.read_bytes()
        await it.send("/compact yes")
        assert "Dropped for good: 1 turn." in it.notes
        assert b"Answer 1." not in it.session.path.read_bytes()
        await it.send("/compact now")
        await it.until(lambda: "takes yes or nothing" in it.screen)


async def test_continue_goes_on() -> None:
    """With the reply's own tokens."""
    async with window(ContinuingEngine("abcdef"), config=GREEDY.changed(max_new_tokens=4)) as it:
        await it.send("/continue")
        await it.until(lambda: "no reply to go on with" in it.toasts)
        await it.ask("hi")
        await command(it, "/continue")
        await it.until(lambda: it.said[-1] == ("assistant", "abcdef") and it.is_idle)


async def test_panel_and_heat() -> None:
    """The candidates are shown or not, and the last reply is coloured by a measure or not."""
    async with window(ScriptedEngine()) as it:
        await it.ask("hi")
        await command(it, "/panel off")
        await it.until(lambda: not it.chat.next_token.display)
        await command(it, "/panel on")
        await it.until(lambda: it.chat.next_token.display)
        seen = []
        for measure in ("entropy", "rank", "off"):
            await command(it, "/heat " + measure)
            seen.append(it.blocks[-1].heat)
        assert seen == ["entropy", "rank", "off"]
        await it.send("/heat warm")
        assert it.chat.prompt.text == "/heat warm" and "off, probability, entropy or rank" in it.screen


async def test_stats_and_theme() -> None:
    """Facts of the model and the last reply; another look."""
    async with window(ScriptedEngine()) as it:
        await it.ask("hi")
        notes = await command(it, "/stats")
        assert "Scripted" in notes and "tok/s" in notes and "context 4096" in notes
        await command(it, "/theme day")
        assert it.app.theme == "day"
        await it.send("/theme nosuch")
        await it.until(lambda: "no theme called 'nosuch'" in it.toasts)
        assert it.app.theme == "day"


async def test_a_model_that_runs_otherwise_than_told_says_so() -> None:
    """Header and /stats follow an engine that has to go on without its CUDA graph, and a message tells why."""
    async with window(ChangingEngine()) as it:
        assert "CUDA graph" in it.screen
        await it.ask("hi")
        await it.until(lambda: ChangingEngine.NOTE in it.toasts)
        assert it.session.model is not None and "CUDA graph" not in it.session.model.path_words
        notes = await command(it, "/stats")
        assert ChangingEngine.NOTE in notes and "· CUDA graph" not in notes


async def test_model_opens_another_and_keeps_the_conversation() -> None:
    """A running reply comes to its end, what waits is for the new model, and that knows what was said."""
    gate = Semaphore(0)
    engines = {"": chat_engine("First.", gate=gate), "other": chat_engine("Other.")}
    asked: list[str] = []

    def load(request: LoadRequest, progress: Progress) -> Engine:
        asked.append(request.spec.model)
        return engines[request.spec.model]

    async with window(make_worker=lambda post: InferenceWorker(post, prepares(load)), gate=gate) as it:
        await it.ask_without_waiting("one")
        await it.send("two")
        await it.send("/model other")
        await it.until(lambda: "opens when this reply is done" in it.toasts)
        assert it.session.state == "generating" and asked == [""]
        gate.release(100)
        await it.until(lambda: len(it.said) == 4 and it.is_idle)
        assert asked == ["", "other"]
        assert [text for _, text in it.said] == ["one", "First.", "two", "Other."]
        assert "one" in last_prompt(engines["other"]) and "First." in last_prompt(engines["other"])


async def test_a_model_that_does_not_open_costs_nothing() -> None:
    """A typo in mid-reply is a line; the reply, what waits and the open model go on, and ^R does not ask again."""
    gate = Semaphore(0)

    def load(request: LoadRequest, progress: Progress) -> PreparedModel:
        if request.spec.model == "smolm":
            raise ModelLoadError("There is no model called 'smolm'.")
        return PreparedModel("scripted", lambda: chat_engine("First.", gate=gate))

    async with window(make_worker=lambda post: InferenceWorker(post, load), gate=gate) as it:
        await it.ask_without_waiting("one")
        await it.send("two")
        await it.send("/model smolm")
        gate.release(1)
        await it.until(lambda: "There is no model called 'smolm'. Scripted stays open." in it.notes)
        assert it.session.state == "generating" and it.session.queued == ("two",)
        gate.release(100)
        await it.until(lambda: len(it.said) == 4 and it.is_idle)
        assert [text for _, text in it.said] == ["one", "First.", "two", "First."]
        assert "no model" not in it.status and "Scripted" in it.lines()[0]
        await it.press("ctrl+r")
        await it.until(lambda: len(it.session.transcript) == 5 and it.is_idle)


@pytest.mark.skipif(sys.platform != "linux", reason="the system must tell what memory there is")
async def test_a_model_too_large_for_the_memory_is_asked_about() -> None:
    """Esc and Enter leave the model that is open; the other answer opens the large one, which then replies."""

    def load(request: LoadRequest, progress: Progress) -> PreparedModel:
        footprint = Footprint(2**60 if request.spec.model else 2**20, cache=0, reading=0, host=0)
        return PreparedModel("Large", lambda: chat_engine(request.spec.model or "Small."), footprint)

    async with window(make_worker=lambda post: InferenceWorker(post, load), size=(60, 16)) as it:
        await it.ready()
        for keys in (("escape",), ("enter",)):
            await it.send("/model large")
            await it.until(lambda: isinstance(it.app.screen, QuestionScreen))
            assert "needs about" in drawn(it.app) and "are free" in drawn(it.app) and "Leave it" in drawn(it.app)
            await it.press(*keys)
            assert not isinstance(it.app.screen, QuestionScreen) and it.session.state == "ready"
        assert (await it.ask("hi")).text == "Small."
        await it.send("/model large")
        await it.until(lambda: isinstance(it.app.screen, QuestionScreen))
        await it.press("right", "enter")
        await it.until(lambda: it.session.spec.model == "large")
        assert (await it.ask("hi")).text == "large"


async def test_without_a_model_the_bar_tells_no_figures() -> None:
    """Where the old model cannot come back either, the speed of its last reply is not beside "no model"."""
    engines = [chat_engine("Hello there.")]

    def build() -> Engine:
        if engines:
            return engines.pop()
        raise ModelLoadError("It is gone.")

    def load(request: LoadRequest, progress: Progress) -> PreparedModel:
        return PreparedModel("scripted", build)

    async with window(make_worker=lambda post: InferenceWorker(post, load)) as it:
        await it.ask("hi")
        await it.until(lambda: "tok/s" in it.status)
        await it.send("/model other")
        await it.until(lambda: "no model" in it.status)
        assert "could not be opened again: It is gone." in it.notes and "tok/s" not in it.status


async def test_what_was_said_to_a_model_that_does_not_open_comes_back() -> None:
    """The model before is not asked what was meant for the other."""
    wanted = Event()

    def load(request: LoadRequest, progress: Progress) -> PreparedModel:
        if request.spec.model:
            assert wanted.wait(PATIENCE_SECONDS)
            raise ModelLoadError("It is damaged.")
        return PreparedModel("scripted", chat_engine)

    async with window(make_worker=lambda post: InferenceWorker(post, load)) as it:
        await it.ready()
        await it.send("/model other.gguf")
        await it.send("hello, other")
        wanted.set()
        await it.until(lambda: "It is damaged. Scripted stays open." in it.notes)
        assert it.chat.prompt.text == "hello, other" and it.session.state == "ready" and not it.said


async def test_a_damaged_file_leaves_the_real_model_open(tmp_path: Path, default_model_path: Path) -> None:
    """A download that was cut off, a mistyped name: each is one line, and the next message is answered."""
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(default_model_path.read_bytes()[: 2**21])
    async with window(options=tiny_options()) as it:
        await it.ask("Once")
        for line, words in ((f"/model {cut}", "cut.gguf"), ("/model tinny", "There is no model called 'tinny'")):
            await it.send(line)
            await it.until(lambda words=words: words in it.notes)  # type: ignore[misc]
            assert "tiny stays open." in it.notes and it.session.state == "ready"
        await it.ask("upon a time")
        assert len(it.said) == 4 and it.chat.spec.model == "tiny"


@pytest.mark.parametrize("line", ["/exit", "/quit", "/bye"])
async def test_exit(line: str) -> None:
    """By every name."""
    async with window(ScriptedEngine()) as it:
        await it.send(line)
        await it.until(lambda: it.app.return_value is not None)


async def test_tab_completes_commands() -> None:
    """Names, settings and values."""
    async with window(ScriptedEngine()) as it:
        await it.press(*"/tem", "backspace", "backspace", *"he", "tab")
        assert it.chat.prompt.text.strip() == "/theme"
        await it.press(*"da", "tab")
        assert it.chat.prompt.text.strip() == "/theme day"


def test_every_command_is_tested() -> None:
    """A new command comes with a test of its own."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = [name for spec in COMMANDS for name in (spec.name, *spec.aliases) if f'"/{name}' not in text]
    assert missing == []


async def test_a_refused_command_stays_in_the_prompt() -> None:
    """It is corrected there, not typed anew; what was written meanwhile is not overwritten."""
    async with window(chat_engine("Hello.")) as it:
        await it.ask("one")
        for line in ("/export n.html", "/set min_new_tokens 600"):
            await it.send(line)
            await it.until(lambda: "✗" in it.toasts, line)
            assert it.chat.prompt.text == line
            assert it.chat.prompt.has_class("-refused")
        await it.press("backspace")
        assert not it.chat.prompt.has_class("-refused")
        it.chat.prompt.write("new words")
        it.chat.prompt.refuse("/export n.html", "It is refused.")
        assert it.chat.prompt.text == "new words" and "It is refused." in it.toasts


async def test_messages_that_come_back_together_are_told() -> None:
    """Esc gives back what waited, before what is written: one text with blank lines, and a line that says so."""
    gate = Semaphore(0)
    async with window(chat_engine("First.", gate=gate), gate=gate) as it:
        await it.ask_without_waiting("one")
        await it.send("a")
        await it.send("b")
        await it.write("draft")
        await it.press("escape")
        await it.until(lambda: it.chat.prompt.text == "a\n\nb\n\ndraft", "what waited")
        assert "3 messages are back in the prompt, a blank line between them." in it.toasts
        gate.release(100)
