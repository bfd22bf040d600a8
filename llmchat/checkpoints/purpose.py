"""What a model is for where it is not for writing text: what its file says of itself, as the rest of a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_VECTORS = "is an embedding model{}: it gives vectors, not tokens. Give a model that writes text"
_SCORES = "is a model that scores or sorts texts{}: it gives numbers, not tokens. Give a model that writes text"
_WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the names of transformers' classes end that write text."""

_SCORERS = ("Classification", "RewardModel", "ForReward", "ForScoreRegression", "ForMultipleChoice")
_SENTENCE_FILES = ("config_sentence_transformers.json", "sentence_bert_config.json")
"""Stand beside models that the sentence-transformers package made or runs."""

_ENCODERS = ("t5encoder", "gemma-embedding", "llama-embed")
"""GGUF's names of architectures that only read, besides those with "bert" in them."""

_RANK = 4
"""GGUF's number of the pooling that gives a score."""


def config_purpose(directory: Path, described: Mapping[str, Any]) -> str:
    """What a Hugging Face directory is that writes no text; "" if nothing speaks against it.

    Args:
        directory: Where its files are.
        described: Its config.json.
    """
    listed = described.get("architectures")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    named = f" ({names[0][:60]!r})" if names else ""
    if names and not any(name.endswith(_WRITERS) for name in names):
        return (_SCORES if any(part in name for name in names for part in _SCORERS) else _VECTORS).format(named)
    if any((directory / name).is_file() for name in _SENTENCE_FILES):
        return _VECTORS.format(" of sentence-transformers")
    return ""


def gguf_purpose(metadata: Mapping[str, Any]) -> str:
    """What a GGUF file is that writes no text; "" if nothing speaks against it."""
    kind, architecture = metadata.get("general.type"), str(metadata.get("general.architecture"))
    if kind == "adapter":
        base = metadata.get("general.base_model.0.name")
        named = f" of {base[:80]!r}" if isinstance(base, str) else ""
        return f"is a LoRA adapter{named}, no model: give that model with --model, and this file with --lora"
    if kind == "mmproj" or architecture == "clip":
        return "is the part of a model that turns pictures into its input: give the model itself, which lies beside it"
    pooling = metadata.get(f"{architecture}.pooling_type")
    if pooling == _RANK:
        return _SCORES.format("")
    reads_only = "bert" in architecture or architecture in _ENCODERS
    if pooling or reads_only or metadata.get(f"{architecture}.attention.causal") is False:
        return _VECTORS.format(f" ({architecture[:40]!r})")
    return ""
