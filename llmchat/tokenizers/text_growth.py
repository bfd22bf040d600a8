"""How long a tokenizer.json can make a text: its rules may double it again and again, in a file of a few hundred bytes.

Only upper bounds, in bytes of UTF-8: a file is refused for what it could do, before the library does it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import tokenizers

MOST_BYTES = 2**24
"""What a text may become; the library takes about 150 bytes of memory for each."""

_PASSAGE_BYTES = 1000
"""A text that every tokenizer must be able to take."""
_MOST_ADDED_IDS = 1000
"""Tokens that a post-processor may put around a text; most put one or two."""
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens")
_NO_MODEL = {"type": "BPE", "vocab": {}, "merges": []}


@dataclass(frozen=True, slots=True)
class Growth:
    """A text of n bytes becomes one of at most `factor` * n + `added`."""

    factor: float = 1.0
    added: float = 0.0

    def of(self, size: int) -> float:
        """Bytes that a text of `size` bytes becomes at most."""
        return self.factor * size + self.added

    def then(self, factor: float, added: float = 0.0) -> Growth:
        """This growth, followed by another."""
        return Growth(self.factor * factor, self.added * factor + added)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a tokenizer.json does besides looking up pieces, bounded."""

    encoding: Growth
    """Of a text on its way to the vocabulary."""
    is_bounded: bool
    """Whether the file may be opened: nothing in it makes more of a passage than `MOST_BYTES`."""


def read_rules(text: str) -> Rules:
    """Bound what a tokenizer.json can do, without doing it.

    Args:
        text: The file's content.

    Raises:
        Exception: Whatever json and `tokenizers` raise at damaged files.
    """
    values = _without_model(text)
    added = values.pop("added_tokens", None) or []
    # The library spells the rules out: files may leave out types and names.
    backend = tokenizers.Tokenizer.from_str(json.dumps({**values, "version": "1.0", "model": _NO_MODEL}))
    normalizing = _growth([_state(backend.normalizer)])
    encoding = _growth([_state(backend.normalizer), _state(backend.pre_tokenizer)])
    sizes = [
        encoding.of(_PASSAGE_BYTES),
        _growth([_state(backend.decoder)]).of(_PASSAGE_BYTES),
        sum(normalizing.of(len(json.dumps(token))) for token in added),
    ]
    is_bounded = max(sizes) <= MOST_BYTES and _added_ids(_state(backend.post_processor)) <= _MOST_ADDED_IDS
    return Rules(encoding, is_bounded)


def _without_model(text: str) -> dict[str, Any]:
    """The parts of the file that are rules; the vocabulary, which takes long, is passed over where it comes last."""
    model = re.search(r',\s*"model"\s*:', text)
    # A name further on could be spelled in escapes only.
    if model and not any(text.find(name, model.end()) >= 0 for name in (*(f'"{part}"' for part in _PARTS), "\\u")):
        with suppress(ValueError):
            return _parts(json.loads(text[: model.start()] + "}"))
    return _parts(json.loads(text))


def _parts(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values.get(name) for name in _PARTS}


def _state(rule: Any) -> Mapping[str, Any]:
    return {} if rule is None else json.loads(rule.__getstate__())


def _steps(rules: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """All rules in their order, those in sequences among them."""
    for rule in rules:
        if rule.get("type") != "Sequence":
            yield rule
        for name in ("normalizers", "pretokenizers", "decoders", "processors"):
            yield from _steps(rule.get(name, ()))


def _growth(rules: Iterable[Mapping[str, Any]]) -> Growth:
    whole = Growth()
    for rule in _steps(rules):
        kind = rule.get("type", "")
        bound = _BOUNDS.get(kind)
        step = bound(rule) if bound else Growth(_FACTORS.get(kind, 1.0))
        whole = whole.then(step.factor, step.added)
    return whole


def _replaced(rule: Mapping[str, Any]) -> Growth:
    content, literal = _size(rule["content"]), _size(rule["pattern"].get("String", ""))
    # An expression may match nothing, as an empty string does: before and after every character.
    return Growth(max(1.0, content / literal)) if literal else Growth(1.0 + content, content)


def _precompiled(rule: Mapping[str, Any]) -> Growth:
    """The longest replacement of SentencePiece's table: a tree with its size before it, then strings that end in 0."""
    table = base64.b64decode(rule["precompiled_charsmap"] or "")
    strings = table[4 + int.from_bytes(table[:4], "little") :]
    return Growth(max(1.0, *map(len, strings.split(b"\0"))))


def _size(text: str) -> int:
    return len(text.encode())


_BOUNDS: dict[str, Callable[[Mapping[str, Any]], Growth]] = {
    "Replace": _replaced,
    "Precompiled": _precompiled,
    "Prepend": lambda rule: Growth(1.0, _size(rule["prepend"])),
    "BPEDecoder": lambda rule: Growth(1.0 if rule["suffix"] else 2.0, 1.0),
    # One character may come before every piece, and pieces may be as short as one.
    "Metaspace": lambda rule: Growth(1.0 + _size(rule["replacement"]), _size(rule["replacement"])),
}

_FACTORS = {"NFC": 3, "NFD": 3, "NFKC": 11, "NFKD": 11, "Lowercase": 1.5, "BertNormalizer": 8, "ByteLevel": 3}
"""Unicode's own bounds (UAX #15, FAQ); two spaces around a Chinese character; two bytes for one, a space before it."""


def _added_ids(post_processor: Mapping[str, Any]) -> int:
    """How many ids post-processors put around a text."""
    return sum(
        len(rule["special_tokens"].get(piece["SpecialToken"]["id"], {}).get("ids", ()))
        for rule in _steps([post_processor])
        if rule.get("type") == "TemplateProcessing"
        for piece in rule["single"]
        if "SpecialToken" in piece
    )
