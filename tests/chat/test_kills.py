"""A process that is killed while it keeps a conversation: nothing that was finished is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llmchat.chat.history import Mark
from llmchat.chat.storage import TranscriptFile, read_transcript
from llmchat.chat.transcript import Transcript
from llmchat.chat.transcript_document import table_marks
from llmchat.chat.turn import Turn
from tests.chat.conversations import answer, kept, make_reply, reopened, sea_story
from tests.chat.writer import seen

Event = Turn | Mark


def storm() -> Transcript:
    """A conversation whose log ends with records of every kind."""
    transcript = Transcript()
    transcript.say("user", "What does it do?")
    answer(transcript, 'It sings.\n\n[[turns]]\nid = "x"\n"""', facts=())
    transcript.say("user", "Größer?\nJa 🌊")
    transcript.delete(transcript.path()[-1].id)
    transcript.undo()
    transcript.redo()
    transcript.stop_at(transcript.path()[0].id)
    transcript.say("user", "")
    return transcript


def happened(transcript: Transcript) -> tuple[Event, ...]:
    """What happened, but for a selection at the end: where an opened conversation was left is always noted."""
    log = transcript.log
    return log[:-1] if isinstance(log[-1], Mark) and log[-1].kind == "selections" else log


def test_a_file_that_ends_at_any_byte_has_all_that_was_whole_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read is the beginning of what happened, up to the last whole record or one further; never less."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    transcript = storm()
    path = kept(transcript, tmp_path / "sea.toml")
    whole = path.read_bytes()
    starts = [offset for offset, _ in table_marks(whole)]
    assert len(starts) == len(transcript.log) == 8
    for end in range(starts[1], len(whole)):
        path.write_bytes(whole[:end])
        before = sum(start <= end for start in starts[1:])  # those that another one follows are whole
        found = happened(read_transcript(path)[0])
        assert found == transcript.log[: len(found)] and before <= len(found) + 1, end
        if end % 7 == 0:
            file, _ = TranscriptFile.open(path)
            with file:
                file.append(file.transcript.say("user", "more"))
            assert list(reopened(path)) == list(file.transcript), end


def killed(path: Path, seed: int, count: int | None = None, lines: int = 0) -> list[tuple[str, ...]]:
    """Let a writer change a file until it dies; returns what was seen from the last that it told as done.

    Args:
        path: The file.
        seed: What the writer does.
        count: After how many bytes it kills itself; None: it is killed.
        lines: After how many lines it is killed.
    """
    command = [sys.executable, "-m", "tests.chat.writer", str(path), str(seed)]
    writer = subprocess.Popen(command + ([] if count is None else [str(count)]), stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = [writer.stdout.readline() for _ in range(lines)]
    if count is None:
        writer.kill()
    told += writer.communicate()[0].splitlines(keepends=True)
    assert writer.returncode == -signal.SIGKILL
    words = [line.split() for line in told if line.endswith("\n")]
    done = max((place for place, (word, *_) in enumerate(words) if word == "done"), default=len(words))
    return [tuple(state) for _, *state in words[done:]]


def left_by_kills(path: Path, kills: int, rng: random.Random, *, by_bytes: bool) -> None:
    """Kill writers one after the other; each file must be one of those that its writer might have left."""
    TranscriptFile.create(Transcript(), path).close()
    found = seen(Transcript())
    for number in range(kills):
        if by_bytes:
            states = killed(path, number, count=int(10 ** rng.uniform(1, 5)))
        else:
            states = killed(path, number, lines=rng.randrange(1, 60))
        before, found = found, seen(read_transcript(path)[0])
        # The title is a record of its own, which comes first.
        for word, allowed in zip(found, zip(*(states or [before]), strict=True), strict=True):
            assert word in allowed, f"kill {number}"
        with TranscriptFile.open(path)[0] as file:
            assert seen(file.transcript) == found
            if len(file.transcript) > 40:
                file.transcript.delete(next(iter(file.transcript)).id)
                file.compact()
                found = seen(file.transcript)


@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.parametrize("is_compacted", [False, True])
def test_what_was_kept_of_a_reply_before_it_ended_never_comes_back(
    tmp_path: Path, is_deleted: bool, is_compacted: bool
) -> None:
    """A side file older than the reply itself, left by a kill or a disk that refused, adds nothing."""
    transcript = Transcript()
    with TranscriptFile.create(transcript, tmp_path / "sea.toml") as file:
        file.append(transcript.say("user", "hi"))
        reply = answer(transcript, "whole")
        file.append(reply)
        file.checkpoint(replace(reply, text="who"))
        if is_deleted:
            transcript.delete(reply.id)
            file.keep()
        if is_compacted:
            file.compact()
    assert list(reopened(file.path)) == list(transcript)
    assert os.listdir(tmp_path) == ["sea.toml"]


def test_a_reply_in_progress_that_cannot_be_taken_in_is_kept_aside(tmp_path: Path) -> None:
    """It follows a message that is not in the file, or is damaged: told once, its bytes lie beside the file."""
    transcript = sea_story()
    path = kept(sea_story(), tmp_path / "sea.toml")
    for content in (b'schema = 1\nx = "', unfinished(path, transcript)):
        side = tmp_path / "sea.toml.partial"
        side.write_bytes(content)
        file, notices = TranscriptFile.open(path)
        file.close()
        assert len(notices) == 1 and "sea.toml.cut" in notices[0] and not side.exists()
        assert content in (tmp_path / "sea.toml.cut").read_bytes()
        assert len(reopened(path)) == 3


def unfinished(path: Path, transcript: Transcript) -> bytes:
    """What is kept of a reply in a file's conversation that follows a message of another one."""
    turn = Turn("assistant", "It", parent=transcript.leaf_id, reply=make_reply("It"))
    with TranscriptFile.open(path)[0] as file:
        file.checkpoint(turn)
        return path.with_name("sea.toml.partial").read_bytes()


def test_half_written_files_of_a_killed_process_are_cleared_away(tmp_path: Path) -> None:
    """A kill within a compaction leaves no second copy of what was dropped; files of others stay."""
    path = kept(sea_story(), tmp_path / "sea.toml")
    others = [".sea.toml.tmp", ".sea.toml2.abcdefgh.tmp", "sea.toml.abcdefgh.tmp", ".sea.toml.x.abcdefgh.tmp"]
    for name in (".sea.toml.abcd_f8h.tmp", ".sea.toml.partial.abcdefgh.tmp", *others):
        (tmp_path / name).write_text("x")
    reopened(path)
    assert sorted(os.listdir(tmp_path)) == sorted(["sea.toml", *others])


def test_nothing_finished_is_lost_by_a_kill_within_a_write(tmp_path: Path) -> None:
    """Turns, deletions, steps back and forward, titles, selections, compactions: each is there once it is done."""
    left_by_kills(tmp_path / "sea.toml", 25, random.Random(11), by_bytes=True)


@pytest.mark.stress
@pytest.mark.parametrize("by_bytes", [True, False])
def test_nothing_finished_is_lost_by_200_kills(tmp_path: Path, by_bytes: bool) -> None:
    """The same, the kill coming within a write or from outside at any time."""
    left_by_kills(tmp_path / "sea.toml", 200, random.Random(11), by_bytes=by_bytes)
