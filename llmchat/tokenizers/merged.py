"""BPE vocabularies with merges, whatever file they come in, as tokenizers of the library."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from llmchat.errors import ModelLoadError
from llmchat.tokenizers.declared import added_tokens, special_names
from llmchat.tokenizers.library_errors import LibraryErrors
from llmchat.tokenizers.pre_tokenizers import PreTokenizerRules, build_pre_tokenizer, pre_tokenizer_rules
from llmchat.tokenizers.text_files import read_object, read_text
from llmchat.tokenizers.tokenizer_json import TokenizerJson

_BLANK = "\u2581"
_LIMIT = 64 * 2**20
"""Bytes of each file; the largest vocabularies take some five million."""

_END = "<|endoftext|>"
"""GPT-2's only control token, which its files do not call one."""


def build_bpe(vocab: dict[str, int], merges: list[tuple[str, str]], rules: PreTokenizerRules) -> tokenizers.Tokenizer:
    """A tokenizer without added tokens.

    Args:
        vocab: Ids by piece: of bytes in GPT-2's alphabet, or of characters with U+2581 for blanks, as `rules` says.
        merges: The likeliest first.
        rules: How texts are cut before merging.

    Raises:
        Exception: A merge names a piece that is not in the vocabulary; the library's own, see `LibraryErrors`.
    """
    model = models.BPE(
        vocab, merges, ignore_merges=rules.ignore_merges, byte_fallback=not rules.in_bytes, fuse_unk=True
    )
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = build_pre_tokenizer(rules)
    if rules.in_bytes:
        backend.decoder = decoders.ByteLevel()
    else:
        backend.normalizer = normalizers.Replace(" ", _BLANK)
        backend.decoder = decoders.Sequence([decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def load_vocab_json(file: Path) -> TokenizerJson:
    """Open a byte-level vocabulary in two files, `vocab.json` and `merges.txt`, as GPT-2 and Qwen2 came.

    Args:
        file: The former; what is added to it stands in the small files beside both.

    Raises:
        ModelLoadError: One of the files is missing or damaged, or the vocabulary is of another kind.
    """
    settings = read_object(file.parent / "tokenizer_config.json")
    merges = _read_merges(file.with_name("merges.txt"))
    is_qwen = str(settings.get("tokenizer_class")).startswith("Qwen2")
    rules = pre_tokenizer_rules("qwen2" if is_qwen else "gpt-2")
    assert rules is not None
    with LibraryErrors(ModelLoadError, f"{file} or the merges.txt beside it is damaged{{}}: copy both again."):
        backend = build_bpe(_read_vocab(file), merges, rules)
        if is_qwen:
            backend.normalizer = normalizers.NFC()
        elif settings.get("add_prefix_space") is True:
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        _add_tokens(backend, file.parent)
        return TokenizerJson.of(backend, file.parent)


def _read_vocab(file: Path) -> dict[str, int]:
    try:
        vocab = json.loads(read_text(file, _LIMIT) or "")
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{file} is damaged: it is no JSON.") from error
    if not isinstance(vocab, dict) or not all(type(one) is int and 0 <= one < 2**31 for one in vocab.values()):
        raise ModelLoadError(f"{file} is damaged: it is no table of tokens.")
    if any(piece.endswith("</w>") for piece in vocab):
        raise ModelLoadError(f"{file} is a vocabulary of words with marked ends, which llmchat cannot read.")
    return vocab


def _read_merges(file: Path) -> list[tuple[str, str]]:
    lines = (read_text(file, _LIMIT) or "").split("\n")
    pairs = (line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version"))
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


def _add_tokens(backend: tokenizers.Tokenizer, directory: Path) -> None:
    """Give a tokenizer the tokens that a directory adds.

    Raises:
        ModelLoadError: They do not follow on the vocabulary's ids.
    """
    for token_id, added in added_tokens(directory).items():
        token = AddedToken(added.name, special=added.is_control, normalized=False)
        (backend.add_special_tokens if added.is_control else backend.add_tokens)([token])
        if backend.token_to_id(added.name) != token_id:
            raise ModelLoadError(f"{directory} adds the token {added.name[:40]!r} under an id that is not free.")
    known = (name for name in (_END, *special_names(directory)) if backend.token_to_id(name) is not None)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in known])
