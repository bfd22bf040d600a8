"""Vocabularies inside GGUF files."""

from __future__ import annotations

from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor

from llmchat.errors import ModelLoadError
from llmchat.tokenizers.gguf_vocab import load_gguf_vocab
from llmchat.tokenizers.pre_tokenizers import build_pre_tokenizer, pre_tokenizer_rules
from tests.tokenizers.vocabularies import LLMBUILDER_2, TEXTS, byte_level_metadata, llama_fast, llama_metadata


def test_llama_vocabulary_is_sentencepieces() -> None:
    """A model rebuilt from GGUF's keys cuts a text as the model it was made from."""
    source = SentencePieceProcessor(model_file=str(LLMBUILDER_2 / "spm2_bpe" / "tokenizer.model"))
    pieces = range(source.get_piece_size())
    keys = llama_metadata(
        tokens=[source.id_to_piece(token_id) for token_id in pieces],
        scores=[source.get_score(token_id) for token_id in pieces],
        token_type=[3, 2, 3, 3, 4, 4, *[1] * (len(pieces) - 6)],
        unknown_token_id=1, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    tokenizer = load_gguf_vocab(keys).tokenizer
    for text in ("Alice was beginning to get tired", "she said, 'Hello!'", "<user>hi<assistant>"):
        assert tokenizer.encode(text) == source.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS,
        "<s>she said</s>",
        "a<s> she</s>\nhe said",
        "<|im_end|>\n<s>漢 the",
        "<s><s>",
        "the<|im_end|>the",
    ],
)
def test_control_tokens_bring_no_space(text: str) -> None:
    """Text around control tokens has the ids of Hugging Face's Llama tokenizer with legacy=False."""
    tokenizer = load_gguf_vocab(llama_metadata()).tokenizer
    # The fast tokenizer does not double a text's own first blank; SentencePiece does.
    expected = llama_fast().encode(text.lstrip(" "), add_special_tokens=False).ids
    assert tokenizer.encode(text.lstrip(" "), parse_special=True) == expected


def test_llama_bytes_and_special_ids() -> None:
    """Byte pieces give their byte; begin and end come from the keys; the begin token is added unless told."""
    vocab = load_gguf_vocab(llama_metadata())
    tokenizer = vocab.tokenizer
    assert tokenizer.decode(tokenizer.encode("漢😀\n the")) == "漢😀\n the"
    assert tokenizer.token_bytes(3 + 0xE6) == b"\xe6"
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.adds_bos) == (0, 1, 2, True)
    assert vocab.end_ids == (2, 259)
    assert not load_gguf_vocab(llama_metadata(add_bos_token=False)).tokenizer.adds_bos


def test_space_prefix_can_be_off() -> None:
    """add_space_prefix false leaves a text as it is."""
    tokenizer = load_gguf_vocab(llama_metadata(add_space_prefix=False)).tokenizer
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode("the"))) == b"the"
    assert tokenizer.decode(tokenizer.encode(" the")) == " the"


def test_repeated_and_empty_pieces_do_not_fail() -> None:
    """Padded vocabularies open; the first of equal pieces is the one that is used."""
    keys = llama_metadata()
    for name, value in (("tokens", ["", "the", "the", "byte"]), ("scores", [0.0] * 4), ("token_type", [1, 1, 2, 6])):
        keys[f"tokenizer.ggml.{name}"] = [*keys[f"tokenizer.ggml.{name}"], *value]
    tokenizer = load_gguf_vocab(keys).tokenizer
    assert tokenizer.vocab_size == len(keys["tokenizer.ggml.tokens"])
    assert tokenizer.decode(tokenizer.encode("the end")) == "the end"


def test_byte_level_vocabulary() -> None:
    """Merges, control tokens and special ids of a gpt2 vocabulary."""
    vocab = load_gguf_vocab(byte_level_metadata(eot_token_id=0))
    tokenizer = vocab.tokenizer
    ids = tokenizer.encode("hello hello<|im_end|>漢", parse_special=True)
    assert [tokenizer.token_text(token_id) for token_id in ids[:3]] == ["hello", " hello", "<|im_end|>"]
    assert tokenizer.decode(ids) == "hello hello漢"
    assert 2 not in tokenizer.encode("<|im_end|>")
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.adds_bos) == (1, 2, False)
    assert vocab.end_ids == (2, 0)
    assert vocab.notes == ()


