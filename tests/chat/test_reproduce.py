"""A reply as a command and as Python: what they say, and what they say they cannot."""

from __future__ import annotations

import ast
import os
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.reproduce import Recipe, as_command, as_python, settings_of
from llmchat.chat.turn import Reply, SettingsChange, Turn
from llmchat.errors import UsageError
from tests.chat.conversations import NASTY

QUESTION = (Turn("user", "Tell me about the sea."),)
LONG = (*QUESTION, Turn("assistant", "It sings."), Turn("user", "What?"))
MOVED = {"changes": (SettingsChange(1, 4, {"temperature": 1.2}),)}


def made(config: GenerationConfig | None = None, **changed: Any) -> Reply:
    """A reply of three tokens."""
    values: dict[str, Any] = {"finish_reason": "stop", "finish_detail": "end token </s>", "seed": 8417}
    return Reply("It sings.", (5, 6, 7), config=config or GenerationConfig(), **{**values, **changed})


def recipe(reply: Reply | None = None, **changed: Any) -> Recipe:
    """A recipe for a reply to one message."""
    values: dict[str, Any] = {"turns": QUESTION, "spec": ModelSpec("tiny"), "file": None}
    return Recipe("90ab12cd34ef", reply or made(), **{**values, **changed})


def test_only_what_differs_from_the_defaults_is_said() -> None:
    """The model, the message and the dice; nothing that would be so anyway."""
    assert (
        as_command(recipe()) == "llmchat --once --model tiny --no-stdin --prompt 'Tell me about the sea.' --seed 8417"
    )
    assert as_python(recipe()) == (
        "import llmchat\n"
        "from llmchat import GenerationConfig\n"
        "\n"
        "model = llmchat.load('tiny')\n"
        "reply = model.generate(\n"
        "    'Tell me about the sea.',\n"
        "    GenerationConfig(seed=8417),\n"
        ")\n"
        "print(reply.text)\n"
    )


def test_everything_that_differs_is_said() -> None:
    """Settings of every kind, the model's circumstances, system prompt and prefill."""
    config = GenerationConfig(
        temperature=1.25, top_k=0, stop=("\n\n", "You:"), xtc_probability=0.5, temperature_last=True,
        banned_tokens=(7, 9), dry_breakers=(" x", "\n"), do_sample=False, prompt_lookup=False,
    )  # fmt: skip
    spec = ModelSpec("/m/a b.pt", "/m/tok", "cpu", "float32", 2, "chatml", 4)
    turns = (Turn("system", "Be brief."), *QUESTION)
    whole = recipe(made(config, prefill_text="Well, "), spec=spec, turns=turns, has_settings=True)
    words = shlex.split(as_command(whole))
    assert words[:4] == ["llmchat", "--config", os.devnull, "--once"]
    pairs = dict(pairwise(words))
    expected = {
        "--model": "/m/a b.pt", "--tokenizer": "/m/tok", "--device": "cpu", "--dtype": "float32", "--threads": "2",
        "--chat-template": "chatml", "--heads": "4", "--system": "Be brief.", "--prefill": "Well, ",
        "--temperature": "1.25", "--top-k": "0", "--xtc-probability": "0.5", "--banned-tokens": "7 9",
        "--dry-breakers": "\\sx \\n",
    }  # fmt: skip
    assert expected.items() <= pairs.items()
    assert {"--greedy", "--temperature-last", "--no-prompt-lookup", "\n\n", "You:"} <= set(words)
    assert "--top-p" not in words and "--raw" not in words
    python = as_python(whole)
    assert "load('/m/a b.pt', '/m/tok', device='cpu', dtype='float32', threads=2, chat_template='chatml', heads=4)" in (
        python
    )
    assert "system='Be brief.'" in python and "prefill='Well, '" in python and "banned_tokens=(7, 9)" in python


