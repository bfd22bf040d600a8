"""Transcript files that are torn, damaged, or changed by other hands."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from llmchat.chat.storage import TranscriptFile, read_transcript
from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import parse_document
from llmchat.chat.transcript_toml import make_transcript
from llmchat.errors import TranscriptError
from tests.chat.conversations import answer, kept, reopened, sea_story


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
        ("parent = ", 'parent = "nobody" #', "follows 'nobody'"),
        ("seed = 8417", "raw = 1\nseed = 8417", "raw must be true or false"),
        ("prompt_tokens = 12", "prompt_tokens = true", "prompt_tokens must be a whole number"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A value that is not of its kind is an error that says which turn and key, never a crash; opened, it is damage."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(TranscriptError, match=said):
        make_transcript(parse_document(path.read_bytes(), path.name), path.name)
    if not old.startswith("schema"):
        file, notices = TranscriptFile.open(path)
        file.close()
        assert len(notices) == 1 and len(file.transcript) >= 3


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe[[turns]]\n\xff",
        b"schema = 1\n[[turns]]\nid = 1\n\n[[turns]]\nid = 2\n",
        b"",
        b"\x00\x01\x02",
        b"not toml at all",
        b"a = 1",
        b"turns = 3\nschema = 1",
        b"schema = 1\nturns = [1]",
    ],
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


def test_what_is_not_known_survives_a_compaction(tmp_path: Path) -> None:
    """What a newer version or a person has added, keys and records, is still there when the file is written anew."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    text = path.read_text().replace('model = "SmolLM2"\n', 'model = "SmolLM2"\nmood = "calm"\n', 1)
    text = text.replace("top_k = 50", "top_k = 50\ntop_n_sigma = 1.5", 1).replace(
        "seed = 8417", "seed = 8417\nstars = 5", 1
    )
    text += '\n[turns.notes]\nwhere = "here"\n\n[[turns.tags]]\nname = "a"\n\n[[turns.tags]]\n"odd key" = [1, 2]\n'
    text += '\n[[dreams]]\nof = "whales"\n\n[mine]\nx = "\\r\\n"\n'
    path.write_text(text)
    before = tomllib.loads(text)
    file, _ = TranscriptFile.open(path)
    file.transcript.title = "Renamed"
    file.compact()
    file.append(file.transcript.say("user", "more"))
    file.close()
    after = tomllib.loads(path.read_text())
    assert after.pop("title") == "Renamed" and before.pop("title")
    assert after["turns"][:-1] == before["turns"]
    assert {**after, "turns": []} == {**before, "turns": []}
