"""Texts that cannot fit are refused before they are tokenised, whatever their size."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmchat.chat.turn import Turn
from llmchat.engine.prompt import build_prompt
from llmchat.engine.text_size import MOST_CHARS, least_tokens
from llmchat.errors import GenerationError, PromptTooLongError
from llmchat.tokenizers.gguf_vocab import load_gguf_vocab
from llmchat.tokenizers.loading import load_tokenizer
from llmchat.tokenizers.prompt_style import load_prompt_style
from llmchat.tokenizers.tokenizer import Tokenizer
from tests.fakes import ByteTokenizer, ScriptedEngine
from tests.tokenizers.vocabularies import (
    SENTENCEPIECE_MODELS,
    TEXTS,
    TOKENIZER_JSONS,
    byte_level_metadata,
    llama_metadata,
)


class Counting(ByteTokenizer):
    """Counts the characters that it is given."""

    def __init__(self, longest: int | None = 1) -> None:
        self.chars = 0
        self.longest_token = longest

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The text's bytes."""
        self.chars += len(text)
        return super().encode(text)


def _engine(monkeypatch: pytest.MonkeyPatch, tokenizer: Counting, *, chat: bool) -> ScriptedEngine:
    style = load_prompt_style("plain", ByteTokenizer()) if chat else None
    engine = ScriptedEngine(context_length=1000, prompt_style=style)
    if style is not None:
        monkeypatch.setattr(style, "_tokenizer", tokenizer)
    monkeypatch.setattr(engine, "tokenizer", tokenizer)
    return engine


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("longest", [1, None])
def test_millions_of_characters_are_not_tokenised(
    monkeypatch: pytest.MonkeyPatch, chat: bool, longest: int | None
) -> None:
    """The refusal comes at once and has the numbers."""
    tokenizer = Counting(longest)
    engine = _engine(monkeypatch, tokenizer, chat=chat)
    for chars in (500_000, 16_000_000):
        with pytest.raises(PromptTooLongError, match=r"has [\d,]*\d\d\d,\d\d\d characters"):
            build_prompt(engine, [Turn("system", "Be brief."), Turn("user", "x" * chars)])
    assert tokenizer.chars <= 100_000


def test_long_turns_of_the_past_are_left_out_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation with huge turns goes on, as far as its end fits."""
    tokenizer = Counting()
    engine = _engine(monkeypatch, tokenizer, chat=True)
    turns = [Turn("system", "Brief.")]
    for _ in range(40):
        turns += [Turn("user", "x" * 500_000), Turn("assistant", "y" * 90_000)]
    turns += [Turn("user", "one"), Turn("assistant", "two"), Turn("user", "three")]
    prompt = build_prompt(engine, turns)
    assert bytes(prompt.token_ids) == b"Brief.\n\nUser: one\nAssistant: two\nUser: three\nAssistant:"
    assert len(prompt.dropped_turns) == 80
    assert tokenizer.chars < 10_000


def test_counting_can_be_stopped() -> None:
    """A text that is looked at slice by slice gives way to Esc."""
    answers = iter([False, True])
    with pytest.raises(GenerationError, match="stopped"):
        least_tokens(Counting(None), "x" * 1_000_000, 10**9, lambda: next(answers))


def test_models_that_slide_read_long_texts_but_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """They see the end of a text; a text that no one could have meant is refused."""
    engine = _engine(monkeypatch, Counting(None), chat=False)
    monkeypatch.setattr(engine, "slides", True)
    assert build_prompt(engine, [Turn("user", "x" * 200_000)]).dropped_tokens == 199_000
    with pytest.raises(PromptTooLongError, match="no more than"):
        build_prompt(engine, [Turn("user", "x" * (MOST_CHARS + 1))])


@pytest.mark.parametrize("source", ["byte_level", "llama", *SENTENCEPIECE_MODELS, *TOKENIZER_JSONS], ids=str)
def test_no_text_has_fewer_tokens_than_is_claimed(source: str | Path) -> None:
    """The bound holds for blanks, unknown characters and joined ones, or there is none."""
    tokenizer: Tokenizer
    if isinstance(source, str):
        metadata = byte_level_metadata() if source == "byte_level" else llama_metadata()
        tokenizer = load_gguf_vocab(metadata).tokenizer
        assert tokenizer.longest_token
    else:
        tokenizer = load_tokenizer(source)
    if tokenizer.longest_token is None:
        return
    for text in (*TEXTS, " " * 500, "漢" * 500, "e\u0301" * 300, "\n" * 300, "hello" * 200):
        assert len(tokenizer.encode(text)) * tokenizer.longest_token >= len(text)
