"""tokenizer.json files: the library's ids, and text token by token."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from llmchat.errors import GenerationError, ModelLoadError
from llmchat.tokenizers.piece_bytes import byte_level_bytes
from llmchat.tokenizers.tokenizer_json import TokenizerJson
from tests.conftest import DATA
from tests.tokenizers.vocabularies import LLMBUILDER_1, LLMBUILDER_2, TEXTS, TOKENIZER_JSONS, llama_fast


def _saved(backend: Tokenizer, directory: Path, **files: object) -> Path:
    backend.save(str(directory / "tokenizer.json"))
    for name, values in files.items():
        (directory / f"{name}.json").write_text(json.dumps(values))
    return directory


@pytest.mark.parametrize("path", TOKENIZER_JSONS, ids=lambda path: path.parent.name)
def test_encode_adds_nothing(path: Path) -> None:
    """The post-processor's begin and end tokens stay out; the ids between are the library's."""
    ours, theirs = TokenizerJson.from_path(path), Tokenizer.from_file(str(path))
    for text in ("Alice was beginning to get very tired.", "she said", ""):
        assert ours.encode(text, parse_special=True) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", ["hf_bpe", "hf_unigram"])
def test_pieces_without_a_decoder_are_joined_by_a_space(name: str) -> None:
    """The tokenizers of llmbuilder have no decoder: the text is the library's own join."""
    path = LLMBUILDER_2 / name
    ours, theirs = TokenizerJson.from_path(path), Tokenizer.from_file(str(path / "tokenizer.json"))
    ids = ours.encode("Alice was beginning to get very tired.")
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.adds_space_prefix


@pytest.mark.parametrize("path", [LLMBUILDER_2 / "hf_wordpiece", LLMBUILDER_1 / "tok_hf"], ids=["2.0.0", "1.0.0"])
def test_word_pieces_are_put_together(path: Path) -> None:
    """Pieces that begin with ## go on from the one before."""
    tokenizer = TokenizerJson.from_path(path)
    assert tokenizer.decode(tokenizer.encode("Alice was beginning, she said")) == "Alice was beginning , she said"


@pytest.mark.parametrize("path", TOKENIZER_JSONS, ids=lambda path: path.parent.name)
def test_characters_outside_the_vocabulary_are_unknown(path: Path) -> None:
    """Unigram files of llmbuilder forget the unknown token, and the library would refuse the text."""
    tokenizer = TokenizerJson.from_path(path)
    for text in TEXTS:
        tokenizer.encode(text)
    assert tokenizer.unk_id in tokenizer.encode("漢")


def test_special_ids_of_llmbuilders_files() -> None:
    """Begin, end and unknown are found by their usual names; whether texts begin with one by the post-processor."""
    new, old = TokenizerJson.from_path(LLMBUILDER_2 / "hf_bpe"), TokenizerJson.from_path(LLMBUILDER_1 / "tok_hf")
    assert (new.unk_id, new.bos_id, new.eos_id, new.adds_bos) == (1, 2, 3, True)
    assert (old.unk_id, old.bos_id, old.eos_id, old.adds_bos) == (1, 2, 3, False)


def test_control_text_is_parsed_only_on_request() -> None:
    """A typed "</s>" stays text; in a rendered template it is the token."""
    tokenizer = TokenizerJson.from_path(LLMBUILDER_2 / "hf_bpe")
    assert 3 not in tokenizer.encode("a </s>")
    assert tokenizer.encode("</s>", parse_special=True) == [3]
    assert 3 not in tokenizer.encode("a </s>")
    assert (tokenizer.find("</s>"), tokenizer.find("a")) == (3, None)
    assert (tokenizer.token_bytes(3), tokenizer.token_text(3), tokenizer.is_control(3)) == (b"", "</s>", True)


