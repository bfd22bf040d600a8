"""The commands and the Python that are copied from a reply, run for real: the same token ids come out."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.model import ModelSpec
from llmchat.chat.reproduce import as_command, as_python
from llmchat.chat.turn import Turn
from llmchat.errors import UsageError
from llmchat.settings import Settings, save_settings
from llmchat.ui.take_along import recipe_of
from tests.checkpoints.runs import save_checkpoint
from tests.patience import PATIENCE_SECONDS
from tests.program import Here
from tests.test_replay_by_hand import LIVELY, LLAMA, TINY, Talk, leaf, talking

SHORT = LIVELY.changed(max_new_tokens=14, min_new_tokens=3)


def check(here: Here, talk: Talk, turn: Turn, spec: ModelSpec) -> None:
    """Run both forms of a reply and compare."""
    assert turn.reply is not None
    recipe = recipe_of(talk.session, turn, spec)
    command = as_command(recipe)
    *comments, line = command.split("\n# ")[-1].rsplit("\n", 1) if command.startswith("#") else [command]
    words = shlex.split(line)[1:]
    if words[0] == "replay":
        # A conversation that is open cannot be written to, but it can be read.
        done = here(*words)
        assert (done.code, done.err) == (0, ""), done.out
        assert f"{turn.id}  same     {len(turn.reply.token_ids)} tokens" in done.out
    else:
        assert not comments
        done = here(*words, "--json")
        assert done.code == 0, done.err
        assert tuple(json.loads(done.out.splitlines()[-1])["token_ids"]) == turn.reply.token_ids
    python = as_python(recipe)
    if not any(words in python for words in ("sliders moved", "by hand", "gone on from", "date of today")):
        names: dict[str, Any] = {}
        exec(python, names)
        assert names["reply"].token_ids == turn.reply.token_ids


def replies(talk: Talk) -> list[Turn]:
    """Every drawn reply of every branch."""
    return [turn for turn in talk.session.transcript if turn.reply is not None]


def test_replies_of_a_young_model(here: Here, tmp_path: Path) -> None:
    """Settings of several kinds, a prefill, a stop string; later prompts too, as each stands alone."""
    with talking(tmp_path / "story.toml", TINY, SHORT) as talk:
        session = talk.session
        talk.say("Once upon a time")
        session.config = session.config.changed(temperature=1.3, top_k=0, min_p=0.05, xtc_probability=0.3)
        session.regenerate()
        talk.settle()
        session.config = session.config.changed(do_sample=False, stop=("e",), banned_tokens=(5, 9))
        session.prefill_text = "The king's"
        talk.say('It\'s a "quoted"\nquestion $HOME `ls`')
        assert len(replies(talk)) == 3
        for turn in replies(talk):
            check(here, talk, turn, TINY)
            assert "--raw" not in as_command(recipe_of(session, turn, TINY))


def test_replies_of_a_chat_model(here: Here, tmp_path: Path) -> None:
    """The first of a conversation by itself, with its system prompt; later ones by the transcript."""
    with talking(tmp_path / "chat.toml", LLAMA, SHORT) as talk:
        session = talk.session
        session.system = "a king"
        talk.say("the sea")
        session.raw = True
        session.regenerate()
        talk.settle()
        session.raw = False
        session.config = session.config.changed(max_new_tokens=6)
        session.choose(leaf(session), -1)
        talk.say("why")
        session.continue_reply()
        talk.settle()
        commands = [as_command(recipe_of(session, turn, LLAMA)) for turn in replies(talk)]
        assert ["--once" in command for command in commands] == [True, True, False, False]
        assert "--system 'a king'" in commands[0] and "--raw" in commands[1]
        for turn in replies(talk):
            check(here, talk, turn, LLAMA)


def test_a_reply_with_moved_sliders_and_one_that_was_stopped(here: Here, tmp_path: Path) -> None:
    """The first takes a replay, which moves them again; the second is made as far as it came."""
    with talking(tmp_path / "hand.toml", TINY, SHORT) as talk:
        talk.drag("temperature", iter([0.5, 1.5]))
        talk.say("Once upon a time")
        count = iter(range(100))
        talk.engine.at_each_token = lambda: next(count) == 4 and talk.session.stop()
        stopped = talk.say("and then")
        assert stopped.finish_reason == "cancelled" and 0 < len(stopped.token_ids) < 14
        moved, cut = replies(talk)
        assert as_command(recipe_of(talk.session, moved, TINY)).startswith("# The sliders moved")
        check(here, talk, moved, TINY)
        check(here, talk, cut, TINY)


def test_a_reply_of_another_checkpoint(here: Here, tmp_path: Path) -> None:
    """The model is the one that made the reply, not the one that is open."""
    spec = ModelSpec(str(save_checkpoint(tmp_path / "step_1.pt", step=1, shake=0.1)), threads=1)
    with talking(tmp_path / "story.toml", spec, SHORT) as talk:
        talk.say("Once upon a time")
        (turn,) = replies(talk)
        assert f"--model {spec.model}" in as_command(recipe_of(talk.session, turn, TINY))
        assert "--tokenizer" not in as_command(recipe_of(talk.session, turn, TINY))
        check(here, talk, turn, TINY)


def test_a_settings_file_does_not_get_in_the_way(here: Here, tmp_path: Path) -> None:
    """What a person keeps as their own settings is left out of the command, their theme is not minded."""
    with talking(tmp_path / "story.toml", TINY, SHORT) as talk:
        talk.say("Once upon a time")
        (turn,) = replies(talk)
        save_settings(Settings(theme="day"))
        assert "--config" not in as_command(recipe_of(talk.session, turn, TINY))
        save_settings(Settings(theme="day", system="Be rude.", generation={"temperature": 0.1, "stop": ("a",)}))
        assert f"--config {os.devnull}" in as_command(recipe_of(talk.session, turn, TINY))
        check(here, talk, turn, TINY)


def test_a_real_shell_and_a_real_interpreter(tmp_path: Path) -> None:
    """Pasted as it stands, prompt with quotes, dollars and line ends included."""
    with talking(tmp_path / "story.toml", TINY, SHORT) as talk:
        talk.say('The king\'s "hat"\ncost $5 `here`; \\ and %s')
        (turn,) = replies(talk)
        recipe = recipe_of(talk.session, turn, TINY)
    wanted = turn.text + "\n"
    program = f'llmchat() {{ {shlex.quote(sys.executable)} -m llmchat "$@"; }}\n{as_command(recipe)}\n'
    for command in (["sh", "-c", program], [sys.executable, "-c", as_python(recipe)]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")


def test_text_of_a_person_is_refused(tmp_path: Path) -> None:
    """Nothing was drawn that could be drawn again."""
    with talking(tmp_path / "story.toml", TINY, SHORT) as talk:
        talk.say("Once")
        with pytest.raises(UsageError, match="that a model drew"):
            recipe_of(talk.session, talk.session.transcript.path()[0], TINY)
