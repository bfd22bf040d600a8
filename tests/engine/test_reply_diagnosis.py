"""What a finished reply says of its own troubles: loops, unknown tokens, broken characters."""

from __future__ import annotations

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply, Turn
from llmchat.engine.generation import ReplyStream
from llmchat.engine.prompt import build_prompt
from llmchat.engine.reply_writer import ReplyPiece
from llmchat.tokenizers.loading import load_tokenizer
from llmchat.tokenizers.readable import count_lacking
from tests.conftest import DATA
from tests.fakes import ByteTokenizer, ScriptedEngine

FORMATS = "llmbuilder-formats/2.0.0/tokenizers/"
GREEDY = GenerationConfig(do_sample=False, repetition_penalty=1.0)


def reply_of(text: str, config: GenerationConfig = GREEDY, stop_after: int | None = None) -> Reply:
    """What is known of a reply that says a text."""
    engine = ScriptedEngine(text)
    drawn: list[ReplyPiece] = []
    prompt = build_prompt(engine, (Turn("user", "hi"),), raw=True)
    stream = ReplyStream(engine, prompt, lambda _: config, 1, lambda: len(drawn) == stop_after)
    stream.prefill()
    for piece in stream:
        drawn.append(piece)
    return stream.reply()


def test_a_reply_that_is_cut_short_in_a_loop_says_so() -> None:
    """Whether its length or the person ended it: the cause is followed by what was going on."""
    text = "Once. " + "I am lost. " * 20
    assert reply_of(text, GREEDY.changed(max_new_tokens=90)).finish_detail == "max_new_tokens 90, repeating itself"
    assert reply_of(text, stop_after=90).finish_detail == "stopped by you, repeating itself"
    assert reply_of(text, stop_after=20).finish_detail == "stopped by you"


def test_a_reply_that_ends_by_itself_was_in_no_trouble() -> None:
    """An end token or a stop string is an end, whatever came before it."""
    assert reply_of("ha " * 30).finish_detail == "end token <end>"
    assert reply_of("ha " * 30 + "!", GREEDY.changed(stop=("!",))).finish_detail == "stop string '!'"


def test_broken_characters_are_counted() -> None:
    """Tokens that hold part of a character, whole or not in the end."""
    reply = reply_of("é and 漢, plainly")
    assert (reply.unknown_tokens, reply.byte_tokens) == (0, 5)
    assert reply_of("plainly").byte_tokens == 0


@pytest.mark.parametrize("path", ["llmbuilder-2.0.0-tiny/tokenizer/tokenizer.model", FORMATS + "hf_wordpiece"])
def test_what_the_vocabulary_lacks(path: str) -> None:
    """Characters that a small vocabulary does not have are unknown tokens; ordinary words are not."""
    tokenizer = load_tokenizer(DATA / path)
    assert count_lacking(tokenizer, tokenizer.encode("alice 漢 said 🦜")) == (2, 0)
    assert count_lacking(tokenizer, tokenizer.encode("alice said\n")) == (0, 0)
    assert count_lacking(ByteTokenizer(), []) == (0, 0)
