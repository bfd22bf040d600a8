"""BPE vocabularies with merges, whatever file they come in, as tokenizers of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tokenizers
from tokenizers import decoders, models, normalizers

from llmchat.tokenizers.pre_tokenizers import PreTokenizerRules, build_pre_tokenizer

_BLANK = "\u2581"


def build_bpe(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], rules: PreTokenizerRules
) -> tokenizers.Tokenizer:
    """A tokenizer without added tokens.

    Args:
        vocab: Ids by piece: of bytes in GPT-2's alphabet, or of characters with U+2581 for blanks, as `rules` says.
        merges: The likeliest first.
        rules: How texts are cut before merging.

    Raises:
        Exception: A merge names a piece that is not in the vocabulary; the library's own, see `LibraryErrors`.
    """
    model = models.BPE(
        dict(vocab), list(merges), ignore_merges=rules.ignore_merges, byte_fallback=not rules.in_bytes, fuse_unk=True
    )
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = build_pre_tokenizer(rules)
    if rules.in_bytes:
        backend.decoder = decoders.ByteLevel()
    else:
        backend.normalizer = normalizers.Replace(" ", _BLANK)
        backend.decoder = decoders.Sequence([decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend
