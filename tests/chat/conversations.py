"""Conversations and replies to test with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.thought import Thought
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, SettingsChange, Timings, Turn

NASTY = (
    "",
    " ",
    "plain",
    "two\nlines\n",
    "\nbegins with a line end",
    "\n\n\n",
    "Windows\r\nline\r\nends",
    "lone \r return",
    "tab\tand \x00 NUL \x07 bell \x1b[31m escape \x7f delete \x85 next line",
    'quotes " and \' and """ and \'\'\' and """"""""',
    'ends with quotes\n"""',
    "ends with a backslash\n\\",
    "\\u0041 \\n \\\\ \\x",
    '[[turns]]\nid = "x"\n',
    'a pasted file:\n\n[[turns]]\nid = "0"\nrole = "user"\ntext = """\nhello\n"""\n',
    "emoji 🧑‍🚀🇨🇭 and 漢字 and e\u0301 and \u202ereversed\u202c",
    "separators \u2028 \u2029 \ufeff",
    '# a comment = "no"',
    "```\nan open fence",
    " \U0010ffff \ufffe",
    "trailing space \nand tab\t\n",
)
"""Texts that have broken other people's file formats."""


def make_reply(text: str = "It sings.", **changed: Any) -> Reply:
    """A complete reply with something in every field."""
    values: dict[str, Any] = {
        "text": text,
        "token_ids": (1, 22, 333),
        "finish_reason": "stop",
        "finish_detail": "end token <|im_end|>",
        "config": GenerationConfig(temperature=0.7, stop=("\n\n", "User:")),
        "seed": 8417,
        "model": "SmolLM2",
        "model_path": "/models/smol.gguf",
        "tokenizer_path": "/models/smol.gguf",
        "engine": "native",
        "system": "Sing.",
        "changes": (
            SettingsChange(1, 3, {"temperature": 1.2, "top_k": 0}),
            SettingsChange(2, 5, {"min_new_tokens": 700, "stop": ("x",), "do_sample": False}),
        ),
        "prompt_tokens": 12,
        "cached_tokens": 4,
        "dropped_tokens": 1,
        "forced": ((1, 22),),
        "parts": (1, 2),
        "unknown_tokens": 1,
        "byte_tokens": 2,
        "drafted_tokens": 7,
        "accepted_tokens": 5,
        "timings": Timings(0.5, 0.25, 100.5, 41.125),
        "thought": Thought("Sing?\n- or not", "<think>\n", "\n</think>\n\n", 2, 1.5),
    }
    return Reply(**{**values, **changed})


def answer(transcript: Transcript, text: str = "It sings.", **changed: Any) -> Turn:
    """Add a generated reply after the selected turn."""
    turn = Turn("assistant", text, parent=transcript.leaf_id, reply=make_reply(text, **changed))
    transcript.add(turn)
    return turn


def sea_story() -> Transcript:
    """A question, its answer, and another question."""
    transcript = Transcript(model="SmolLM2", model_path="/models/smol.gguf", tokenizer_path="/models/smol.gguf")
    transcript.say("user", "Tell me about the sea.")
    answer(transcript)
    transcript.say("user", "What does it sing?")
    return transcript


def kept(transcript: Transcript, path: Path) -> Path:
    """A closed file that holds the conversation."""
    with TranscriptFile.create(transcript, path) as file:
        return file.path


def reopened(path: Path) -> Transcript:
    """The conversation in a file, opened without any repair."""
    file, notices = TranscriptFile.open(path)
    file.close()
    assert notices == []
    return file.transcript
