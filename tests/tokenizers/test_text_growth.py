"""A tokenizer.json whose rules can make a short text fill the memory is refused before anything is encoded."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceNormalizer
from tokenizers import Tokenizer

from llmchat.errors import ModelLoadError, PromptTooLongError
from llmchat.tokenizers.text_growth import MOST_BYTES, read_rules
from llmchat.tokenizers.tokenizer_json import TokenizerJson
from tests.tokenizers.vocabularies import TOKENIZER_JSONS

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
_EVERY_CHAR = {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False}
_WORDS = {"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}{1,3}"}, "behavior": "Isolated", "invert": False}
_DOUBLED = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
_TRICKY = "naïve ﷺ İ ΐ 你好  two\u0344 😀 a"


def _replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def _normalizers(*steps: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def _pre_tokenizers(*steps: Any) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _charsmap(strings: bytes = b"") -> dict[str, Any]:
    table = bytes(4) + strings
    if not strings:
        model = SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_model_proto()
        # The table's field follows the rule's name: its number and its length, in four bytes.
        table = model.partition(b"nmt_nfkc")[2][4:]
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def _tokenizer(**parts: Any) -> str:
    model = {"type": "BPE", "vocab": {"a": 0, "▁": 1}, "merges": []}
    return json.dumps({"version": "1.0", "added_tokens": [], **parts, "model": model}, ensure_ascii=False)


_ROBERTA_IDS = {"id": "<s>", "ids": [0] * 100, "tokens": ["a"] * 100}
BOMBS: dict[str, dict[str, Any]] = {
    "nothing replaced": {"normalizer": _normalizers(*[_replace("", "x")] * 50)},
    "nothing matched": {"normalizer": _normalizers(*[_replace("(?=x)", "x", "Regex")] * 50)},
    "long content": {"normalizer": _normalizers(*[_replace("a", "a" * 300)] * 3)},
    "sequences in sequences": {"normalizer": _normalizers(*[_normalizers(*[_DOUBLED] * 8)] * 8)},
    "rules without names": {"normalizer": {"normalizers": [[{"String": ""}, "x"]] * 50}},
    "prepended, then multiplied": {
        "normalizer": _normalizers({"type": "Prepend", "prepend": "a" * 9000}, *[_DOUBLED] * 12)
    },
    "compatibility forms": {"normalizer": _normalizers(*[_replace("ل", "ﷺ"), {"type": "NFKD"}] * 20)},
    "bytes as characters": {"normalizer": _normalizers(*[{"type": "ByteLevel"}] * 50)},
    "a table of replacements": {"normalizer": _normalizers(*[_charsmap(b"a" * 1000 + b"\0")] * 3)},
    "bytes as characters in pieces": {"pre_tokenizer": _pre_tokenizers(*[_BYTE_LEVEL] * 50)},
    "a mark before every character": {"pre_tokenizer": _pre_tokenizers(*[_EVERY_CHAR, _METASPACE] * 40)},
    "decoded": {"decoder": {"type": "Sequence", "decoders": [_replace("", "y")] * 50}},
    "added ids": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * 100,
            "pair": [],
            "special_tokens": {"<s>": _ROBERTA_IDS},
        }
    },
    "added tokens": {
        "normalizer": _replace("a", "a" * 10_000),
        "added_tokens": [
            {"id": 0, "content": "a" * 2000, "single_word": False, "lstrip": False, "rstrip": False}
            | {"normalized": True, "special": False}
        ],
    },
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "llama 2": {"normalizer": _normalizers({"type": "Prepend", "prepend": "▁"}, _replace(" ", "▁"))},
    "gemma": {"normalizer": _replace(" ", "▁")},
    "mistral": {"pre_tokenizer": {**_METASPACE, "prepend_scheme": "first", "split": False}},
    "qwen": {"normalizer": {"type": "NFC"}, "pre_tokenizer": _pre_tokenizers(_WORDS, _BYTE_LEVEL)},
    "deepseek": {
        "normalizer": _normalizers(),
        "pre_tokenizer": _pre_tokenizers(_WORDS, _WORDS, {"type": "Digits", "individual_digits": True}, _BYTE_LEVEL),
    },
    "sentencepiece": {
        "normalizer": _normalizers(_charsmap(), _replace(" {2,}", "▁", "Regex")),
        "pre_tokenizer": _METASPACE,
    },
    "albert": {
        "normalizer": _normalizers(
            _replace("``", '"'), {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, _charsmap()
        ),
        "pre_tokenizer": _METASPACE,
    },
    "bert": {
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        | {"strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    },
}


@pytest.mark.parametrize("name", BOMBS)
def test_rules_that_grow_without_bound_are_refused(name: str, tmp_path: Path) -> None:
    """One line says so; nothing was encoded, or this would take all memory."""
    (tmp_path / "tokenizer.json").write_text(_tokenizer(**BOMBS[name]))
    with pytest.raises(ModelLoadError, match=r"refused: its rules can make a short text too long .* --tokenizer"):
        TokenizerJson.from_path(tmp_path)


@pytest.mark.parametrize("name", KINDS)
def test_rules_of_real_models_are_taken_and_bounded(name: str, tmp_path: Path) -> None:
    """What models have opens, and a text does not grow more than was reckoned."""
    content = _tokenizer(**KINDS[name])
    (tmp_path / "tokenizer.json").write_text(content)
    TokenizerJson.from_path(tmp_path).encode(_TRICKY)
    backend, growth = Tokenizer.from_str(content), read_rules(content).encoding
    for text in (*_TRICKY, _TRICKY):
        made = backend.normalizer.normalize_str(text) if backend.normalizer else text
        pieces = backend.pre_tokenizer.pre_tokenize_str(made) if backend.pre_tokenizer else [(made, ())]
        assert sum(len(piece.encode()) for piece, _ in pieces) <= growth.of(len(text.encode()))
    assert growth.of(3000) <= MOST_BYTES, "a page of text fits"


@pytest.mark.parametrize("path", TOKENIZER_JSONS, ids=lambda path: path.parent.name)
def test_rules_are_found_wherever_they_stand(path: Path) -> None:
    """After the vocabulary, in escapes, twice: the same rules as the library's."""
    values = json.loads(path.read_text())
    turned = json.dumps(dict(reversed(values.items())))
    assert read_rules(turned) == read_rules(path.read_text())
    bomb = json.dumps(BOMBS["nothing replaced"]["normalizer"])
    for key in (r'"normalizer"', r'"\u006eormalizer"'):
        assert not read_rules(path.read_text().strip().removesuffix("}") + f", {key}: {bomb}}}").is_bounded


def test_texts_that_could_grow_too_long_are_too_long(tmp_path: Path) -> None:
    """A tokenizer that multiplies within bounds takes short texts, and refuses long ones with the number."""
    (tmp_path / "tokenizer.json").write_text(_tokenizer(normalizer=_replace("b", "b" * 10_000)))
    tokenizer = TokenizerJson.from_path(tmp_path)
    tokenizer.encode("about")
    for encode in (tokenizer.encode, lambda text: tokenizer.encode_apart(text, "\0")):
        with pytest.raises(PromptTooLongError, match="2,000 characters"):
            encode("b" * 2000)
