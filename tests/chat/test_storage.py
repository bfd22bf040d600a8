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
from tests.chat.conversations import NASTY, answer, make_reply, sea_story


def reopened(path: Path) -> Transcript:
    """The conversation in a file, opened without any repair."""
    file, notices = TranscriptFile.open(path)
    file.close()
    assert notices == []
    return file.transcript


def kept(transcript: Transcript, path: Path) -> Path:
    """A closed file that holds the conversation."""
    with TranscriptFile.create(transcript, path) as file:
        return file.path


def test_everything_comes_back(tmp_path: Path) -> None:
    """Every field of every turn and reply survives, and so do header, order and the selected path."""
    transcript = sea_story()
    answer(transcript, "", finish_reason="cancelled", raw=True, prefill_text="Once", continued_ids=(7, 8), changes=())
    turn = Turn("assistant", "shown", parent=transcript.leaf_id, reply=make_reply("not the same"))
    transcript.add(turn)
    again = reopened(kept(transcript, tmp_path / "sea.toml"))
    assert list(again) == list(transcript)
    assert again.path() == transcript.path()
    for name in ("id", "created", "title", "model", "model_path", "tokenizer_path"):
        assert getattr(again, name) == getattr(transcript, name)


@pytest.mark.parametrize("text", NASTY)
def test_no_text_breaks_the_file(tmp_path: Path, text: str) -> None:
    """Any text comes back exactly, through append, through rewrite, and in the side file."""
    transcript = Transcript()
    transcript.say("system", text)
    with TranscriptFile.create(transcript, tmp_path / "a.toml") as file:
        file.append(transcript.say("user", text))
        file.append(answer(transcript, text, finish_detail=text, prefill_text=text, model=text))
        file.append(transcript.say("user", "after"))
        assert [turn.text for turn in read_transcript(file.path)[0]] == [text, text, text, "after"]
        file.rewrite()
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


# ── torn, damaged and foreign files ──────────────────────────────────────────


def test_a_file_torn_at_any_byte_keeps_every_whole_turn(tmp_path: Path) -> None:
    """Wherever an append was interrupted, all turns before it come back, and no half turn does."""
    transcript = Transcript()
    with TranscriptFile.create(transcript, tmp_path / "whole.toml") as file:
        file.append(transcript.say("user", 'first [[turns]]\n\n[[turns]]\n"""\n'))
        file.append(answer(transcript, "ü🙂\n[[turns]]\nlast\n"))
        start = file.path.stat().st_size
        file.append(transcript.say("user", "\n[[turns]]\ntext ü"))
        middle = file.path.stat().st_size
        file.append(answer(transcript, "ü🙂 and\n[[turns]]\nmore"))
    data = file.path.read_bytes()
    turns = list(transcript)
    path = tmp_path / "torn.toml"
    for length in range(start, len(data)):
        path.write_bytes(data[:length])
        found = list(read_transcript(path)[0])
        # A line end that is missing after a whole turn does not make it torn.
        whole = 2 if length < middle - 1 else 3
        assert found == turns[:whole] or (length == len(data) - 1 and found == turns), length


@pytest.mark.parametrize(
    "tail", [b'\n[[turns]]\nid = "x"\nrole = "us', b"\n[[tur", b"\0" * 4096, b'\n[[turns]]\ntext = "\xc3']
)
def test_a_torn_end_is_cut_off_with_a_notice(tmp_path: Path, tail: bytes) -> None:
    """Opening repairs the file, keeps what was cut beside it, and the conversation goes on in it."""
    transcript = sea_story()
    path = kept(transcript, tmp_path / "sea.toml")
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    file, notices = TranscriptFile.open(path)
    assert len(notices) == 1 and "incomplete" in notices[0] and "sea.toml.cut" in notices[0]
    assert path.read_bytes() == whole
    assert (tmp_path / "sea.toml.cut").exists()
    file.append(answer(file.transcript, "and on"))
    file.close()
    assert list(reopened(path)) == list(file.transcript)


def test_reading_alone_repairs_nothing(tmp_path: Path) -> None:
    """Export and replay say that a turn is torn, and leave the file."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    path.write_bytes(path.read_bytes() + b"\n[[turns]]\nid")
    before = path.read_bytes()
    transcript, notices = read_transcript(path)
    assert (len(transcript), len(notices)) == (3, 1)
    assert path.read_bytes() == before


def test_a_last_line_without_its_end_can_be_appended_to(tmp_path: Path) -> None:
    """A file saved by an editor that drops the last line end goes on soundly."""
    transcript = sea_story()
    path = kept(transcript, tmp_path / "sea.toml")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    file, _ = TranscriptFile.open(path)
    file.append(file.transcript.say("user", "more"))
    file.close()
    assert len(reopened(path)) == 4


def test_files_of_other_editors_are_read(tmp_path: Path) -> None:
    """Windows line ends and a byte order mark do no harm."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(reopened(path)) == 3


