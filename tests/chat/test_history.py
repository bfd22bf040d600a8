"""Taking changes of a conversation back, and what the file has of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from llmchat.chat.archive import list_transcripts
from llmchat.chat.storage import TranscriptFile, read_transcript
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Turn
from tests.chat.conversations import answer, kept, reopened, sea_story


def texts(transcript: Transcript) -> list[str]:
    """What is on the path."""
    return [turn.text for turn in transcript.path()]


def state(transcript: Transcript) -> tuple[object, ...]:
    """Everything that is seen of a conversation."""
    turns = list(transcript)
    beside = {turn.id: [other.id for other in transcript.alternatives(turn.id)] for turn in turns}
    return turns, transcript.leaf_id, beside


def test_every_step_can_be_taken_back_and_made_again() -> None:
    """A message with its reply, another reply, an edit, a deletion: one step each, the last one first."""
    transcript = Transcript()
    first = transcript.say("user", "One?")
    answer(transcript, "Yes.")
    seen = [texts(transcript)]
    transcript.add(Turn("assistant", "No.", parent=first.id))
    seen.append(texts(transcript))
    transcript.edit(first.id, "Uno?")
    answer(transcript, "Si.")
    seen.append(texts(transcript))
    transcript.delete(transcript.path()[1].id)
    seen.append(texts(transcript))
    assert seen == [["One?", "Yes."], ["One?", "No."], ["Uno?", "Si."], ["Uno?"]]
    for before in (*reversed(seen[:-1]), []):
        assert transcript.undo() is not None
        assert texts(transcript) == before
    assert transcript.undo() is None
    for after in seen:
        assert transcript.redo() is not None
        assert texts(transcript) == after
    assert transcript.redo() is None


def test_what_is_brought_back_is_where_it_was() -> None:
    """With all its branches, at its place among the alternatives, and selected as before."""
    transcript = sea_story()
    question = transcript.path()[0]
    for text in ("It roars.", "It sleeps."):
        transcript.add(Turn("assistant", text, parent=question.id))
    transcript.select(transcript.children(question.id)[0].id)
    before = state(transcript)
    for turn in (transcript.children(question.id)[0], question):
        transcript.delete(turn.id)
    transcript.undo()
    transcript.undo()
    assert state(transcript) == before


def test_what_was_said_elsewhere_is_passed_over() -> None:
    """On the branch of an older reply, undoing takes the message back, and not the newer reply that is not seen."""
    transcript = Transcript()
    question = transcript.say("user", "One?")
    first = answer(transcript, "Yes.")
    transcript.add(Turn("assistant", "No.", parent=question.id))
    transcript.select(first.id)
    step = transcript.undo()
    assert step is not None and step.message == "One?" and texts(transcript) == []


def test_something_new_ends_redoing() -> None:
    """What was taken back stays as an alternative, and is not put over what was said since."""
    transcript = sea_story()
    transcript.undo()
    transcript.say("user", "Why?")
    assert transcript.redo() is None
    assert [turn.text for turn in transcript.alternatives(transcript.path()[-1].id)] == ["What does it sing?", "Why?"]


# ── the file ─────────────────────────────────────────────────────────────────


def test_a_deletion_is_a_record_and_can_be_taken_back_after_reopening(tmp_path: Path) -> None:
    """The file only grows; whoever reads it sees what is there, and any number of steps back is possible."""
    transcript = sea_story()
    path = tmp_path / "sea.toml"
    with TranscriptFile.create(transcript, path) as file:
        transcript.delete(transcript.path()[2].id)
        transcript.delete(transcript.path()[0].id)
        file.keep()
    assert len(read_transcript(path)[0]) == len(reopened(path)) == 0
    for count in (2, 3):
        before = path.read_bytes()
        with TranscriptFile.open(path)[0] as file:
            file.transcript.undo()
            file.keep()
        assert path.read_bytes().startswith(before)
        assert len(reopened(path)) == count
    with TranscriptFile.open(path)[0] as file:
        file.transcript.redo()
        file.keep()
    assert len(reopened(path)) == 2


def test_lists_show_what_is_left(tmp_path: Path) -> None:
    """Deleted turns count neither for the title nor for the number of turns, until they are brought back."""
    transcript = Transcript()
    path = tmp_path / "sea.toml"
    with TranscriptFile.create(transcript, path) as file:
        for text in ("One?", "Two?"):
            transcript.stop_at(None)
            file.append(transcript.say("user", text))
            file.append(answer(transcript))
        transcript.delete(transcript.children(None)[0].id)
        file.keep()
        assert [summary.turn_count for summary in list_transcripts(tmp_path)] == [2]
        transcript.undo()
        file.keep()
        assert [summary.turn_count for summary in list_transcripts(tmp_path)] == [4]
        transcript.title = "Numbers"
        file.keep()
    assert [summary.title for summary in list_transcripts(tmp_path)] == ["Numbers"]


@pytest.mark.parametrize("seed", range(30))
def test_the_file_makes_the_same_conversation_whatever_happened(tmp_path: Path, seed: int) -> None:
    """Random changes, each on the disk: read anew at any moment, it is the same tree, and so is every step back."""
    rng, transcript = random.Random(seed), Transcript()
    path = tmp_path / "sea.toml"
    file = TranscriptFile.create(transcript, path)
    for number in range(40):
        turns = list(transcript)
        some = rng.choice(turns).id if turns else None
        match rng.choice(("say", "answer", "edit", "delete", "undo", "undo", "redo", "select", "stop", "reopen")):
            case "say":
                transcript.say("user", f"{number}?")
            case "answer" if transcript.leaf is not None:
                answer(transcript, f"{number}.", facts=())
            case "edit" if some:
                transcript.edit(some, f"{number}!")
            case "delete" if some:
                transcript.delete(some)
            case "undo":
                transcript.undo()
            case "redo":
                transcript.redo()
            case "select" if some:
                transcript.select(some)
            case "stop":
                transcript.stop_at(some)
            case "reopen":
                file.keep_selection()
                file.close()
                file, notices = TranscriptFile.open(path)
                assert notices == []
                transcript = file.transcript
        before = path.read_bytes()
        file.keep_selection()
        assert path.read_bytes().startswith(before)
        assert state(read_transcript(path)[0]) == state(transcript)
    file.close()
    again, copy = read_transcript(path)[0], reopened(kept(transcript, tmp_path / "copy.toml"))
    while (step := transcript.undo()) is not None:
        for other in (again, copy):
            same = other.undo()
            assert same is not None and same.turns == step.turns
            assert state(other) == state(transcript)
    assert again.undo() is copy.undo() is None


def test_a_file_cut_at_any_byte_opens_with_all_that_was_finished(tmp_path: Path) -> None:
    """Killed while a deletion, an undo or a title is written: what was before is there, and nothing is said."""
    transcript = sea_story()
    path = tmp_path / "sea.toml"
    with TranscriptFile.create(transcript, path) as file:
        states, ends = [state(transcript)], [len(path.read_bytes())]
        for act in (lambda: transcript.delete(transcript.path()[1].id), transcript.undo, transcript.redo):
            act()
            file.keep()
            states.append(state(transcript))
            ends.append(len(path.read_bytes()))
    data = path.read_bytes()
    for length in range(ends[0], len(data) + 1):
        path.write_bytes(data[:length])
        read, notices = read_transcript(path)
        assert state(read) == states[max(place for place, end in enumerate(ends) if end <= length)]
        tail = data[max(end for end in ends if end <= length) : length]
        assert notices == [] or len(tail.strip()) < 3


def test_a_compaction_drops_what_was_deleted_and_nothing_else(tmp_path: Path) -> None:
    """Its words are gone from the disk; what was said can still be taken back."""
    transcript = Transcript()
    path = tmp_path / "sea.toml"
    with TranscriptFile.create(transcript, path) as file:
        for text in ("secret words", "Two?", "Three?"):
            file.append(transcript.say("user", text))
            file.append(answer(transcript, f"{text} Yes."))
        transcript.delete(transcript.path()[4].id)
        transcript.edit(transcript.path()[0].id, "One?")
        transcript.delete(transcript.alternatives(transcript.path()[0].id)[0].id)
        file.compact()
        assert texts(transcript) == ["One?"] and transcript.deleted == frozenset()
        assert b"secret" not in path.read_bytes()
        file.append(answer(transcript, "Yes."))
    again = reopened(path)
    assert state(again) == state(transcript)
    assert again.title == "One?"
    assert again.undo() is not None and texts(again) == []


def test_what_is_left_of_a_step_can_be_made_again_after_a_compaction(tmp_path: Path) -> None:
    """A message whose reply was dropped for good is taken back and said again without it."""
    transcript = sea_story()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        transcript.delete(transcript.path()[1].id)
        file.compact()
        for conversation in (transcript, read_transcript(file.path)[0]):
            conversation.undo()
            assert texts(conversation) == []
            assert conversation.redo() is not None
            assert texts(conversation) == ["Tell me about the sea."]
