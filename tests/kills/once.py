"""`--once --save`: a conversation grows by one exchange a run, until the kill."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from random import Random
from time import monotonic

from llmchat.chat.turn import Turn
from tests.kills.kept import Unkept, conversation
from tests.patience import PATIENCE_SECONDS


def kill(path: Path, number: int, rng: Random) -> str:
    """Ask something, kill the program, and look at what is on the disk; returns how far it was.

    Raises:
        Unkept: Something that was finished is not there.
    """
    before = conversation(path).path() if path.exists() else ()
    words, as_json = f"w{number:05d}w", rng.random() < 0.4
    moment = rng.choice(("start", "start", "output", "output", "output", "end"))
    output = _run(path, words, moment, rng, as_json=as_json)
    text = output.decode(errors="replace")
    finished = _is_object(text) if as_json else text.endswith("\n")
    after = conversation(path).path() if path.exists() else ()
    if after[: len(before)] != before:
        raise Unkept(f"{moment}: of {len(before)} turns before, {len(after)} are there")
    _check(after[len(before) :], words, text, moment, finished=finished, as_json=as_json)
    return "finished" if finished else f"killed at the {moment}"


def _run(path: Path, words: str, moment: str, rng: Random, *, as_json: bool) -> bytes:
    """What the program wrote before it was killed."""
    arguments = [
        "--once",
        "--model",
        "tiny",
        "--prompt",
        words,
        "--save",
        str(path),
        "-n",
        str(rng.choice((5, 60, 400))),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "llmchat", *arguments, *(["--json"] if as_json else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    output, began = b"", monotonic()
    kill_at = began + 2.0 * rng.random() if moment == "start" else float("inf")
    try:
        while monotonic() < kill_at:
            assert monotonic() - began < PATIENCE_SECONDS
            if not select.select([process.stdout], [], [], min(0.01, max(0.0, kill_at - monotonic())))[0]:
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            output += data
            if moment == "output":
                kill_at = min(kill_at, monotonic() + rng.choice((0.0, 0.02, 0.2)) * rng.random())
            elif moment == "end" and output.endswith(b"\n"):
                break
        process.kill()
        # What it had written before the kill is still to be read.
        return output + process.stdout.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _check(new: tuple[Turn, ...], words: str, text: str, moment: str, *, finished: bool, as_json: bool) -> None:
    """Compare what came to the conversation with what was seen."""
    if new and (new[0].role, new[0].text) != ("user", words):
        raise Unkept(f"{moment}: the message is {new[0].text!r}, not {words!r}")
    if text and not new:
        raise Unkept(f"{moment}: there was output, but the message is not there")
    if len(new) > 2:
        raise Unkept(f"{moment}: {len(new)} turns came of one run")
    if not finished:
        return
    reply = new[1].reply if len(new) == 2 else None
    if reply is None or reply.finish_reason not in ("stop", "length"):
        raise Unkept(f"{moment}: the reply that ended is not there")
    shown = json.loads(text)["text"] if as_json else text
    if "".join(reply.text.split()) != "".join(shown.split()):
        raise Unkept(f"{moment}: the reply is {reply.text!r}, shown was {shown!r}")