def test_damage_before_the_end_is_an_error_with_its_line(tmp_path: Path) -> None:
    """Only a torn end is repaired; damage elsewhere is named, and the file left alone."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    lines = path.read_text().split("\n")
    lines[7] = "role = user"
    path.write_text("\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(TranscriptError, match=r"sea\.toml is damaged at line 8: Invalid value"):
        TranscriptFile.open(path)
    path.write_bytes(before.replace(b"Tell me", b"Tell \xff\xfe"))
    with pytest.raises(TranscriptError, match=r"damaged at line \d+: it is not UTF-8"):
        TranscriptFile.open(path)
    assert os.listdir(tmp_path) == ["sea.toml"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema = 1", "schema = 2", "newer llmchat"),
        ("schema = 1", "sheme = 1", "not a transcript"),
        ('role = "assistant"', 'role = "robot"', "turn 2: role must be one of"),
        ('token_ids = "1 22 333"', 'token_ids = "1 x"', "turn 2: token_ids must be whole numbers"),
        ("seed = 8417", 'seed = "8417"', "turn 2: seed must be a whole number"),
        ("temperature = 0.7", "temperature = 70.0", "temperature must be from 0 to 5"),
        ("temperature = 1.2", 'temperature = "hot"', "temperature takes a number"),
        ('finish_reason = "stop"', 'finish_reason = "bored"', "finish_reason must be one of"),
        ("parent = ", 'parent = "nobody" #', "follows 'nobody'"),
        ("seed = 8417", "raw = 1\nseed = 8417", "raw must be true or false"),
        ("prompt_tokens = 12", "prompt_tokens = true", "prompt_tokens must be a whole number"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A value that is not of its kind is an error that says which turn and key, never a crash."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(TranscriptError, match=said):
        TranscriptFile.open(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\x01\x02", b"not toml at all", b"a = 1", b"turns = 3\nschema = 1", b"schema = 1\nturns = [1]"],
)
def test_files_that_are_no_transcripts_are_refused(tmp_path: Path, content: bytes) -> None:
    """Any other file gives one clear line, and is left as it is."""
    path = tmp_path / "other.toml"
    path.write_bytes(content)
    with pytest.raises(TranscriptError, match=r"other\.toml"):
        TranscriptFile.open(path)
    assert path.read_bytes() == content


def test_places_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    """A missing file and a directory are said to be that."""
    with pytest.raises(TranscriptError, match=r"cannot be opened: there is no .*gone\.toml"):
        TranscriptFile.open(tmp_path / "gone.toml")
    with pytest.raises(TranscriptError, match="is a directory"):
        TranscriptFile.open(tmp_path)
    with pytest.raises(TranscriptError, match="cannot be read"):
        read_transcript(tmp_path)


def test_unknown_keys_survive_a_rewrite(tmp_path: Path) -> None:
    """What a newer version or a person has added, anywhere, is still there after a rename."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    text = path.read_text().replace('model = "SmolLM2"\n', 'model = "SmolLM2"\nmood = "calm"\n', 1)
    text = text.replace("top_k = 50", "top_k = 50\ntop_n_sigma = 1.5", 1).replace(
        "seed = 8417", "seed = 8417\nstars = 5", 1
    )
    text += '\n[turns.notes]\nwhere = "here"\n\n[[turns.tags]]\nname = "a"\n\n[[turns.tags]]\n"odd key" = [1, 2]\n'
    text += '\n[mine]\nx = "\\r\\n"\n'
    path.write_text(text)
    before = tomllib.loads(text)
    file, _ = TranscriptFile.open(path)
    file.transcript.title = "Renamed"
    file.rewrite()
    file.append(file.transcript.say("user", "more"))
    file.close()
    after = tomllib.loads(path.read_text())
    assert after.pop("title") == "Renamed" and before.pop("title")
    assert after["turns"][:-1] == before["turns"]
    assert {**after, "turns": []} == {**before, "turns": []}


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


def test_rename_and_delete_rewrite_the_file(tmp_path: Path) -> None:
    """A rewrite holds what the conversation holds, and the file goes on growing after it."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        transcript.title = "Waves"
        transcript.delete(transcript.path()[1].id)
        file.rewrite()
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
    """Two windows on one conversation would tangle it; the second is told, also after a rewrite."""
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
        file.rewrite()
        assert "is open in another llmchat" in other(file.path)
        assert len(read_transcript(file.path)[0]) == 3
    assert other(file.path) == "opened\n"
