"""Transcript files: what is said is kept, whatever happens."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from llmchat.chat.storage import TranscriptFile, latest_transcript, list_transcripts, read_transcript
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Turn
from llmchat.errors import TranscriptError
from llmchat.paths import transcripts_dir
from tests.chat.conversations import NASTY, answer, kept, make_reply, reopened, sea_story


def test_everything_comes_back(tmp_path: Path) -> None:
    """Every field of every turn and reply survives, and so do header, order and the selected path."""
    transcript = sea_story()
    answer(transcript, "", finish_reason="cancelled", raw=True, prefill_text="Once", changes=())
    turn = Turn("assistant", "shown", parent=transcript.leaf_id, reply=make_reply("not the same"))
    transcript.add(turn)
    again = reopened(kept(transcript, tmp_path / "sea.toml"))
    assert list(again) == list(transcript)
    assert again.path() == transcript.path()
    for name in ("id", "created", "title", "model", "model_path", "tokenizer_path"):
        assert getattr(again, name) == getattr(transcript, name)


@pytest.mark.parametrize("text", NASTY)
def test_no_text_breaks_the_file(tmp_path: Path, text: str) -> None:
    """Any text comes back exactly, through append, through a compaction, and in the side file."""
    transcript = Transcript()
    transcript.say("system", text)
    with TranscriptFile.create(transcript, tmp_path / "a.toml") as file:
        file.append(transcript.say("user", text))
        file.append(answer(transcript, text, finish_detail=text, prefill_text=text, model=text))
        file.append(transcript.say("user", "after"))
        assert [turn.text for turn in read_transcript(file.path)[0]] == [text, text, text, "after"]
        unfinished = Turn("assistant", text + "x", parent=transcript.leaf_id, reply=make_reply(text + "x"))
        file.checkpoint(unfinished)
    again, notices = TranscriptFile.open(file.path)
    again.close()
    assert list(again.transcript)[:-1] == list(transcript)
    assert again.transcript.path()[-1].text == text + "x"
    assert len(notices) == 1


def test_lone_surrogates_are_made_safe(tmp_path: Path) -> None:
    """Text that UTF-8 cannot hold is kept with stand-ins; halves that belong together are joined."""
    transcript = Transcript()
    transcript.say("user", "a\ud800b \ud83d\ude00")
    assert next(iter(reopened(kept(transcript, tmp_path / "a.toml")))).text == "a\ufffdb 😀"


def test_a_file_only_grows(tmp_path: Path) -> None:
    """An append leaves every byte that was there, and is on the disk when it returns; files are private."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        for text in NASTY:
            before = file.path.read_bytes()
            file.append(answer(transcript, text))
            assert file.path.read_bytes().startswith(before)
            assert read_transcript(file.path)[0].leaf == transcript.leaf
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["sea.toml"]


def test_the_file_is_readable_toml(tmp_path: Path) -> None:
    """Another program finds the promised keys: ids in one string, changes with their token index."""
    table = tomllib.loads(kept(sea_story(), tmp_path / "sea.toml").read_text())
    assert table["schema"] == 1
    reply = table["turns"][1]
    assert reply["token_ids"] == "1 22 333"
    assert reply["changes"][0] == {"token_index": 1, "text_offset": 3, "temperature": 1.2, "top_k": 0}
    assert reply["settings"]["stop"] == ["\n\n", "User:"]
    assert reply["parent"] == table["turns"][0]["id"]


def test_a_seed_that_was_unlocked_is_kept_as_a_change(tmp_path: Path) -> None:
    """TOML has no null: a seed set back to rolling comes back as None."""
    transcript = Transcript()
    change = replace(make_reply().changes[0], values={"seed": None})
    answer(transcript, changes=(change,))
    reply = next(iter(reopened(kept(transcript, tmp_path / "a.toml")))).reply
    assert reply is not None and reply.changes == (change,)


# ── the reply in progress ────────────────────────────────────────────────────


def test_a_killed_reply_is_recovered(tmp_path: Path) -> None:
    """What there was of a reply when the process died is taken in as a cancelled reply, once."""
    transcript = sea_story()
    file = TranscriptFile.create(transcript, tmp_path / "sea.toml")
    turn = Turn("assistant", "It si", parent=transcript.leaf_id, reply=make_reply("It si"))
    file.checkpoint(replace(turn, text="It"))
    file.checkpoint(turn)
    file.close()
    assert stat.S_IMODE((tmp_path / "sea.toml.partial").stat().st_mode) == 0o600
    again, notices = TranscriptFile.open(file.path)
    again.close()
    assert len(notices) == 1 and "recovered" in notices[0]
    recovered = again.transcript.leaf
    assert recovered is not None and recovered.reply is not None
    assert (recovered.id, recovered.text, recovered.reply.finish_reason) == (turn.id, "It si", "cancelled")
    assert os.listdir(tmp_path) == ["sea.toml"]
    assert list(reopened(file.path)) == [*transcript, recovered]


def test_a_reply_that_was_kept_is_not_recovered_again(tmp_path: Path) -> None:
    """Dying between the append and the removal of the side file doubles nothing."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        turn = answer(transcript, "whole")
        file.append(turn)
        file.checkpoint(turn)
    assert len(reopened(file.path)) == 4
    assert os.listdir(tmp_path) == ["sea.toml"]


def test_an_ended_reply_clears_the_side_file(tmp_path: Path) -> None:
    """After a reply is kept there is nothing beside the file; a person's turn leaves it."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        file.checkpoint(Turn("assistant", "It", parent=transcript.leaf_id, reply=make_reply("It")))
        file.append(transcript.say("user", "wait"))
        assert len(os.listdir(tmp_path)) == 2
        file.append(answer(transcript))
        assert os.listdir(tmp_path) == ["sea.toml"]


