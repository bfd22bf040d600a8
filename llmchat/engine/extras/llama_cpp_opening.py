"""Opening a GGUF file on llama.cpp."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.gguf import read_companions
from llmchat.checkpoints.gguf_file import GGUFFile
from llmchat.checkpoints.purpose import gguf_purpose
from llmchat.engine.extras.llama_cpp_engine import LlamaCppEngine
from llmchat.engine.extras.llama_cpp_model import CACHE_TYPES, LlamaCppModel
from llmchat.engine.extras.llama_cpp_tokenizer import load_llama_cpp_vocab
from llmchat.engine.opened import PreparedModel, all_end_ids, chosen_style, describe
from llmchat.errors import ModelLoadError

if TYPE_CHECKING:
    from llmchat.checkpoints.checkpoint import Companions, Progress


def prepare_llama_cpp(spec: ModelSpec, progress: Progress, reason: str, threads: int) -> PreparedModel:
    """Read what stands beside the weights of a GGUF file.

    Args:
        spec: `model` is the file.
        progress: Told what is being done.
        reason: Why it is llama.cpp, in a few words.
        threads: CPU threads.

    Raises:
        ModelLoadError: It is damaged, or no language model.
    """
    progress("opening the file", None)
    if spec.dtype not in ("auto", *CACHE_TYPES):
        raise ModelLoadError(f"There is no precision called {spec.dtype!r}. Known: auto, {', '.join(CACHE_TYPES)}.")
    file = GGUFFile.open(Path(spec.model))
    if words := gguf_purpose(file.metadata):
        raise ModelLoadError(f"{file.path} {words}.")
    files = read_companions(spec, file, load_llama_cpp_vocab)
    architecture = str(file.metadata.get("general.architecture"))
    return PreparedModel(files.name, partial(_build, files, architecture, spec, progress, reason, threads))


def _build(
    files: Companions, architecture: str, spec: ModelSpec, progress: Progress, reason: str, threads: int
) -> LlamaCppEngine:
    """Have llama.cpp read the weights."""
    dtype = "float16" if spec.dtype == "auto" else spec.dtype
    model = LlamaCppModel(Path(files.path), threads, progress, dtype=dtype, offloads=spec.device != "cpu")
    on_gpu = spec.device != "cpu" and bool(model.library.llama_supports_gpu_offload())
    if spec.device not in ("auto", "cpu") and not on_gpu:
        raise ModelLoadError(f"This llama-cpp-python was built without {spec.device!r}. Try --device cpu.")
    style = chosen_style(files, spec)
    info = describe(
        files,
        spec,
        style,
        engine="llama-cpp",
        architecture=architecture,
        vocab_size=model.vocab_size,
        context_length=model.context_length,
        device="gpu" if on_gpu else "cpu",
        dtype=dtype,
        threads=threads,
        parameters=model.parameter_count,
        reason=reason,
    )
    return LlamaCppEngine(model, files.tokenizer, info, end_ids=all_end_ids(files, style), prompt_style=style)