def test_a_text_that_was_continued_says_raw_where_it_matters() -> None:
    """Models without a chat template need no word for it; each prompt stands alone, in a long conversation too."""
    raw = recipe(made(raw=True), turns=LONG)
    assert as_command(raw) == "llmchat --once --model tiny --no-stdin --prompt 'What?' --raw --seed 8417"
    assert "raw=True" in as_python(raw)
    assert "--raw" not in as_command(replace(raw, has_template=False))
    assert "raw" not in as_python(replace(raw, has_template=False))


@pytest.mark.parametrize("reason", ["cancelled", "error"])
def test_a_reply_that_was_cut_short_is_made_as_far_as_it_came(reason: Any) -> None:
    """The number of its tokens takes the place of what ended it."""
    config = GenerationConfig(max_new_tokens=100, min_new_tokens=50)
    assert settings_of(made(config, finish_reason=reason)) == config.changed(
        seed=8417, max_new_tokens=3, min_new_tokens=3
    )
    assert settings_of(made(config)) == config.changed(seed=8417)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (MOVED, "The sliders moved during this reply: temperature 1.2 from token 1 on."),
        ({"forced": ((2, 9),)}, "Token 2 was chosen by hand."),
        ({"parts": (1, 2)}, "It was gone on from at token 1, 2."),
    ],
)
def test_what_a_person_did_on_the_way_takes_a_replay(changed: dict[str, Any], words: str) -> None:
    """It is said what was done; the command replays, and the Python names that command."""
    by_hand = recipe(made(**changed), file=Path("/t/the sea.toml"))
    replay = "llmchat replay '/t/the sea.toml' --turn 90ab12cd34ef"
    assert as_command(by_hand) == f"# {words}\n{replay}"
    python = as_python(by_hand)
    assert python.startswith(f"# {words}\n# This makes a reply under the settings of its start;")
    assert f"#   {replay}\n" in python
    with pytest.raises(UsageError, match="Keep it with /save first"):
        as_command(replace(by_hand, file=None))
    with pytest.raises(UsageError, match="Keep it with /save first"):
        as_python(replace(by_hand, file=None))


def test_a_reply_in_the_middle_of_a_conversation_takes_its_transcript() -> None:
    """One prompt is not all that the model was given."""
    spec = ModelSpec("tiny", device="cpu", threads=2)
    later = recipe(turns=LONG, file=Path("/t/sea.toml"), spec=spec)
    assert as_command(later) == (
        "# It answers a message in the middle of a conversation.\n"
        "llmchat replay /t/sea.toml --turn 90ab12cd34ef --device cpu --threads 2"
    )
    python = as_python(later)
    assert "conversation, _ = read_transcript(Path('/t/sea.toml'))" in python
    assert "    conversation.asked('90ab12cd34ef'),\n" in python
    with pytest.raises(UsageError, match="Keep it with /save first"):
        as_python(replace(later, file=None))


@pytest.mark.parametrize("text", [text for text in NASTY if "\0" not in text and text.strip()])
def test_any_text_survives_the_shell_and_python(text: str) -> None:
    """Quotes, line ends, escapes: what comes out is what went in."""
    turns = (Turn("system", text), Turn("user", text))
    any_text = recipe(made(GenerationConfig(stop=(text,)), prefill_text=text), turns=turns)
    words = shlex.split(as_command(any_text))
    # Of a prompt, the last line feed is left out.
    assert words[words.index("--prompt") + 1].removesuffix("\n" if text.endswith("\n") else "") == text
    assert [*words, text].count(text) == 4 + (not text.endswith("\n"))
    strings = [node.value for node in ast.walk(ast.parse(as_python(any_text))) if isinstance(node, ast.Constant)]
    assert strings.count(text) == 4


def test_a_dash_is_not_taken_for_standard_input() -> None:
    """As a value it would mean something else, so it is piped in."""
    dash = recipe(turns=(Turn("user", "-"),))
    assert as_command(dash) == "printf %s - | llmchat --once --model tiny --seed 8417"


def test_a_reply_without_tokens_is_refused() -> None:
    """There is nothing to make again."""
    with pytest.raises(UsageError, match="no tokens"):
        as_command(recipe(replace(made(), token_ids=())))