def test_llama_decoder(tmp_path: Path) -> None:
    """Blank marks, byte pieces and the first space come out as the library's decoder gives them."""
    backend = llama_fast()
    tokenizer = TokenizerJson.from_path(_saved(backend, tmp_path))
    for text in ("she said 'hello' 漢😀", "  two", "a\nb", "漢"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == backend.decode(ids)
        assert tokenizer.decode(ids).strip() == text.strip()
    assert tokenizer.token_bytes(3 + 0xE6) == b"\xe6"
    assert tokenizer.token_text(3 + 0xE6) == "<0xE6>"
    assert tokenizer.token_text(3 + 0x0A) == "\\n"


def test_byte_alphabet_is_gpt2s() -> None:
    """Every byte of every character survives the byte-level alphabet."""
    tokens = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(map(chr, range(0x250))) + "漢😀"
    assert byte_level_bytes("".join(piece for piece, _ in tokens.pre_tokenize_str(text))) == text.encode()


def test_declared_tokens_win(tmp_path: Path) -> None:
    """What the files beside a tokenizer.json declare goes before the usual names."""
    config = {"eos_token": {"content": "<|im_end|>"}, "add_bos_token": True}
    path = _saved(llama_fast(), tmp_path, tokenizer_config=config, generation_config={"bos_token_id": 1})
    tokenizer = TokenizerJson.from_path(path)
    assert (tokenizer.bos_id, tokenizer.adds_bos) == (1, True)
    assert tokenizer.eos_id == tokenizer.find("<|im_end|>")


def test_declared_ids_of_several_end_tokens(tmp_path: Path) -> None:
    """A list of end ids gives its first; ids that do not exist are passed over."""
    path = _saved(llama_fast(), tmp_path, generation_config={"eos_token_id": [10**6, 2]})
    assert TokenizerJson.from_path(path).eos_id == 2


def test_metaspace_and_added_text(tmp_path: Path) -> None:
    """A Metaspace vocabulary keeps blanks; an added token that is no control token is text."""
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -1.0), ("▁", -2.0)], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_tokens(["<think>"])
    tokenizer = TokenizerJson.from_path(_saved(backend, tmp_path))
    ids = tokenizer.encode("a ab<think>")
    assert tokenizer.decode(ids) == "a ab<think>"
    assert tokenizer.find("<think>") == 4
    assert not tokenizer.is_control(4)


def test_ids_outside_the_vocabulary_are_harmless() -> None:
    """A model with more logits than the tokenizer has pieces never fails."""
    tokenizer = TokenizerJson.from_path(LLMBUILDER_2 / "hf_bpe")
    for token_id in (-1, tokenizer.vocab_size, 10**9):
        assert tokenizer.token_bytes(token_id) == b""
        assert str(token_id) in tokenizer.token_text(token_id)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"model": {}}', "[1]", '{"model": {"type": "BPE", "vocab": 3}}'])
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    """A file that is no tokenizer is one clear error."""
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelLoadError, match="is no tokenizer or is damaged"):
        TokenizerJson.from_path(tmp_path)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    """No file, and a file that is no text, are one clear error."""
    with pytest.raises(ModelLoadError, match="There is no tokenizer"):
        TokenizerJson.from_path(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{\x00}\x00")
    with pytest.raises(ModelLoadError, match="UTF-16: save it as UTF-8"):
        TokenizerJson.from_path(tmp_path)


PANICS = DATA / "tokenizer-panics"


def test_a_file_s_padding_and_truncation_are_left_aside(tmp_path: Path) -> None:
    """Padding to gigabytes would end the process, and a long text must not be cut."""
    file = json.loads((LLMBUILDER_2 / "hf_bpe" / "tokenizer.json").read_text("utf-8"))
    padding = {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
    file["padding"] = {**padding, "pad_to_multiple_of": None}
    file["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file), "utf-8")
    usual = TokenizerJson.from_path(LLMBUILDER_2 / "hf_bpe")
    assert TokenizerJson.from_path(tmp_path).encode("a few words") == usual.encode("a few words")


def test_a_panic_of_the_library_at_reading_is_a_model_that_cannot_be_loaded() -> None:
    """Rust's panics are no exceptions of Python's; what the library says is part of the sentence."""
    with pytest.raises(ModelLoadError, match=r"damaged \(slice index starts at 1"):
        TokenizerJson.from_path(PANICS / "reading.json")


@pytest.mark.parametrize("name", ["encoding.json", "decoder.json"])
def test_a_panic_of_the_library_at_encoding_is_a_reply_that_fails(name: str) -> None:
    """The vocabulary could be read; the text cannot be."""
    with pytest.raises(GenerationError, match="tokenizer fails on this text"):
        TokenizerJson.from_path(PANICS / name).encode("Hello there.")


@pytest.mark.parametrize(
    "value",
    ["1" * 5000, "1e400", "-1", str(2**64), "NaN", '"\\ud800"', "[" * 100_000, '{"content": {}}', '["<s>", 7, null]'],
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "tokenizer.json"])
def test_values_that_no_library_expects_are_passed_over_or_refused(name: str, value: str, tmp_path: Path) -> None:
    """Huge and negative numbers, lone surrogates and endless nesting never end in an error of a library."""
    shutil.copy(LLMBUILDER_2 / "hf_bpe" / "tokenizer.json", tmp_path)
    (tmp_path / name).write_text(f'{{"eos_token": {value}, "bos_token_id": {value}, "version": {value}}}')
    with contextlib.suppress(ModelLoadError):
        TokenizerJson.from_path(tmp_path)


def test_truncation_and_padding_are_off(tmp_path: Path) -> None:
    """A training file's limits never cut a prompt."""
    backend = tokenizers.Tokenizer.from_file(str(LLMBUILDER_2 / "hf_bpe" / "tokenizer.json"))
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    tokenizer = TokenizerJson.from_path(_saved(backend, tmp_path))
    assert 2 < len(tokenizer.encode("Alice was beginning")) < 50
