"""Tokens that a directory adds to a vocabulary of another file: they are tokens, end replies, and have their ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken

from llmchat.errors import ModelLoadError
from llmchat.tokenizers.loading import find_tokenizer, load_tokenizer
from llmchat.tokenizers.model_proto import Piece, PieceType, build_bpe_model
from llmchat.tokenizers.readable import conventional_end_ids
from tests.tokenizers.vocabularies import byte_level_metadata, llama_fast, llama_metadata

CHAT = "<s><|im_start|>user\nHello, Alice <tool> how  are you?<|im_end|>\n<|im_start|>assistant\n"
NAMES = {"<|im_start|>": True, "<tool>": False, "[role]": True}
"""What is added, and whether it is a control token."""


def write(directory: Path, **files: Any) -> Path:
    """Files of JSON, their names with _ for the dot."""
    for name, value in files.items():
        (directory / name.replace("_json", ".json")).write_text(json.dumps(value))
    return directory


def sentencepiece(directory: Path) -> tuple[Path, int]:
    """A `tokenizer.model` like Llama's, and how many pieces it has."""
    keys = {key.removeprefix("tokenizer.ggml."): value for key, value in llama_metadata().items()}
    pieces = [
        Piece(text, score, PieceType(kind))
        for text, score, kind in zip(keys["tokens"], keys["scores"], keys["token_type"], strict=True)
    ]
    (directory / "tokenizer.model").write_bytes(build_bpe_model(pieces, add_dummy_prefix=True))
    return directory, len(pieces)


def as_decoder(first: int) -> dict[str, Any]:
    """`added_tokens_decoder`, as newer directories have it."""
    return {str(first + at): {"content": name, "special": special} for at, (name, special) in enumerate(NAMES.items())}


def beside(directory: Path, first: int, newer: bool) -> None:
    """The files that say what is added, in the newer or the older form."""
    if newer:
        settings = {"added_tokens_decoder": as_decoder(first), "eos_token": "<|im_end|>", "bos_token": "<s>"}
        write(directory, tokenizer_config_json=settings)
    else:
        write(
            directory,
            added_tokens_json={name: first + at for at, name in enumerate(NAMES)},
            special_tokens_map_json={"eos_token": {"content": "<|im_end|>"}, "additional_special_tokens": ["[role]"]},
        )


@pytest.mark.parametrize("newer", [True, False])
def test_added_tokens_of_sentencepiece(tmp_path: Path, newer: bool) -> None:
    """A model that talks in turns gets its marks as tokens, as the `tokenizers` library reads the same, and ends."""
    path, first = sentencepiece(tmp_path)
    beside(path, first, newer)
    reference = llama_fast()
    for name, special in NAMES.items():
        add = reference.add_special_tokens if special else reference.add_tokens
        add([AddedToken(name, special=special, normalized=False)])
    tokenizer = load_tokenizer(path)
    assert tokenizer.vocab_size == first + len(NAMES)
    assert tokenizer.encode(CHAT, parse_special=True) == reference.encode(CHAT, add_special_tokens=False).ids
    start, tool = tokenizer.find("<|im_start|>"), tokenizer.find("<tool>")
    assert (start, tool) == (first, first + 1)
    assert tokenizer.is_control(first) and not tokenizer.is_control(first + 1) and tokenizer.is_control(first + 2)
    assert first not in tokenizer.encode(CHAT)
    assert tokenizer.token_bytes(first + 1) == b"<tool>"
    assert conventional_end_ids(tokenizer)[0] == tokenizer.eos_id == tokenizer.find("<|im_end|>")


def test_ids_between_and_inside_the_vocabulary(tmp_path: Path) -> None:
    """An added token may stand behind a gap, or take the place of a piece; bytes and the unknown piece stay."""
    path, first = sentencepiece(tmp_path)
    placed = {first + 5: "<far>", first - 1: "<taken>", 0: "<not unknown>", 10: "<no byte>", first + 6: "<s>"}
    decoder = {str(at): {"content": name, "special": True} for at, name in placed.items()}
    tokenizer = load_tokenizer(write(path, tokenizer_config_json={"added_tokens_decoder": decoder}))
    assert tokenizer.vocab_size == first + 7
    assert (tokenizer.find("<far>"), tokenizer.find("<taken>"), tokenizer.find("<s>")) == (first + 5, first - 1, 1)
    assert tokenizer.find("<not unknown>") is None and tokenizer.unk_id == 0
    assert tokenizer.token_bytes(10) == bytes([7])
    assert tokenizer.decode(tokenizer.encode("Alice é")) == "Alice é"


