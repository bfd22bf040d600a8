"""A transcript file that is damaged in its middle: what stands around the damage is there, and no byte is lost."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from llmchat.chat.archive import list_transcripts
from llmchat.chat.storage import TranscriptFile, read_transcript
from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import turn_offsets
from llmchat.chat.transcript_salvage import STAND_IN
from llmchat.errors import TranscriptError
from tests.chat.conversations import answer, kept, reopened


def long_story() -> Transcript:
    """Four questions with their answers."""
    transcript = Transcript(model="SmolLM2")
    for text in ("One?", "Two?", "Three?", "Four?"):
        transcript.say("user", text)
        answer(transcript, f"{text} Yes.\nAnd [[turns]]\n\n[[turns]]\nmore.")
    return transcript


def in_turn(place: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """A file with one of its turns changed."""

    def damage(data: bytes) -> bytes:
        offsets = [*turn_offsets(data), len(data)]
        start, end = offsets[place], offsets[place + 1]
        return data[:start] + change(data[start:end]) + data[end:]

    return damage


def ids(data: bytes) -> list[bytes]:
    """The ids of a file's turns."""
    return re.findall(rb'\[\[turns\]\]\nid = "(\w+)"', data)


DAMAGES = {
    "no UTF-8": in_turn(2, lambda turn: turn.replace(b"Two", b"T\xff\xfe")),
    "a broken line": in_turn(2, lambda turn: turn.replace(b'role = "user"', b"role = user")),
    "a quote that is gone": in_turn(2, lambda turn: turn.replace(b'"Two?"', b'"Two?')),
    "a hole of zeros": in_turn(2, lambda turn: turn[:5] + bytes(len(turn) - 20) + turn[-15:]),
    "a whole turn of zeros": in_turn(2, lambda turn: bytes(len(turn))),
    "nested too deeply": in_turn(2, lambda turn: turn + b"x = " + b"[" * 3000 + b"]" * 3000 + b"\n"),
    "a long number": in_turn(2, lambda turn: turn.replace(b"created = ", b"n = " + b"1" * 5000 + b"\ncreated = ")),
    "a year": in_turn(2, lambda turn: turn.replace(b"created = 2", b"created = 0001-01-01 00:00:00Z\nx = 2")),
    "a role that there is not": in_turn(2, lambda turn: turn.replace(b'role = "user"', b'role = "robot"')),
    "a number for a text": in_turn(2, lambda turn: turn.replace(b'"Two?"', b"2")),
    "a text for a time": in_turn(2, lambda turn: turn.replace(b"created = ", b'created = "" # ')),
    "the id of another turn": lambda data: in_turn(2, lambda turn: turn.replace(ids(data)[2], ids(data)[0]))(data),
    "a list for an id": lambda data: in_turn(2, lambda turn: turn.replace(b'"' + ids(data)[2] + b'"', b"[1]"))(data),
    "half a turn": in_turn(2, lambda turn: turn[: len(turn) // 2]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with eight turns."""
    return kept(long_story(), tmp_path / "sea.toml")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_the_turns_around_the_damage_are_read(path: Path, damage: Callable[[bytes], bytes]) -> None:
    """The third turn is lost, but for a word in its place; the others are one conversation, and the lines are named."""
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    before = path.read_bytes()
    transcript, notices = read_transcript(path)
    texts = [turn.text.partition("\n")[0] for turn in transcript.path()]
    assert texts in (
        ["One?", "One? Yes.", STAND_IN, "Two? Yes.", "Three?", "Three? Yes.", "Four?", "Four? Yes."],
        ["One?", "One? Yes.", "Two?", "Two? Yes.", "Three?", "Three? Yes.", "Four?", "Four? Yes."],
    )
    line = whole[: turn_offsets(whole)[2]].count(b"\n") + 1
    assert len(notices) == 1 and "sea.toml is damaged" in notices[0]
    assert line <= int(notices[0].partition(" line ")[2].split()[0].rstrip(":")) <= line + 12
    assert path.read_bytes() == before
    assert [summary.turn_count >= 7 for summary in list_transcripts(path.parent)] == [True]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_opened_the_file_is_whole_again_and_what_is_lost_lies_beside_it(
    path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """The conversation goes on in it; every byte is in the file or in its remains."""
    path.write_bytes(damage(path.read_bytes()))
    before, lost = path.read_bytes(), path.with_name("sea.toml.cut")
    file, notices = TranscriptFile.open(path)
    assert "sea.toml.cut" in notices[0]
    with file:
        file.append(file.transcript.say("user", "Five?"))
    again = reopened(path)
    assert list(again) == list(file.transcript)
    left = path.read_bytes() + lost.read_bytes()
    assert all(line in left for line in before.splitlines())


def test_what_is_inserted_costs_no_turn(path: Path) -> None:
    """Lines of another program between two turns are all that is left out."""
    data = path.read_bytes()
    middle = turn_offsets(data)[3]
    path.write_bytes(data[:middle] + b"\n!!! not toml !!!\n\xff\n" + data[middle:])
    assert list(read_transcript(path)[0]) == list(long_story_of(data, path))


def long_story_of(data: bytes, path: Path) -> Transcript:
    """The conversation in some bytes."""
    whole = path.with_name("whole.toml")
    whole.write_bytes(data)
    return read_transcript(whole)[0]


def test_a_turn_that_follows_one_that_is_not_there_is_read(path: Path) -> None:
    """As where a turn was taken out with an editor: a word stands in its place, and that is told once."""
    data = path.read_bytes()
    start, end = turn_offsets(data)[2:4]
    path.write_bytes(data[:start] + data[end:])
    file, notices = TranscriptFile.open(path)
    file.close()
    assert notices == ["sea.toml lacks a turn that another one follows; a word stands in its place."]
    assert [turn.text for turn in file.transcript.path()][2] == STAND_IN and len(file.transcript) == 8
    assert list(reopened(path)) == list(file.transcript)
    assert [item.name for item in path.parent.iterdir()] == ["sea.toml"]


def test_a_damaged_beginning_costs_title_and_model_alone(path: Path) -> None:
    """The turns are there, and the file can be gone on with."""
    path.write_bytes(b'format = "llm\x00' + path.read_bytes()[20:])
    file, notices = TranscriptFile.open(path)
    file.close()
    assert len(file.transcript) == 8 and "at line 1" in notices[0]
    assert len(reopened(path)) == 8


def test_a_damaged_file_that_may_only_be_read_is_left_alone(path: Path) -> None:
    """It is read around the damage, and neither it nor its directory is changed."""
    path.write_bytes(DAMAGES["no UTF-8"](path.read_bytes()))
    before = path.read_bytes()
    path.chmod(0o400)
    file, notices = TranscriptFile.open(path)
    file.close()
    if not file.writable:
        assert any("damaged" in notice for notice in notices)
        assert path.read_bytes() == before and [item.name for item in path.parent.iterdir()] == ["sea.toml"]


def test_any_damage_ends_in_a_conversation_or_in_one_sentence(path: Path) -> None:
    """Bytes changed, lost, doubled or zeroed at random: nothing but llmchat's own error, and never a wrong tree."""
    whole, rng = path.read_bytes(), random.Random(8)
    read = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(data))
            end = start + rng.choice((1, 1, 3, 40, 500))
            data[start:end] = rng.choice((rng.randbytes(end - start), b"", bytes(end - start), data[start:end] * 2))
        path.write_bytes(data)
        try:
            transcript, _ = read_transcript(path)
        except TranscriptError as error:
            assert len(error.message) < 500
            continue
        read += 1
        for turn in transcript:
            assert turn.parent is None or turn.parent in transcript
    assert read > 200
