"""SentencePiece vocabularies keep SentencePiece's own meaning."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from llmchat.errors import ModelLoadError
from llmchat.tokenizers.sentencepiece import SentencePieceTokenizer
from tests.tokenizers.vocabularies import LLMBUILDER_1, LLMBUILDER_2, SENTENCEPIECE_MODELS, TEXTS, TINY


@pytest.mark.parametrize("path", SENTENCEPIECE_MODELS, ids=lambda path: path.parent.name)
def test_encode_and_decode_are_the_librarys(path: Path) -> None:
    """A prompt has the ids, and the ids the text, that llmbuilder's own SentencePiece call gives."""
    ours, theirs = SentencePieceTokenizer(path), SentencePieceProcessor(model_file=str(path))
    assert ours.vocab_size == theirs.get_piece_size()
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs.encode(text)
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("path", SENTENCEPIECE_MODELS, ids=lambda path: path.parent.name)
def test_decode_agrees_on_random_ids(path: Path) -> None:
    """Ids in an order that no text has still decode as the library decodes them."""
    ours, theirs = SentencePieceTokenizer(path), SentencePieceProcessor(model_file=str(path))
    dice = random.Random(7)
    for _ in range(100):
        ids = [dice.randrange(ours.vocab_size) for _ in range(dice.randrange(1, 20))]
        # The library drops every leading blank, one by one; ours are kept but for the first.
        assert ours.decode(ids).lstrip(" ") == theirs.decode(ids).lstrip(" ")


def test_special_ids_come_from_the_model() -> None:
    """The two lines of llmbuilder, 1.x and 2.x, number their special tokens differently."""
    new, old = SentencePieceTokenizer(TINY), SentencePieceTokenizer(LLMBUILDER_1 / "tok_sp")
    assert (new.unk_id, new.bos_id, new.eos_id) == (1, 2, 3)
    assert (old.unk_id, old.bos_id, old.eos_id) == (0, 1, 2)
    assert not new.adds_bos


def test_llmbuilder_reference_prompts() -> None:
    """The stored ids and texts of llmbuilder's own run come out the same."""
    tokenizer = SentencePieceTokenizer(TINY)
    reference = json.loads((TINY.parent / "reference.json").read_text())
    for prompt in reference["prompts"]:
        assert tokenizer.encode(prompt["prompt"]) == prompt["ids"]
        assert tokenizer.decode(prompt["ids"] + prompt["greedy_new_ids"]) == prompt["greedy_text"]


def test_token_bytes_join_to_the_text() -> None:
    """The bytes of tokens, joined, are their text with its leading space; control tokens give nothing."""
    tokenizer = SentencePieceTokenizer(TINY)
    ids = tokenizer.encode("Alice said: 漢")
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == " alice said:  ⁇ "
    assert tokenizer.token_bytes(2) == b""
    assert tokenizer.is_control(2)
    assert tokenizer.token_text(2) == "<s>"


def test_ids_outside_the_vocabulary_are_harmless() -> None:
    """A model with more logits than the tokenizer has pieces never causes an IndexError."""
    tokenizer = SentencePieceTokenizer(TINY)
    for token_id in (-1, tokenizer.vocab_size, 10**9):
        assert tokenizer.token_bytes(token_id) == b""
        assert not tokenizer.is_control(token_id)
        assert str(token_id) in tokenizer.token_text(token_id)


def test_control_text_is_parsed_only_on_request() -> None:
    """A typed "</s>" stays text; in a rendered template it is the token."""
    tokenizer = SentencePieceTokenizer(TINY)
    assert 3 not in tokenizer.encode("a</s>b")
    parsed = tokenizer.encode("a</s>b", parse_special=True)
    assert parsed.count(3) == 1
    assert tokenizer.find("</s>") == 3
    assert tokenizer.find("a") is None


def test_user_defined_pieces_are_found() -> None:
    """The role symbols of llmbuilder can be used in templates without a stray space before them."""
    tokenizer = SentencePieceTokenizer(LLMBUILDER_2 / "spm2_bpe")
    assert tokenizer.find("<user>") == 4
    assert tokenizer.encode("<user><assistant>", parse_special=True) == [4, 5]


def test_a_blank_after_a_control_token_survives() -> None:
    """Where the model strips leading blanks, the word after a control token still begins a word."""
    tokenizer = SentencePieceTokenizer(TINY)
    glued = tokenizer.encode("</s>alice", parse_special=True)
    apart = tokenizer.encode("</s>\nalice", parse_special=True)
    assert b"".join(map(tokenizer.token_bytes, glued)) == b"alice"
    assert b"".join(map(tokenizer.token_bytes, apart)) == b" alice"


def test_lone_surrogates_do_not_fail() -> None:
    """Broken input from a terminal is a question mark, not a crash."""
    assert SentencePieceTokenizer(TINY).encode("a\udc80") == SentencePieceTokenizer(TINY).encode("a?")


def test_bytes_are_accepted() -> None:
    """A serialized model, as it lies in other files, opens like the file."""
    from_bytes = SentencePieceTokenizer((TINY / "tokenizer.model").read_bytes(), bos_id=5, adds_bos=True)
    assert from_bytes.bos_id == 5
    assert from_bytes.adds_bos
    assert from_bytes.encode("alice") == SentencePieceTokenizer(TINY).encode("alice")


@pytest.mark.parametrize("size", [0, 1, 100, 3000, 3001, -1, -40])
def test_cut_off_models_are_refused(tmp_path: Path, size: int) -> None:
    """A half-copied file is one clear error, never a smaller vocabulary."""
    path = tmp_path / "tokenizer.model"
    path.write_bytes((TINY / "tokenizer.model").read_bytes()[:size])
    with pytest.raises(ModelLoadError, match="copy it again"):
        SentencePieceTokenizer(path)


def test_missing_models_say_where_they_were_looked_for(tmp_path: Path) -> None:
    """The error names the path that was tried."""
    with pytest.raises(ModelLoadError, match=r"nothing\.model"):
        SentencePieceTokenizer(tmp_path / "nothing.model")
    with pytest.raises(ModelLoadError, match="There is no tokenizer in"):
        SentencePieceTokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_text("not a model")
    with pytest.raises(ModelLoadError, match="no SentencePiece model"):
        SentencePieceTokenizer(tmp_path)
