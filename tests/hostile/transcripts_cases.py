"""Transcripts: conversations with every kind of record, damaged in bytes, values, order and references."""

from __future__ import annotations

import contextlib
import random
import tempfile
import tomllib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from llmchat.chat.archive import list_transcripts, read_head, read_transcript
from llmchat.chat.export import to_json, to_markdown, to_text
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.reply_metrics import measure
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, SettingsChange, TokenFacts, Turn
from llmchat.errors import TranscriptError
from tests.hostile.damage import damaged, damaged_text
from tests.hostile.formats import Untrue
from tests.hostile.trees import damaged_tree, strange_value, toml_text

_NAME = "talk.toml"
_KEPT = "words that are kept: é 你好"


@cache
def _conversation() -> bytes:
    """The bytes of a conversation in which everything happened."""
    dice = random.Random(1)
    words = iter(f"{dice.getrandbits(48):012x}" for _ in range(1000))
    moment = datetime(2026, 1, 31, 18, 4, 11, tzinfo=UTC)

    def turn(role: Any, text: str, parent: Turn | None, reply: Reply | None = None) -> Turn:
        return Turn(role, text, None if parent is None else parent.id, next(words), moment, reply)

    def answer(text: str) -> Reply:
        count = len(text.split())
        facts = tuple(TokenFacts(4 * place, -0.5 - place, -0.25, place, 2.5) for place in range(count))
        return Reply(
            text,
            tuple(range(count)),
            "stop",
            "end token </s>",
            GenerationConfig(temperature=1.2, stop=("\n",), mirostat_tau=2.0),
            7,
            model="tiny",
            model_path="/models/tiny.pt",
            tokenizer_path="/models/tokenizer.model",
            prompt_tokens=12,
            cached_tokens=3,
            changes=(SettingsChange(1, 4, {"temperature": 0.3, "stop": ("a", "b")}),),
            facts=facts,
            forced=((1, 5),),
            parts=(2,),
            prefill_text=text[:3],
        )

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / _NAME
        transcript = Transcript(model="tiny", model_path="/models/tiny.pt")
        with TranscriptFile.create(transcript, path) as file:
            parent: Turn | None = None
            for place_in_talk in range(3):
                for role, text in (
                    ("user", f'Question {place_in_talk}\nwith \'quotes\' """ and é\r\n'),
                    ("assistant", "one two three four"),
                ):
                    parent = turn(role, text, parent, answer(text) if role == "assistant" else None)
                    transcript.add(parent)
                    file.append(parent)
            assert parent is not None
            transcript.edit(parent.id, "an edited reply")
            transcript.delete(parent.id)
            file.keep()
            transcript.undo()
            transcript.redo()
            transcript.title = "Another title"
            file.keep_selection()
        return path.read_bytes()


def sound(place: Path) -> None:
    """A conversation that opens."""
    (place / _NAME).write_bytes(_conversation())


def write(rng: Random, place: Path) -> None:
    """A damaged conversation, and now and then a damaged reply in progress beside it."""
    data = _conversation()
    match rng.randrange(6):
        case 0 | 1:
            data = damaged(rng, data)
        case 2:
            data = _records(rng, data)
        case _:
            tree = damaged_tree(rng, tomllib.loads(data.decode()), toml=True)
            if isinstance(tree, dict):
                _cross(rng, tree)
                data = damaged_text(rng, toml_text(tree))
    (place / _NAME).write_bytes(data)
    if rng.random() < 0.2:
        tree = tomllib.loads(_conversation().decode())
        side: Any = {
            "schema": 1,
            "transcript": tree["id"],
            "turns": [{**rng.choice(tree["turns"]), "id": "abcdef012345"}],
        }
        tree = damaged_tree(rng, side, toml=True) if rng.random() < 0.8 else side
        (place / f"{_NAME}.partial").write_bytes(damaged_text(rng, toml_text(tree if isinstance(tree, dict) else side)))


def _records(rng: Random, data: bytes) -> bytes:
    """The records of a file in another order, repeated or missing."""
    head, *records = data.split(b"\n[[")
    match rng.randrange(4):
        case 0:
            rng.shuffle(records)
        case 1:
            records += rng.choices(records, k=rng.choice((1, 3, 300)))
        case 2:
            del records[rng.randrange(len(records))]
        case _:
            at = rng.randrange(len(records))
            records[at] = damaged(rng, records[at])
    return b"\n[[".join([head, *records])


def _cross(rng: Random, tree: dict[str, Any]) -> None:
    """Turns that follow one another in a circle, or several of one name."""
    turns = tree.get("turns")
    if (
        not isinstance(turns, list)
        or len(turns) < 2
        or not all(isinstance(turn, dict) for turn in turns)
        or rng.random() < 0.6
    ):
        return
    one, other = rng.sample(turns, 2)
    match rng.randrange(4):
        case 0:
            one["parent"], other["parent"] = other.get("id", ""), one.get("id", "")
        case 1:
            one["id"] = other.get("id", "")
        case 2:
            one["parent"] = one.get("id", "")
        case _:
            reply = one.get("reply")
            if isinstance(reply, dict) and reply:
                reply[rng.choice(list(reply))] = strange_value(rng, toml=True)


def attempt(place: Path) -> None:
    """Read, list, export and go on with a conversation; what is said then is there when it is opened again."""
    path = place / _NAME
    before = path.read_bytes()
    list_transcripts(place)
    with contextlib.suppress(TranscriptError):
        read_head(path)
    transcript, _ = read_transcript(path)
    _show(transcript)
    if path.read_bytes() != before:
        raise Untrue("reading changed the file")
    file, _ = TranscriptFile.open(path)
    with file:
        turn = file.transcript.say("user", _KEPT)
        file.append(turn)
        texts = sorted(other.text for other in file.transcript)
        others = [other.id for other in file.transcript if other.id != turn.id]
        if others:
            file.transcript.delete(others[-1])
            file.keep()
            file.transcript.undo()
            file.keep()
    again, notices = read_transcript(path)
    if turn.id not in again or again.turn(turn.id).text != _KEPT:
        raise Untrue("what was said is not there")
    if worse := [notice for notice in notices if "damaged" in notice or "incomplete" in notice]:
        raise Untrue(f"opening did not repair it: {worse[0]}")
    if sorted(other.text for other in again) != texts:
        raise Untrue("a deletion that was taken back took turns with it")
    _show(again)


def _show(transcript: Transcript) -> None:
    for turn in transcript:
        if turn.reply is not None:
            measure(turn.reply)
            turn.reply.config_at(3)
            turn.reply.before(min(1, len(turn.reply.facts)))
    for export in (to_markdown, to_text, to_json):
        export(transcript).encode("utf-8", "replace")
