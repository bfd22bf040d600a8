"""Opening a model, in two steps.

spec ─ prepare: found, read but for its weights ─▶ PreparedModel ─ build: its weights ─▶ Engine
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelInfo, ModelSpec
from llmchat.engine.devices import choose_device, choose_dtype, gpu_sign, require_torch, torch_finds_gpu
from llmchat.engine.locating import locate
from llmchat.errors import ModelLoadError

if TYPE_CHECKING:
    from llmchat.checkpoints.checkpoint import Checkpoint, Progress
    from llmchat.engine.engine import Engine
    from llmchat.engine.native.library import PreparedMemory
    from llmchat.tokenizers.prompt_style import PromptStyle

_MOST_PREPARED = 2**29
"""Bytes. More cannot be got ready while a vocabulary is read, and a file may be larger than what it holds."""


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that was found and whose files were read, but for its weights."""

    name: str
    build: Callable[[], Engine]
    """Reads the weights. To be called once, on the thread that will use the engine. Raises ModelLoadError."""


def open_engine(spec: ModelSpec, progress: Progress, cancel: threading.Event | None = None) -> Engine:
    """Open a model in one go, on the thread that will use the engine; arguments and errors as for `prepare_model`."""
    return prepare_model(spec, progress, cancel).build()


def prepare_model(spec: ModelSpec, progress: Progress, cancel: threading.Event | None = None) -> PreparedModel:
    """Find out whether a model opens, as far as that costs little, fetching it first if it is not on disk.

    May run on any thread, also while another model is open: what it takes is a tokenizer's memory.

    Args:
        spec: What to open.
        progress: Told what is being done, also when the model is built.
        cancel: Set to give up a fetch.

    Raises:
        ModelLoadError: It cannot be opened; the message says what to do.
    """
    spec = locate(spec, progress, cancel or threading.Event())
    reason = why_torch(spec)
    if reason:
        _start_torch(spec, reason, progress)
    memory = None if reason else _memory_for(spec)
    # What follows takes its time to import.
    from llmchat.checkpoints.loading import load_checkpoint
    from llmchat.engine.native.shapes import supports

    checkpoint = load_checkpoint(spec, progress)
    if not reason and (missing := supports(checkpoint.plan)):
        reason, memory = f"the native step cannot run this model: {missing}", None
        _start_torch(spec, reason, progress)
    style = _prompt_style(checkpoint, spec)
    if reason:
        return PreparedModel(checkpoint.name, partial(_build_on_torch, checkpoint, spec, style, reason, progress))
    return PreparedModel(checkpoint.name, partial(_build_natively, checkpoint, spec, style, memory, progress))


def _start_torch(spec: ModelSpec, reason: str, progress: Progress) -> None:
    """Make sure that torch is there, and has the device and the precision."""
    progress("starting torch", None)
    require_torch(reason)
    choose_dtype(spec.dtype, choose_device(spec.device))


def _memory_for(spec: ModelSpec) -> PreparedMemory:
    """Memory that is got ready for a model's weights while its files are read."""
    from llmchat.engine.native.library import PreparedMemory

    return PreparedMemory(min(_size_of_weights(Path(spec.model)), _MOST_PREPARED))


def _build_on_torch(
    checkpoint: Checkpoint, spec: ModelSpec, style: PromptStyle | None, reason: str, progress: Progress
) -> Engine:
    """Put the tensors into a module and the module into an engine.

    Args:
        checkpoint: The model.
        spec: What was asked for.
        style: How a chat becomes a prompt.
        reason: Why it is torch, in a few words.
        progress: Told what is being done.
    """
    import torch

    from llmchat.engine.architectures.network import Network
    from llmchat.engine.cuda_graph import capture_cuda_graph
    from llmchat.engine.torch_engine import TorchEngine

    threads = spec.threads or default_threads(natively=False)
    torch.set_num_threads(threads)
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    progress("building the model", None)
    try:
        model = Network.build(checkpoint.plan, checkpoint.tensors, device=device, dtype=dtype)
        checkpoint.check_unchanged()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        precision = str(dtype).removeprefix("torch.")
        info = _describe(checkpoint, spec, style, str(device), precision, threads, parameters)
        return TorchEngine(
            model,
            checkpoint.tokenizer,
            replace(info, path_reason=reason),
            end_ids=_end_ids(checkpoint, style),
            prompt_style=style,
            device=device,
            capture=capture_cuda_graph if device.type == "cuda" else None,
        )
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelLoadError(f"There is not enough memory for {checkpoint.name}.") from error


