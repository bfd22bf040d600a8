"""A program that changes a conversation at random, telling what it does, until it is killed.

Usage: python -m tests.chat.writer FILE SEED [BYTES]

With BYTES it kills itself after as many bytes have been written, in the middle of a write or between two calls.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from tests.chat.conversations import answer

CALL_BYTES = 30
"""What a call that writes nothing takes of the bytes."""


def seen(transcript: Transcript) -> tuple[str, str]:
    """What of a conversation is seen, as two words: its title, and its turns with the selected one."""
    turns = "-".join(turn.id + str(len(turn.text)) for turn in transcript)
    return f"title:{transcript.title.replace(' ', '_')}", f"{transcript.leaf_id}-{turns}"


def main(path: Path, seed: int) -> None:
    """Change the conversation for ever. Each line is a word and what is seen; what is told as done is kept."""
    file, _ = TranscriptFile.open(path)
    say("done", file.transcript)
    rng = random.Random(seed)
    while True:
        act = rng.choice(["say", "say", "delete", "undo", "redo", "title", "select", "compact"])
        for _ in steps(act, file.transcript, rng):
            say("doing", file.transcript)
        if act == "compact":
            file.compact()
        else:
            file.keep()
        say("done", file.transcript)


def steps(act: str, transcript: Transcript, rng: random.Random) -> Iterator[None]:
    """Change a conversation; each step becomes a record of its own."""
    turns = list(transcript)
    if act == "say":
        transcript.say("user", rng.randbytes(rng.randrange(1, 4000)).hex())
        yield
        answer(transcript, "yes", facts=())
    elif act == "delete" and turns:
        transcript.delete(rng.choice(turns).id)
    elif act == "undo":
        transcript.undo()
    elif act == "redo":
        transcript.redo()
    elif act == "title":
        transcript.title = f"title {rng.random()}"
    elif act == "select" and turns:
        transcript.stop_at(rng.choice(turns).id)
        transcript.note_selection()
    yield


def say(word: str, transcript: Transcript) -> None:
    """Tell whoever watches."""
    _write(1, " ".join((word, *seen(transcript), "\n")).encode())


def die_after(count: int) -> None:
    """End this process by SIGKILL once so many bytes have been written."""
    left = count

    def write(handle: int, data: memoryview | bytes) -> int:
        nonlocal left
        if len(data) > left:
            _write(handle, data[:left])
            os.kill(os.getpid(), signal.SIGKILL)
        left -= len(data)
        return _write(handle, data)

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= CALL_BYTES
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return called

    calls: dict[str, Callable[..., Any]] = {"write": write}
    for name in ("fsync", "ftruncate", "replace", "unlink", "open"):
        calls[name] = before(getattr(os, name))
    for name, call in calls.items():
        setattr(os, name, call)


_write = os.write

if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_after(int(sys.argv[3]))
    main(Path(sys.argv[1]), int(sys.argv[2]))
