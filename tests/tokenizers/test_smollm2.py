"""The default model's tokenizer and template, against transformers' reading of the same file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply, Turn
from llmchat.checkpoints.gguf_file import GGUFFile
from llmchat.tokenizers.detokenizer import StreamingDetokenizer
from llmchat.tokenizers.gguf_vocab import GGUFVocab, load_gguf_vocab
from llmchat.tokenizers.prompt_style import PromptStyle
from tests.tokenizers.vocabularies import DATA

REFERENCE = json.loads((DATA / "smollm2-tokenizer" / "reference.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def metadata(default_model_path: Path) -> Mapping[str, Any]:
    """The file's tokenizer keys."""
    return GGUFFile.open(default_model_path).metadata


@pytest.fixture(scope="module")
def vocab(metadata: Mapping[str, Any]) -> GGUFVocab:
    """The file's vocabulary."""
    return load_gguf_vocab(metadata)


@pytest.fixture(scope="module")
def style(metadata: Mapping[str, Any], vocab: GGUFVocab) -> PromptStyle:
    """The file's own template."""
    return PromptStyle(metadata["tokenizer.chat_template"], vocab.tokenizer)


@pytest.mark.parametrize("entry", REFERENCE["texts"], ids=lambda entry: ascii(entry["text"][:20]))
def test_ids_are_the_references(vocab: GGUFVocab, entry: dict[str, Any]) -> None:
    """Words, code, digits, blanks, scripts, emoji and special tokens all have the reference's ids and text."""
    ids = vocab.tokenizer.encode(entry["text"], parse_special=True)
    assert ids == entry["ids"]
    assert vocab.tokenizer.decode(ids) == entry["decoded"]


@pytest.mark.parametrize("entry", REFERENCE["texts"], ids=lambda entry: ascii(entry["text"][:20]))
def test_streamed_text_is_the_decoded_text(vocab: GGUFVocab, entry: dict[str, Any]) -> None:
    """Token by token gives the text of the whole."""
    stream = StreamingDetokenizer(vocab.tokenizer)
    assert "".join(map(stream.add, entry["ids"])) + stream.finish() == entry["decoded"]
    assert stream.byte_count == len(entry["decoded"].encode())


def test_special_tokens_of_the_file(vocab: GGUFVocab) -> None:
    """<|im_end|> ends replies, and so does <|endoftext|>; no begin token is added."""
    tokenizer = vocab.tokenizer
    assert vocab.end_ids == (2, 0)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.adds_bos) == (1, 2, 0, False)
    assert (tokenizer.vocab_size, vocab.notes) == (49152, ())
    assert tokenizer.encode("<|im_end|>") != [2]


@pytest.mark.parametrize("chat", REFERENCE["chats"], ids=range(len(REFERENCE["chats"])))
def test_prompts_are_the_references(style: PromptStyle, chat: dict[str, Any]) -> None:
    """The model's own template gives transformers' text and ids."""
    turns = [Turn(role, text) for role, text in chat["turns"]]
    assert style.render(turns) == chat["text"]
    assert style.encode(turns, parse_special=True) == chat["ids"]
    if not any("<|im_end|>" in turn.text for turn in turns):
        assert style.encode(turns) == chat["ids"]


def test_generated_replies_keep_their_ids(style: PromptStyle, vocab: GGUFVocab) -> None:
    """The second prompt goes on from the first and its reply, id by id."""
    drawn = [*vocab.tokenizer.encode("He"), *vocab.tokenizer.encode("llo"), *vocab.tokenizer.encode(" 😀")[:-1]]
    text = vocab.tokenizer.decode(drawn)
    reply = Reply(text, tuple(drawn), "length", "", GenerationConfig(), 1)
    first = style.encode([Turn("user", "Hi")])
    second = style.encode([Turn("user", "Hi"), Turn("assistant", text, reply=reply), Turn("user", "Bye")])
    assert second[: len(first) + len(drawn)] == [*first, *drawn]
    assert style.stop_strings == ()