def _build_natively(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    style: PromptStyle | None,
    memory: PreparedMemory | None,
    progress: Progress,
) -> Engine:
    """Have the native step repack the tensors; arguments as for torch, and the memory that was got ready."""
    from llmchat.engine.native.library import MOST_THREADS, kernels_name
    from llmchat.engine.native.model import NativeModel
    from llmchat.engine.native_engine import NativeEngine

    threads = min(spec.threads or default_threads(natively=True), MOST_THREADS)
    try:
        model = NativeModel(checkpoint, threads, progress, memory)
        info = _describe(checkpoint, spec, style, "cpu", f"native {kernels_name()}", threads, model.parameter_count)
        return NativeEngine(
            model,
            checkpoint.tokenizer,
            replace(info, notes=(*info.notes, *model.notes)),
            end_ids=_end_ids(checkpoint, style),
            prompt_style=style,
        )
    except MemoryError as error:
        raise ModelLoadError(f"There is not enough memory for {checkpoint.name}.") from error


def why_torch(spec: ModelSpec) -> str:
    """Why torch runs a model and not the native step, in a few words; "" if the native step does."""
    from llmchat.engine.native.library import why_not

    if spec.device not in ("auto", "cpu"):
        return f"the device {spec.device} was asked for"
    if spec.device == "auto" and torch_finds_gpu():
        return "this machine has a GPU"
    if spec.dtype != "auto":
        return f"the precision {spec.dtype} was asked for"
    return why_not()


def path_reason(spec: ModelSpec) -> str:
    """Why the model is run as it is, in a few words that follow "because"; "" where nothing spoke for another way."""
    if reason := why_torch(spec):
        return reason
    sign = gpu_sign() if spec.device == "auto" else ""
    return f"torch finds no GPU behind {sign}" if sign else ""


def _size_of_weights(path: Path) -> int:
    """About how much memory a model's weights take, where its files hold little else; 0 for others."""
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.suffix in (".gguf", ".safetensors"))


def default_threads(*, natively: bool) -> int:
    """All cores that this process may use; but one for torch, whose threads spin where the window needs the time.

    The native step takes as many of them as make it quicker at the moment.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return cores if natively else max(1, cores - 1)


def _prompt_style(checkpoint: Checkpoint, spec: ModelSpec) -> PromptStyle | None:
    """The chat template that was asked for, or else the model's own."""
    from llmchat.tokenizers.prompt_style import load_prompt_style

    template = spec.chat_template or checkpoint.chat_template
    return load_prompt_style(template, checkpoint.tokenizer) if template else None


def _end_ids(checkpoint: Checkpoint, style: PromptStyle | None) -> tuple[int, ...]:
    """Every token that ends a reply: those that the files name, and the one that the template writes behind replies."""
    return tuple(dict.fromkeys((*checkpoint.end_ids, *(style.end_ids if style else ()))))


def _describe(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    style: PromptStyle | None,
    device: str,
    dtype: str,
    threads: int,
    parameters: int,
) -> ModelInfo:
    """What was opened, for people and transcripts."""
    from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES

    plan, template = checkpoint.plan, spec.chat_template or ""
    if style is not None and template and template not in BUILT_IN_TEMPLATES:
        # A file may be changed or deleted.
        template = style.source
    return ModelInfo(
        name=checkpoint.name,
        path=checkpoint.path,
        tokenizer_path=checkpoint.tokenizer_path,
        architecture=plan.family,
        weight_format=checkpoint.weight_format,
        device=device,
        dtype=dtype,
        threads=threads,
        vocab_size=plan.vocab_size,
        context_length=plan.context_length,
        parameter_count=parameters,
        has_chat_template=style is not None,
        chat_template=template,
        training=checkpoint.training,
        path_reason=path_reason(spec),
        parse_special=spec.parse_special,
        notes=(*checkpoint.notes, *checkpoint.tokenizer.notes),
    )
