"""What the small files beside a vocabulary say of its tokens: which begin and end texts, and which were added to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmchat.tokenizers.control_names import looks_like_control
from llmchat.tokenizers.readable import encodable
from llmchat.tokenizers.text_files import read_object

_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_BEGINNERS = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")
"""How transformers calls tokenizers that begin texts with the begin token if nothing is said."""

_ID_LIMIT = 2**31
_MOST_ADDED = 2**17


@dataclass(frozen=True, slots=True)
class AddedName:
    """A token that a vocabulary was given after it was made."""

    name: str
    is_control: bool
    """Whether it stands for no text."""


def declared_tokens(directory: Path) -> dict[str, Any]:
    """What the files of a directory say of the special tokens; the most specific file wins.

    Returns:
        `bos_token`, `eos_token` and `unk_token` as names, ids or lists of these, and `add_bos_token`, as far as said.

    Raises:
        ModelLoadError: One of the files is damaged.
    """
    declared: dict[str, Any] = {}
    for name in ("config.json", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json"):
        values = read_object(directory / name)
        if name == "tokenizer_config.json" and isinstance(values.get("special_tokens"), Mapping):
            declared.update(values["special_tokens"])
        for key in ("bos_token", "eos_token", "unk_token"):
            if values.get(f"{key}_id") is not None:
                declared[key] = values[f"{key}_id"]
            if values.get(key) is not None:
                declared[key] = values[key]
        if isinstance(values.get("add_bos_token"), bool):
            declared["add_bos_token"] = values["add_bos_token"]
        elif str(values.get("tokenizer_class")).startswith(_BEGINNERS):
            declared["add_bos_token"] = True
    return declared


def declared_id(declared: object, find: Callable[[str], int | None], has: Callable[[int], bool]) -> int | None:
    """The id of a declared token.

    Args:
        declared: A name, an id, what holds a name as "content", or a list of these; None for none.
        find: The id of a name.
        has: Whether an id is in the vocabulary.

    Returns:
        That of the first that there is; None if there is none.
    """
    for one in declared if isinstance(declared, list) else [declared]:
        value = one.get("content") if isinstance(one, Mapping) else one
        if type(value) is int and 0 <= value < _ID_LIMIT and has(value):
            return value
        if isinstance(value, str) and (found := find(encodable(value))) is not None:
            return int(found)
    return None


def added_tokens(directory: Path) -> dict[int, AddedName]:
    """The tokens that a directory adds to its vocabulary, by their ids.

    From `added_tokens.json`, and from `added_tokens_decoder` in `tokenizer_config.json`, which goes before it. The
    former does not say which are control tokens: those that have a part in `special_tokens_map.json` or are called so.

    Raises:
        ModelLoadError: One of the files is damaged.
    """
    special = special_names(directory)
    found: dict[int, AddedName] = {}
    for name, token_id in read_object(directory / "added_tokens.json").items():
        if type(token_id) is int and 0 <= token_id < _ID_LIMIT:
            found[token_id] = AddedName(encodable(name), name in special or looks_like_control(name))
    decoder = read_object(directory / "tokenizer_config.json").get("added_tokens_decoder")
    for key, value in decoder.items() if isinstance(decoder, dict) else ():
        content = value.get("content") if isinstance(value, dict) else None
        if isinstance(content, str) and key.isascii() and key.isdecimal() and len(key) < 10:
            is_control = value.get("special") is True or content in special or looks_like_control(content)
            found[int(key)] = AddedName(encodable(content), is_control)
    return dict(sorted(found.items())[:_MOST_ADDED])


def special_names(directory: Path) -> set[str]:
    """The names of the tokens to which the files of a directory give a part.

    Raises:
        ModelLoadError: One of the files is damaged.
    """
    files = ("special_tokens_map.json", "tokenizer_config.json")
    return {encodable(name) for file in files for name in _special_names(read_object(directory / file))}


def _special_names(values: Mapping[str, Any]) -> Iterator[str]:
    others = values.get("additional_special_tokens")
    for value in (*(values.get(role) for role in _ROLES), *(others if isinstance(others, list) else ())):
        name = value.get("content") if isinstance(value, dict) else value
        if isinstance(name, str):
            yield name
