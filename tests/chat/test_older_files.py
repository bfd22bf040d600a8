"""Files of today in a later llmchat: a stage more in the sampling chain, a reason more for an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmchat.chat import setting_values, transcript_toml
from llmchat.chat.archive import read_transcript
from llmchat.chat.generation_config import SAMPLER_ORDER, GenerationConfig
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, Turn
from llmchat.settings import Settings, load_settings, save_settings

LATER = (*SAMPLER_ORDER[:5], "top_h", *SAMPLER_ORDER[5:])
OWN_ORDER = SAMPLER_ORDER[::-1]


def kept(path: Path) -> Path:
    """A conversation of today whose reply has an order of its own."""
    transcript = Transcript()
    asked = transcript.say("user", "Hello")
    reply = Reply("Hi", (1,), "stop", "end token", GenerationConfig(sampler_order=OWN_ORDER), 7)
    transcript.add(Turn("assistant", "Hi", parent=asked.id, reply=reply))
    TranscriptFile.create(transcript, path).close()
    return path


def test_a_stage_more_leaves_files_of_today_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored order lacks the stage, which takes its usual place; the others keep theirs."""
    transcript = kept(tmp_path / "a.toml")
    save_settings(Settings(generation={"sampler_order": OWN_ORDER}), tmp_path / "settings.toml")
    for module in (setting_values, transcript_toml):
        monkeypatch.setattr(module, "SAMPLER_ORDER", LATER)
    reply = read_transcript(transcript)[0].path()[-1].reply
    orders = [
        reply.config.sampler_order if reply else (),
        load_settings(tmp_path / "settings.toml").generation["sampler_order"],
    ]
    for order in orders:
        assert isinstance(order, tuple) and sorted(order) == sorted(LATER)
        assert tuple(stage for stage in order if stage != "top_h") == OWN_ORDER
        assert order[order.index("top_k") + 1] == "top_h"


def test_files_of_a_later_llmchat_can_be_read(tmp_path: Path) -> None:
    """What is not known of a reply is passed over: the conversation is what counts."""
    path = kept(tmp_path / "a.toml")
    text = path.read_text("utf-8")
    assert "top_k" in text and 'finish_reason = "stop"' in text
    path.write_text(
        text.replace("top_k top_n_sigma", "top_k top_h top_n_sigma").replace('"stop"', '"tool"', 1), "utf-8"
    )
    turn = read_transcript(path)[0].path()[-1]
    assert turn.text == "Hi" and turn.reply is not None
    assert turn.reply.config.sampler_order == OWN_ORDER


def test_turns_written_by_hand_without_ids_keep_one(tmp_path: Path) -> None:
    """What is kept of such a turn later, a deletion here, still means it when the file is read again."""
    path = tmp_path / "by hand.toml"
    said = '\n[[turns]]\nrole = "user"\ncreated = 2026-01-31 18:04:11+00:00\ntext = "alike"\n'
    path.write_text(f'schema = 1\nid = "e15964fe08d4"\ncreated = 2026-01-31 18:04:11+00:00\n{said}{said}')
    with TranscriptFile.open(path)[0] as file:
        first, second = file.transcript
        file.transcript.delete(first.id)
        file.keep()
    again, _ = read_transcript(path)
    assert [turn.id for turn in again] == [second.id]