def test_unknown_pre_tokenizer_is_usable_and_said() -> None:
    """A model newer than the table still opens, with a sentence for the person."""
    vocab = load_gguf_vocab(byte_level_metadata(pre="from-the-future"))
    assert "from-the-future" in vocab.notes[0]
    assert vocab.tokenizer.decode(vocab.tokenizer.encode("hello 12")) == "hello 12"


def test_llama3_adds_bos_by_default() -> None:
    """Llama 3's files leave the key out and mean true; a file that says false is believed."""
    assert load_gguf_vocab(byte_level_metadata(pre="llama-bpe")).tokenizer.adds_bos
    assert not load_gguf_vocab(byte_level_metadata(pre="llama-bpe", add_bos_token=False)).tokenizer.adds_bos


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        ("gpt-2", "I'm 123  ok", ["I", "'m", "Ġ123", "Ġ", "Ġok"]),
        ("smollm", "a  12 b", ["a", "ĠĠ", "1", "2", "Ġb"]),
        ("llama-bpe", "I'M 12345\n\n ok", ["I", "'M", "Ġ", "123", "45", "ĊĊ", "Ġok"]),
        ("qwen2", "a 123!", ["a", "Ġ", "1", "2", "3", "!"]),
        ("default", "a+b 1234", ["a", "+", "b", "Ġ", "123", "4"]),
        ("tekken", "HelloWorld 12", ["Hello", "World", "Ġ", "1", "2"]),
        ("gpt-4o", "HelloWorld's 1234", ["Hello", "World's", "Ġ", "123", "4"]),
        ("falcon", "a`b 1234", ["a", "`", "b", "Ġ", "123", "4"]),
        ("deepseek-v3", "ab 1234.x", ["ab", "Ġ", "123", "4", ".x"]),
        ("seed-coder", "a!!\n\nb 12", ["a", "!!", "ĊĊ", "b", "Ġ", "1", "2"]),
        ("bailingmoe", "Don't\n\nGo 12", ["Don", "'t", "ĊĊ", "Go", "Ġ", "1", "2"]),
        ("bailingmoe", "a!\n\nGo", ["a", "!ĊĊ", "Go"]),
        ("superbpe", "by the way 1234567", ["byĠtheĠwayĠ", "1", "234", "567"]),
        ("afmoe", "by 1234567x", ["by", "Ġ", "1", "234", "567", "x"]),
        ("tiny_aya", "by 1234567 x", ["by", "Ġ", "1", "234", "567", "Ġx"]),
        ("viking", "one, two12", ["one", ",", "Ġtwo", "1", "2"]),
        ("poro-chat", "one, two12!", ["one", ",", "Ġtwo12", "!"]),
        ("bloom", "a.b  c", ["a", ".", "b", "Ġ", "Ġc"]),
        ("kimi-k2", "HelloWorld's 1234", ["Hello", "World's", "Ġ", "123", "4"]),
        ("minicpm5", "ab 12345", ["ab", "Ġ", "123", "45"]),
        ("deepseek-llm", "ab 12345\n\nc", ["ab", "Ġ", "12345", "Ċ", "Ċ", "c"]),
        ("a.x-4.0", "I'm 123", ["I", "'m", "Ġ123"]),
        ("gigachat", "I'm 123", ["I", "'m", "Ġ123"]),
        ("jais-2", "a     b", ["a", "ĠĠĠĠ", "Ġb"]),
        ("exaone-moe", "New York, 12", ["NewĠYork", ",", "Ġ", "1", "2"]),
        ("ufakzeka", "Ankara'da 12", ["Ankara", "'da", "Ġ", "1", "2"]),
        ("laguna", "a \nb", ["a", "Ġ", "Ċ", "b"]),
        ("chameleon", "a  12!", ["a", "ĠĠ", "1", "2", "!"]),
    ],
)
def test_words_of_common_pre_tokenizers(pre: str, text: str, words: list[str]) -> None:
    """Each named rule cuts contractions, digits and blanks its own way."""
    rules = pre_tokenizer_rules(pre)
    assert rules is not None
    assert [piece for piece, _ in build_pre_tokenizer(rules).pre_tokenize_str(text)] == words


