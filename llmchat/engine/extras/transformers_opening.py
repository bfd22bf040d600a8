"""Opening a Hugging Face directory on transformers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.huggingface import read_companions
from llmchat.checkpoints.purpose import config_purpose
from llmchat.engine.devices import choose_device, choose_dtype, require_torch
from llmchat.engine.opened import PreparedModel, all_end_ids, chosen_style, describe
from llmchat.errors import ModelLoadError
from llmchat.tokenizers.text_files import read_object

if TYPE_CHECKING:
    from llmchat.checkpoints.checkpoint import Companions, Progress
    from llmchat.engine.extras.transformers_engine import TransformersEngine

_LENGTH_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
_USUAL_LENGTH = 2048
"""Taken as the context where a model does not say what it was trained for, as recurrent ones need not."""


def prepare_transformers(spec: ModelSpec, progress: Progress, reason: str, threads: int) -> PreparedModel:
    """Read what stands beside the weights of a directory.

    Args:
        spec: `model` is the directory.
        progress: Told what is being done.
        reason: Why it is transformers, in a few words.
        threads: CPU threads for torch.

    Raises:
        ModelLoadError: It is none, or no language model; or torch lacks the device or the precision.
    """
    path = Path(spec.model)
    if not path.is_dir():
        raise ModelLoadError(f"{path}: transformers reads the model*.safetensors of a directory. Name the directory.")
    described = read_object(path / "config.json")
    if words := config_purpose(path, described):
        raise ModelLoadError(f"{path} {words}.")
    progress("starting torch", None)
    require_torch("transformers computes with it")
    choose_dtype(spec.dtype, choose_device(spec.device))
    files = read_companions(spec, described)
    return PreparedModel(files.name, partial(_build, files, described, spec, progress, reason, threads))


def _build(
    files: Companions, described: Mapping[str, Any], spec: ModelSpec, progress: Progress, reason: str, threads: int
) -> TransformersEngine:
    """Have transformers build the network and read its weights."""
    progress("starting transformers", None)
    import torch

    from llmchat.engine.extras.transformers_engine import TransformersEngine
    from llmchat.engine.extras.transformers_model import load_model

    torch.set_num_threads(threads)
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    try:
        model = load_model(Path(files.path), described, device, dtype)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelLoadError(f"There is not enough memory for {files.name}.") from error
    text = described.get("text_config")
    facts = text if isinstance(text, Mapping) else described
    style = chosen_style(files, spec)
    info = describe(
        files,
        spec,
        style,
        engine="transformers",
        architecture=str(described.get("model_type")),
        vocab_size=model.vocab_size,
        context_length=_context_length(facts),
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        threads=threads,
        parameters=model.parameter_count,
        reason=reason,
    )
    return TransformersEngine(
        model,
        files.tokenizer,
        info,
        end_ids=all_end_ids(files, style),
        prompt_style=style,
        stretched_from=_stretched_from(facts),
    )


def _context_length(facts: Mapping[str, Any]) -> int:
    lengths = (facts.get(key) for key in _LENGTH_KEYS)
    return next((length for length in lengths if isinstance(length, int) and length > 0), _USUAL_LENGTH)


def _stretched_from(facts: Mapping[str, Any]) -> int:
    """The length beyond which longrope stretches every position; 0 for other networks."""
    rope = facts.get("rope_parameters") or facts.get("rope_scaling") or {}
    if not isinstance(rope, Mapping) or rope.get("rope_type", rope.get("type")) != "longrope":
        return 0
    length = rope.get("original_max_position_embeddings", facts.get("original_max_position_embeddings"))
    return length if isinstance(length, int) else 0