def test_an_impossible_id_is_refused(tmp_path: Path) -> None:
    """A file cannot ask for a vocabulary of gigabytes."""
    path, _ = sentencepiece(tmp_path)
    settings = {"added_tokens_decoder": {"999999999": {"content": "<far>", "special": True}}}
    with pytest.raises(ModelLoadError, match=r"tokenizer.model"):
        load_tokenizer(write(path, tokenizer_config_json=settings))


def test_llamas_class_begins_texts(tmp_path: Path) -> None:
    """Where a file names the class and says nothing else, texts begin as transformers begins them."""
    path, _ = sentencepiece(tmp_path)
    assert not load_tokenizer(path).adds_bos
    assert load_tokenizer(write(path, tokenizer_config_json={"tokenizer_class": "LlamaTokenizer"})).adds_bos
    said = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}
    assert not load_tokenizer(write(path, tokenizer_config_json=said)).adds_bos


def gpt2_files(directory: Path, **settings: Any) -> Path:
    """`vocab.json` and `merges.txt` with tokens that are added behind."""
    keys = {key.removeprefix("tokenizer.ggml."): value for key, value in byte_level_metadata().items()}
    pieces = ["<|endoftext|>", *keys["tokens"][3:]]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *keys["merges"], ""]))
    vocab = {piece: at for at, piece in enumerate(pieces)}
    added = {str(len(pieces)): {"content": "<|im_end|>", "special": True}}
    return write(directory, vocab_json=vocab, tokenizer_config_json={"added_tokens_decoder": added} | settings)


@pytest.mark.parametrize(
    ("settings", "text", "names"),
    [
        ({}, "hello hello 12<|im_end|>", ["hello", " hello", " ", "1", "2", "<|im_end|>"]),
        ({"add_prefix_space": True}, "hello", [" hello"]),
        ({"tokenizer_class": "Qwen2Tokenizer"}, "hello\n\n12", ["hello", "\\n", "\\n", "1", "2"]),
    ],
)
def test_vocab_json_with_merges(tmp_path: Path, settings: dict[str, Any], text: str, names: list[str]) -> None:
    """GPT-2's own files: merges, cuts and added tokens; its end of text is a control token though no file says so."""
    path = gpt2_files(tmp_path, **settings)
    assert find_tokenizer(path) == path / "vocab.json"
    tokenizer = load_tokenizer(path)
    ids = tokenizer.encode(text, parse_special=True)
    assert [tokenizer.token_text(one) for one in ids] == names
    assert tokenizer.find("<|endoftext|>") == tokenizer.eos_id or tokenizer.eos_id == tokenizer.find("<|im_end|>")
    assert {0, tokenizer.find("<|im_end|>")} <= set(conventional_end_ids(tokenizer))
    assert tokenizer.notes == ()


def test_the_library_reads_the_same_from_both_files(tmp_path: Path) -> None:
    """Against the library's own reader of these files."""
    path = gpt2_files(tmp_path)
    model = tokenizers.models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt"))
    reference = tokenizers.Tokenizer(model)
    reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in ("hello hello", "I'm  é\n\n 12 你好😀", " <b> "):
        assert load_tokenizer(path).encode(text) == reference.encode(text).ids


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("vocab.json", "[]", "no table of tokens"),
        ("vocab.json", "{", "is no JSON"),
        ("vocab.json", '{"a</w>": 0}', "words with marked ends"),
        ("merges.txt", "not there", r"merges.txt beside it is damaged"),
    ],
)
def test_damaged_vocabularies_in_two_files(tmp_path: Path, name: str, content: str, words: str) -> None:
    """Each is one sentence that names the file."""
    path = gpt2_files(tmp_path)
    (path / name).write_text(content)
    with pytest.raises(ModelLoadError, match=words):
        load_tokenizer(path)