NAMES = """
    default minicpm5 llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano deepseek-llm
    deepseek-coder deepseek-v3 spark2_5 youtu falcon mpt starcoder gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es
    jina-v2-de a.x-4.0 mellum modern-bert jais-2 gemma4 granite-embed-multi-311m sarvam-moe jina-v1-en jina-v2-code
    roberta-bpe refact command-r qwen2 deepseek-r1-qwen kormo f2llmv2 qwen35 stablelm2 olmo dbrx smaug-bpe poro-chat
    glm4 chatglm-bpe viking jais tekken smollm codeshell bloom gpt3-finnish exaone exaone4 exaone-moe chameleon
    minerva-7b megrez gpt-4o llama4 kanana2 talkie granite-embed-multi-97m tiny_aya cohere2moe superbpe trillion
    granite-docling bailingmoe bailingmoe2 llada-moe seed-coder hunyuan hunyuan-dense hy_v4 joyai-llm kimi-k2
    ufakzeka grok-2 afmoe laguna minimax-m2 solar-open mellum2
"""


def test_every_name_of_llama_cpp_is_known() -> None:
    """The names in `llama-vocab.cpp` of November 2026, but for that of models that only give vectors."""
    assert [name for name in NAMES.split() if pre_tokenizer_rules(name) is None] == []
    for rules in filter(None, map(pre_tokenizer_rules, NAMES.split())):
        assert build_pre_tokenizer(rules).pre_tokenize_str("Some words, 123.")


def test_a_vocabulary_of_characters() -> None:
    """Gemma 4's: blanks are U+2581, runs of line breaks one token, and what is in no piece is written in bytes."""
    pieces = ["<bos>", "<turn|>", *(f"<0x{byte:02X}>" for byte in range(256)), *"\u2581abc\n", "ab", "\u2581ab", "\n\n"]
    keys = byte_level_metadata(
        model="gemma4",
        pre=None,
        tokens=pieces,
        token_type=[3, 3, *[6] * 256, *[1] * (len(pieces) - 258)],
        merges=["a b", "\u2581 ab"],
        bos_token_id=0,
        eos_token_id=1,
    )
    vocab = load_gguf_vocab(keys)
    ids = vocab.tokenizer.encode("ab abc\n\né<turn|>", parse_special=True)
    names = [vocab.tokenizer.token_text(token_id) for token_id in ids]
    assert names == ["ab", " ab", "c", "\\n\\n", "<0xC3>", "<0xA9>", "<turn|>"]
    assert vocab.tokenizer.decode(ids) == "ab abc\n\né"
    assert vocab.tokenizer.adds_bos and vocab.end_ids[0] == 1 and vocab.notes == ()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "holds no tokenizer"),
        (byte_level_metadata(model="bert"), "'bert'"),
        (byte_level_metadata(token_type=[1]), "damaged"),
        (byte_level_metadata(merges=["no such"]), "names no token"),
        (llama_metadata(scores=None), "scores"),
        (llama_metadata(scores=[0.0]), "scores"),
        (llama_metadata(scores="high"), "scores"),
        (llama_metadata(tokens=7), "tokens"),
        (byte_level_metadata(tokens=["a", 1]), "tokens"),
        (byte_level_metadata(merges=[3]), "merges"),
    ],
)
def test_unusable_vocabularies_are_refused(keys: dict[str, Any], message: str) -> None:
    """What cannot be read is one clear error."""
    with pytest.raises(ModelLoadError, match=message):
        load_gguf_vocab(keys)


def test_special_ids_outside_the_vocabulary_are_left_out() -> None:
    """A damaged id never becomes an index error later."""
    vocab = load_gguf_vocab(byte_level_metadata(bos_token_id="x", eos_token_id=-1))
    assert vocab.tokenizer.bos_id is None
    assert vocab.end_ids == (2, 0)
