"""LoRA adapters through the whole program: flags, settings, transcripts, replay."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llmchat.chat.archive import read_transcript
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec, split_lora
from llmchat.chat.reproduce import as_command
from llmchat.chat.turn import Reply, SettingsChange
from llmchat.session import ChatSession
from llmchat.ui.take_along import recipe_of
from llmchat.worker.messages import NextToken
from tests.conftest import DATA
from tests.patience import PATIENCE_SECONDS
from tests.program import Here
from tests.test_replay import talk as hold
from tests.test_replay_by_hand import LIVELY, talking
from tests.test_take_along import check

MODEL, ADAPTER = DATA / "architectures" / "llama", DATA / "adapters" / "llama"
FLAGS = ("--model", MODEL, "--tokenizer", DATA / "architectures" / "tokenizer")
ASK = (*FLAGS, "--once", "--prompt", "the sea is", "--greedy", "-n", "8", "--json")
SPEC = ModelSpec(str(MODEL), tokenizer=str(DATA / "architectures" / "tokenizer"), lora=str(ADAPTER))


def ids(here: Here, *more: str | Path) -> list[int]:
    """The ids of a reply."""
    done = here(*ASK, *more)
    assert (done.code, done.err) == (0, "")
    found: list[int] = json.loads(done.out)["token_ids"]
    return found


def test_the_flag_adds_an_adapter_by_its_scale(here: Here) -> None:
    """Without a scale all of it, with 0 none; a flag for the scale itself goes first."""
    plain, whole = ids(here), ids(here, "--lora", ADAPTER)
    assert plain != whole
    assert ids(here, "--lora", f"{ADAPTER}:0") == plain
    assert ids(here, "--lora", f"{ADAPTER}:0", "--lora-scale", "1") == whole
    assert json.loads(here(*ASK, "--lora", f"{ADAPTER}:0.5").out)["settings"]["lora_scale"] == 0.5
    assert json.loads(here(*ASK, "--lora", ADAPTER).out)["model"] == "llama+llama"


def test_a_path_may_hold_a_colon(here: Here, tmp_path: Path) -> None:
    """What is there under the whole name is no scale."""
    place = tmp_path / "two:1"
    shutil.copytree(ADAPTER, place)
    assert split_lora(str(place)) == (str(place), None)
    assert split_lora(f"{place}:0.25") == (str(place), 0.25)
    assert split_lora("nowhere:here") == ("nowhere:here", None)
    assert ids(here, "--lora", place) == ids(here, "--lora", ADAPTER)


def test_a_settings_file_names_an_adapter_for_its_model(here: Here, tmp_path: Path) -> None:
    """It is opened with the model of the file, and not with one that a flag names."""
    config = tmp_path / "settings.toml"
    tokenizer = DATA / "architectures" / "tokenizer"
    config.write_text(f'model = "{MODEL}"\ntokenizer = "{tokenizer}"\nlora = "{ADAPTER}:0.5"\n')
    asked = ("--config", config, *ASK[4:])
    done = json.loads(here(*asked).out)
    assert (done["model"], done["settings"]["lora_scale"]) == ("llama+llama", 0.5)
    assert json.loads(here(*asked, "--model", MODEL).out)["model"] == "llama"


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (("--lora", "a", "--lora", "b"), 2, "--lora takes one adapter: merge several into one with PEFT."),
        (("--lora", f"{ADAPTER}:3"), 2, "lora_scale must be from 0 to 2, not 3."),
        (("--lora", "nowhere"), 4, "There is no adapter nowhere."),
    ],
)
def test_mistakes_get_a_line(here: Here, given: tuple[str, ...], code: int, words: str) -> None:
    """Each says what is accepted."""
    done = here(*ASK, *given)
    assert done.code == code
    assert words in done.err


def moving(session: ChatSession, settle: Callable[[], None]) -> None:
    """The scale moves within a reply and between replies, one is gone on with, and one is made without an adapter."""
    session.config = session.config.changed(max_new_tokens=10, seed=7)
    session.send("the sea")
    session.config = session.config.changed(lora_scale=0.3)
    settle()
    session.send("and the ships")
    settle()
    session.config = session.config.changed(lora_scale=1.4)
    session.continue_reply()
    settle()
    session.load_model(ModelSpec(SPEC.model, tokenizer=SPEC.tokenizer))
    settle()
    session.send("alone")
    settle()


def test_replies_under_moving_scales_are_made_again(here: Here, tmp_path: Path) -> None:
    """Each with its adapter, its scales at their tokens, and its prompt under the scale of its first one."""
    path = tmp_path / "talk.toml"
    hold(path, SPEC, moving)
    replies = [turn.reply for turn in read_transcript(path)[0] if turn.reply is not None]
    assert [Path(reply.lora_path).name for reply in replies] == ["llama"] * (len(replies) - 1) + [""]
    assert any("lora_scale" in change.values for reply in replies for change in reply.changes)
    done = here("replay", path)
    assert (done.code, done.err) == (0, ""), done.out
    assert f"{len(replies)} of {len(replies)} replies are the same." in done.out
    shutil.move(path, tmp_path / "moved.toml")
    text = (tmp_path / "moved.toml").read_text().replace(str(ADAPTER), str(tmp_path / "gone"))
    (tmp_path / "moved.toml").write_text(text)
    gone = here("replay", tmp_path / "moved.toml")
    assert f"There is no adapter {tmp_path / 'gone'}." in gone.out
    assert "1 of " in gone.out


def test_a_dragged_scale_is_kept_replayed_and_looked_into(tmp_path: Path) -> None:
    """A move at every token comes out the same, and the inspector shows each place as it was when it was drawn."""
    with talking(tmp_path / "talk.toml", SPEC, LIVELY.changed(max_new_tokens=30, min_new_tokens=30)) as talk:
        talk.drag("lora_scale", iter([round(0.06 * step, 2) for step in range(1, 25)]))
        reply = talk.say("the sea")
        # A move while logits are computed is for the token behind theirs.
        assert [change.token_index for change in reply.changes] == list(range(2, 26))
        leaf = talk.session.transcript.leaf
        assert leaf is not None
        for index in (0, 9, 29):
            talk.session.inspect(leaf.id, index, 500)
            while not isinstance(shown := talk.events.get(timeout=PATIENCE_SECONDS), NextToken):
                pass
            row = next(row for row in shown.rows if row.token_id == reply.token_ids[index])
            assert math.log(row.probability) == pytest.approx(reply.facts[index].logprob, abs=1e-4)
        assert talk.differences() == [None]


def test_a_reply_is_taken_along_with_its_adapter(here: Here, tmp_path: Path) -> None:
    """The command and the Python that are copied open the adapter and take the scale."""
    settings = LIVELY.changed(max_new_tokens=12, min_new_tokens=3, lora_scale=0.7)
    with talking(tmp_path / "talk.toml", SPEC, settings) as talk:
        talk.say("the sea")
        turn = talk.session.transcript.leaf
        assert turn is not None
        check(here, talk, turn, SPEC)
        assert f"--lora {ADAPTER} " in as_command(recipe_of(talk.session, turn, SPEC))


def test_scales_at_each_id_of_a_reply() -> None:
    """Drawn tokens are read under the scale of the token behind them; what was gone on from, all under one."""
    reply = Reply(
        "", (1, 2, 3, 4, 5), "stop", "", GenerationConfig(lora_scale=1.0), 0,
        changes=(SettingsChange(2, 0, {"lora_scale": 0.5}), SettingsChange(4, 0, {"lora_scale": 0.2})),
    )  # fmt: skip
    assert reply.lora_scales(0, 3) == [1.0, 1.0, 1.0]
    assert reply.lora_scales(4, 7) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.2]
    gone_on = Reply("", (1, 2, 3, 4, 5), "stop", "", GenerationConfig(), 0, changes=reply.changes, parts=(3,))
    assert gone_on.lora_scales(4, 7) == [0.5] * 6 + [0.2]
