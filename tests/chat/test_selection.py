"""A conversation opens at the turn where it was left."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from llmchat.chat.archive import list_transcripts, read_transcript
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from tests.chat.conversations import answer, kept, reopened


def three_answers() -> Transcript:
    """A question with three answers, the last of them selected."""
    transcript = Transcript(model="SmolLM2")
    question = transcript.say("user", "Tell me about the sea.")
    for text in ("It sings.", "It roars.", "It sleeps."):
        transcript.stop_at(question.id)
        answer(transcript, text)
    return transcript


def left_at(path: Path, choose: Callable[[Transcript], object]) -> None:
    """Open a file, go to another turn, and close it as a session does."""
    with TranscriptFile.open(path)[0] as file:
        choose(file.transcript)
        file.keep_selection()


def texts(transcript: Transcript) -> list[str]:
    """What is on the path."""
    return [turn.text for turn in transcript.path()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three answers to one question."""
    return kept(three_answers(), tmp_path / "sea.toml")


def test_the_chosen_alternative_is_chosen_again(path: Path) -> None:
    """Also after several visits, and for those who only read the file."""
    first, second, third = (turn.id for turn in list(reopened(path))[1:])
    for chosen in (second, first, third, second):
        left_at(path, lambda transcript, chosen=chosen: transcript.select(chosen))  # type: ignore[misc]
        assert reopened(path).leaf_id == chosen
        assert read_transcript(path)[0].leaf_id == chosen


def test_nothing_is_written_where_nothing_moved(path: Path) -> None:
    """Looking at a conversation leaves its file as it is, and choosing adds to its end."""
    before = path.read_bytes()
    left_at(path, lambda transcript: None)
    assert path.read_bytes() == before
    left_at(path, lambda transcript: transcript.select(list(transcript)[1].id))
    after = path.read_bytes()
    assert after.startswith(before) and len(after) - len(before) < 80
    left_at(path, lambda transcript: None)
    assert path.read_bytes() == after


def test_a_new_turn_goes_before_an_old_choice(path: Path) -> None:
    """What was said last on another branch is where the conversation goes on."""
    left_at(path, lambda transcript: transcript.select(list(transcript)[1].id))
    with TranscriptFile.open(path)[0] as file:
        file.append(file.transcript.say("user", "What does it sing?"))
        file.keep_selection()
    assert texts(reopened(path)) == ["Tell me about the sea.", "It sings.", "What does it sing?"]


def test_a_branching_point_is_kept(path: Path) -> None:
    """Also one before the first turn, where the first message was taken back."""
    left_at(path, lambda transcript: transcript.stop_at(next(iter(transcript)).id))
    assert texts(reopened(path)) == ["Tell me about the sea."]
    left_at(path, lambda transcript: transcript.stop_at(None))
    assert texts(reopened(path)) == []
    left_at(path, lambda transcript: transcript.select(list(transcript)[3].id))
    assert texts(reopened(path)) == ["Tell me about the sea.", "It sleeps."]


def test_files_written_at_once_hold_the_choice_too(path: Path, tmp_path: Path) -> None:
    """A copy under another name, and a file that a compaction made new."""
    transcript = three_answers()
    transcript.select(list(transcript)[1].id)
    assert texts(reopened(kept(transcript, tmp_path / "copy.toml")))[-1] == "It sings."
    with TranscriptFile.open(path)[0] as file:
        file.transcript.delete(list(file.transcript)[3].id)
        file.transcript.select(list(file.transcript)[1].id)
        file.compact()
    assert texts(reopened(path))[-1] == "It sings."


def test_a_torn_choice_costs_no_turn(path: Path) -> None:
    """Cut anywhere, the file opens without a word at its last turn, and can be added to."""
    before = len(path.read_bytes())
    left_at(path, lambda transcript: transcript.select(list(transcript)[1].id))
    whole = path.read_bytes()
    for length in range(before + 6, len(whole), 4):
        path.write_bytes(whole[:length])
        assert texts(read_transcript(path)[0])[-1] == "It sleeps.", whole[before:length]
        assert read_transcript(path)[1] == []
        with TranscriptFile.open(path)[0] as file:
            file.append(file.transcript.say("user", "And then?"))
        assert texts(reopened(path))[-2:] == ["It sleeps.", "And then?"], whole[before:length]
        assert not list(path.parent.glob("*.cut"))


def test_a_choice_that_makes_no_sense_is_passed_over(path: Path) -> None:
    """A hand-edited file opens at its last turn."""
    for words in ('turn = "gone"\nturns = 4', "turn = 3\nturns = 4", "turns = 4", 'turn = "x"\nturns = "4"'):
        path.write_bytes(path.read_bytes() + f"\n[[selections]]\n{words}\n".encode())
        assert texts(reopened(path))[-1] == "It sleeps."


def test_the_file_stays_one_that_others_can_read(path: Path) -> None:
    """It is TOML, turns and choices mixed; lists of conversations count turns alone."""
    left_at(path, lambda transcript: transcript.select(list(transcript)[1].id))
    with TranscriptFile.open(path)[0] as file:
        file.append(file.transcript.say("user", "[[selections]]"))
    table = tomllib.loads(path.read_text())
    assert len(table["turns"]) == 5 and table["selections"][-1]["turns"] == 4
    assert [summary.turn_count for summary in list_transcripts(path.parent)] == [5]


def test_a_file_that_may_only_be_read_is_left_without_a_word(path: Path) -> None:
    """Where nothing can be kept, looking at alternatives is no error."""
    file, _ = TranscriptFile.open(path)
    with file:
        file.writable = False
        file.transcript.select(list(file.transcript)[1].id)
        file.keep_selection()
    assert texts(reopened(path))[-1] == "It sleeps."
