"""Transcript files when the disk does not play along: nothing that was kept is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmchat.chat.storage import TranscriptFile, read_transcript
from llmchat.chat.turn import Turn
from llmchat.errors import TranscriptError
from llmchat.paths import transcripts_dir
from tests.chat.conversations import answer, make_reply, sea_story
from tests.faults import file_size_limit, open_directory, read_only, unreadable

UNSAVED = "The conversation is not saved"


def test_a_full_disk_loses_nothing_and_heals(tmp_path: Path) -> None:
    """An append that fails leaves the file sound; what could not be kept is kept with the next turn."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        before = file.path.read_bytes()
        with file_size_limit(len(before) + 100):
            for number in range(2):
                with pytest.raises(TranscriptError, match=UNSAVED):
                    file.append(answer(transcript, f"reply {number}" * 50))
                assert file.path.read_bytes() == before
        file.append(transcript.say("user", "and now?"))
        assert list(read_transcript(file.path)[0]) == list(transcript)


def test_a_turn_deleted_meanwhile_is_not_kept_later(tmp_path: Path) -> None:
    """What could not be kept and was then deleted does not come back."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        with file_size_limit(file.path.stat().st_size + 100), pytest.raises(TranscriptError, match=UNSAVED):
            file.append(answer(transcript, "long" * 100))
        assert transcript.leaf_id is not None
        transcript.delete(transcript.leaf_id)
        file.append(answer(transcript, "short"))
        assert list(read_transcript(file.path)[0]) == list(transcript)


def test_a_compaction_that_fails_leaves_the_file(tmp_path: Path) -> None:
    """A full disk meanwhile costs nothing: the file is as it was, and what was deleted can be brought back."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        transcript.delete(transcript.path()[1].id)
        file.keep()
        before = file.path.read_bytes()
        with file_size_limit(100), pytest.raises(TranscriptError, match=UNSAVED):
            file.compact()
        assert transcript.undo() is not None and len(transcript) == 3
        transcript.title = "Renamed"
        assert file.path.read_bytes() == before
        assert os.listdir(tmp_path) == ["sea.toml"]
        file.append(answer(transcript))
        assert read_transcript(file.path)[0].title == "Renamed"


def test_a_file_that_cannot_be_made_leaves_no_trace(tmp_path: Path) -> None:
    """A failed first save is one line, and no broken file stays."""
    with file_size_limit(10), pytest.raises(TranscriptError, match=UNSAVED):
        TranscriptFile.create(sea_story(), tmp_path / "sea.toml")
    assert os.listdir(tmp_path) == []
    with pytest.raises(TranscriptError, match="there is no"):
        TranscriptFile.create(sea_story(), tmp_path / "gone" / "sea.toml")


def test_a_side_file_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    """The warning about the reply in progress does not come back every second."""
    transcript = sea_story()
    turn = Turn("assistant", "It" * 500, parent=transcript.leaf_id, reply=make_reply())
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        with file_size_limit(100):
            with pytest.raises(TranscriptError, match="reply in progress cannot be kept"):
                file.checkpoint(turn)
            file.checkpoint(turn)
        file.checkpoint(turn)
        with file_size_limit(100), pytest.raises(TranscriptError, match="reply in progress"):
            file.checkpoint(turn)


def test_a_read_only_directory_is_said() -> None:
    """A transcripts directory that may not be written is one line that names it."""
    with open_directory() as directory, read_only(directory), pytest.raises(TranscriptError, match=UNSAVED) as caught:
        TranscriptFile.create(sea_story(), directory / "sea.toml")
    assert "no permission" in caught.value.message


def test_the_own_directory_may_be_impossible(sandbox: Path) -> None:
    """A file where the transcripts directory would be is one line, not a crash."""
    transcripts_dir().parent.mkdir()
    transcripts_dir().write_text("in the way")
    with pytest.raises(TranscriptError, match=f"{UNSAVED}: .*file of that name"):
        TranscriptFile.create(sea_story())


def test_a_read_only_file_can_be_resumed_unsaved() -> None:
    """A conversation on a read-only place opens with a notice, goes on, and is not changed."""
    with open_directory() as directory:
        transcript = sea_story()
        with TranscriptFile.create(transcript, directory / "sea.toml") as made:
            pass
        before = made.path.read_bytes()
        with read_only(directory, made.path):
            file, notices = TranscriptFile.open(made.path)
            assert not file.writable and "unsaved" in notices[0]
            with pytest.raises(TranscriptError, match="it may only be read"):
                file.append(file.transcript.say("user", "more"))
            file.checkpoint(answer(file.transcript))
            with pytest.raises(TranscriptError, match="it may only be read"):
                file.compact()
            file.close()
        assert made.path.read_bytes() == before


def test_an_unreadable_file_is_said() -> None:
    """A file without permission to read is one line."""
    with open_directory() as directory:
        path = directory / "sea.toml"
        path.write_text("schema = 1\n")
        with unreadable(path), pytest.raises(TranscriptError, match="no permission"):
            TranscriptFile.open(path)


def test_a_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """A conversation whose file is deleted under it is whole on the disk after the next turn."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        file.path.unlink()
        file.append(answer(transcript))
        file.append(transcript.say("user", "more"))
        assert list(read_transcript(file.path)[0]) == list(transcript)


def test_a_file_put_in_its_place_is_not_written_over(tmp_path: Path) -> None:
    """An editor that saved its own version keeps it; the person is told to save under another name."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        (tmp_path / "new").write_text("schema = 1\n")
        os.replace(tmp_path / "new", file.path)
        with pytest.raises(TranscriptError, match="another program"):
            file.append(answer(transcript))
        with pytest.raises(TranscriptError, match="another program"):
            file.compact()
        assert file.path.read_text() == "schema = 1\n"


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    """The window and its session may both close the file."""
    file = TranscriptFile.create(sea_story(), tmp_path / "sea.toml")
    file.close()
    file.close()
