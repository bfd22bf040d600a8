"""Files of the tokenizers library: every kind of model that it has, with parts exchanged and broken."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from llmchat.chat.turn import Turn
from llmchat.tokenizers.loading import load_tokenizer
from llmchat.tokenizers.prompt_style import load_prompt_style
from tests.hostile.damage import damaged_text
from tests.hostile.opened import DATA, use
from tests.hostile.trees import damaged_tree, json_text

_NORMALIZERS: tuple[Any, ...] = (
    None,
    {"type": "NFKC"},
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁" * 1000},
    {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
    {"type": "Replace", "pattern": {"String": ""}, "content": "x"},
    {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="},
    {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
)
_PRE_TOKENIZERS: tuple[Any, ...] = (
    None,
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "Split", "pattern": {"Regex": "(\\w+\\s?)+$"}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Removed", "invert": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Metaspace", "replacement": "ab", "prepend_scheme": "first", "split": False},
    {"type": "FixedLength", "length": 0},
    {"type": "Digits", "individual_digits": True},
)
_DECODERS: tuple[Any, ...] = (
    None,
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "ByteFallback"},
    {"type": "Strip", "content": "a", "start": 10**9, "stop": 10**9},
    {"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": True},
    {"type": "WordPiece", "prefix": "", "cleanup": True},
    {"type": "Replace", "pattern": {"String": ""}, "content": "y"},
)
_POST_PROCESSORS: tuple[Any, ...] = (
    None,
    {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
        "pair": [],
        "special_tokens": {},
    },
    {"type": "BertProcessing", "sep": ["a", 10**9], "cls": ["b", 0]},
    {"type": "RobertaProcessing", "sep": ["a", 1], "cls": ["b", 0], "trim_offsets": True, "add_prefix_space": True},
)
_MODELS: tuple[Any, ...] = (
    {"type": "WordLevel", "vocab": {"a": 0, "b": 5}, "unk_token": "c"},
    {
        "type": "WordPiece",
        "vocab": {"[UNK]": 0, "##": 1, "a": 2},
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 0,
    },
    {
        "type": "Unigram",
        "vocab": [["<unk>", 0.0], ["a", -1e308], ["", 3.0], ["b", 1e308]],
        "unk_id": 7,
        "byte_fallback": True,
    },
    {"type": "Unigram", "vocab": [], "unk_id": 0},
    {
        "type": "BPE",
        "vocab": {"a": 0, "b": 1, "ab": 2},
        "merges": [["a", "b"]],
        "dropout": 2.0,
        "unk_token": "zz",
        "fuse_unk": True,
        "byte_fallback": True,
    },
    {
        "type": "BPE",
        "vocab": {"a": 2**32 - 1, "b": 1},
        "merges": [],
        "end_of_word_suffix": "</w>",
        "ignore_merges": True,
    },
)
_PARTS = {
    "normalizer": _NORMALIZERS,
    "pre_tokenizer": _PRE_TOKENIZERS,
    "decoder": _DECODERS,
    "post_processor": _POST_PROCESSORS,
    "model": _MODELS,
    "truncation": (
        None,
        {"max_length": 0, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        {"max_length": 3, "strategy": "OnlySecond", "stride": 9, "direction": "Left"},
    ),
    "padding": (
        None,
        {
            "strategy": {"Fixed": 10**10},
            "direction": "Right",
            "pad_to_multiple_of": 0,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "a",
        },
        {
            "strategy": "BatchLongest",
            "direction": "Left",
            "pad_to_multiple_of": 10**9,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "a",
        },
    ),
}


@cache
def _sources() -> list[dict[str, Any]]:
    paths = [
        DATA / "huggingface" / "llama" / "tokenizer.json",
        *sorted((DATA / "llmbuilder-formats").rglob("tokenizer.json")),
    ]
    return [json.loads(path.read_text()) for path in paths]


def sound(place: Path) -> None:
    """A tokenizer that opens."""
    (place / "tokenizer.json").write_text(json.dumps(_sources()[0]))


def write(rng: Random, place: Path) -> None:
    """A tokenizer of damaged or exchanged parts."""
    tree: Any = dict(rng.choice(_sources()))
    if rng.random() < 0.5:
        for name in rng.sample(list(_PARTS), rng.choice((1, 1, 2, 3))):
            tree[name] = rng.choice(_PARTS[name])
            if name not in ("model", "truncation", "padding") and rng.random() < 0.2:
                inner = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}.get(
                    name, "processors"
                )
                tree[name] = {"type": "Sequence", inner: [tree[name]] * rng.choice((0, 1, 50))}
    if rng.random() < 0.2:
        tree["added_tokens"] = [_added(rng) for _ in range(rng.choice((1, 3, 30)))]
    if rng.random() < 0.7:
        tree = damaged_tree(rng, tree)
    (place / "tokenizer.json").write_bytes(damaged_text(rng, json_text(tree)))
    if rng.random() < 0.1:
        settings = {"bos_token": "<s>", "add_bos_token": True, "eos_token": {"content": "</s>"}, "unk_token": 0}
        (place / "tokenizer_config.json").write_bytes(damaged_text(rng, json_text(damaged_tree(rng, settings))))


def _added(rng: Random) -> dict[str, Any]:
    flags = {name: rng.random() < 0.5 for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    token_id = rng.choice((0, 1, 5, 300, 2**31, 2**32 - 1))
    return {"id": token_id, "content": rng.choice(("", " ", "<s>", "a", "▁", "\x00", "é", "x" * 1000, "\n")), **flags}


def attempt(place: Path) -> None:
    """Open it, and use it alone and through a template."""
    tokenizer = load_tokenizer(place)
    use(tokenizer)
    style = load_prompt_style("chatml", tokenizer)
    style.encode([Turn("user", "Hello"), Turn("assistant", "Yes"), Turn("user", "Go on")])
    _ = style.stop_strings