@pytest.mark.parametrize("content", [b"", b"schema = 1", b"\xff", b'\n[[turns]]\ntext = "a'])
def test_a_useless_side_file_stops_nothing(tmp_path: Path, content: bytes) -> None:
    """The conversation opens whatever lies beside it."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    (tmp_path / "sea.toml.partial").write_bytes(content)
    file, _ = TranscriptFile.open(path)
    file.close()
    assert len(file.transcript) == 3


def test_a_side_file_of_another_conversation_is_not_taken_in(tmp_path: Path) -> None:
    """A new conversation under an old name does not inherit a reply."""
    other = sea_story()
    with TranscriptFile.create(other, tmp_path / "sea.toml") as file:
        file.checkpoint(Turn("assistant", "It", parent=other.leaf_id, reply=make_reply("It")))
    file.path.unlink()
    assert len(reopened(kept(sea_story(), file.path))) == 3


# ── changing, naming, finding ────────────────────────────────────────────────


def test_rename_and_delete_are_records_at_the_end_of_the_file(tmp_path: Path) -> None:
    """The file only grows: what was there before stays byte for byte, and what is read is what there is now."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        before = file.path.read_bytes()
        transcript.title = "Waves"
        transcript.delete(transcript.path()[1].id)
        file.keep()
        assert file.path.read_bytes().startswith(before)
        file.append(answer(transcript, "again"))
        assert os.listdir(tmp_path) == ["sea.toml"]
    again = reopened(file.path)
    assert (again.title, list(again)) == ("Waves", list(transcript))


def test_a_model_that_is_known_later_reaches_the_header(tmp_path: Path) -> None:
    """The first prompt may be kept before the model is open; its name comes in with the next turn."""
    transcript = Transcript()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        file.append(transcript.say("user", "Tell me about the sea."))
        transcript.model, transcript.model_path = "SmolLM2", "/m.gguf"
        file.append(answer(transcript))
    again = reopened(file.path)
    assert (again.model, again.model_path, again.title) == ("SmolLM2", "/m.gguf", "Tell me about the sea.")
    assert list(again) == list(transcript)


def test_names_say_when_and_what_and_never_clash() -> None:
    """Files are named after date, time and title, each its own."""
    paths = []
    for _ in range(3):
        with TranscriptFile.create(sea_story()) as file:
            paths.append(file.path)
    stem = f"{file.transcript.created.astimezone():%Y-%m-%d}-"
    assert all(path.parent == transcripts_dir() and path.name.startswith(stem) for path in paths)
    assert paths[0].stem.endswith("-tell-me-about-the-sea")
    assert len(set(paths)) == 3


@pytest.mark.parametrize("text", ["../../etc/passwd", "漢字" * 100, "???", "\x00\n/", "a" * 500])
def test_no_title_makes_a_bad_name(text: str) -> None:
    """Whatever is asked first, the file lies in its directory under a name that works."""
    transcript = Transcript()
    transcript.say("user", text)
    with TranscriptFile.create(transcript) as file:
        assert file.path.parent == transcripts_dir()
    assert len(reopened(file.path)) == 1


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    """Saving to a name that is taken is refused."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    before = path.read_bytes()
    with pytest.raises(TranscriptError, match="exists already"):
        TranscriptFile.create(Transcript(), path)
    assert path.read_bytes() == before


def test_the_list_is_newest_first_and_passes_over_the_rest(tmp_path: Path) -> None:
    """A list shows title, model and the exact number of turns, also of texts that look like turns."""
    assert (list_transcripts(), latest_transcript()) == ([], None)
    old = Transcript(model="SmolLM2")
    old.say("system", "Be brief.")
    old.say("user", NASTY[14])
    answer(old, '"""\n\n[[turns]]\n')
    first = kept(old, tmp_path / "old.toml")
    second = kept(sea_story(), tmp_path / "new.toml")
    os.utime(first, (1_000_000, 1_000_000))
    (tmp_path / "broken.toml").write_text("schema = ")
    (tmp_path / "notes.txt").write_text("hello")
    found = list_transcripts(tmp_path)
    assert [(item.path, item.turn_count, item.model) for item in found] == [
        (second, 3, "SmolLM2"),
        (first, 3, "SmolLM2"),
    ]
    assert found[1].title.startswith("a pasted file")
    assert latest_transcript(tmp_path) == second
    os.utime(second, (1_000, 1_000))
    assert latest_transcript(tmp_path) == first


# ── two processes ────────────────────────────────────────────────────────────


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Two windows on one conversation would tangle it; the second is told, also after a compaction."""
    code = (
        "import sys, pathlib; from llmchat.chat.storage import *; from llmchat.errors import *\n"
        "try: TranscriptFile.open(pathlib.Path(sys.argv[1])); print('opened')\n"
        "except TranscriptError as error: print(error.message)"
    )

    def other(path: Path) -> str:
        command = [sys.executable, "-c", code, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with TranscriptFile.create(sea_story(), tmp_path / "sea.toml") as file:
        assert "is open in another llmchat" in other(file.path)
        file.compact()
        assert "is open in another llmchat" in other(file.path)
        assert len(read_transcript(file.path)[0]) == 3
    assert other(file.path) == "opened\n"
