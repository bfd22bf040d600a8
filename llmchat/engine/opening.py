"""Opening a model: from what a person typed to an engine that is ready."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelInfo, ModelSpec
from llmchat.engine.devices import choose_device, choose_dtype, gpu_sign, require_torch, torch_finds_gpu
from llmchat.engine.locating import locate
from llmchat.errors import ModelLoadError

if TYPE_CHECKING:
    import torch

    from llmchat.checkpoints.checkpoint import Checkpoint, Progress
    from llmchat.engine.engine import Engine
    from llmchat.engine.torch_engine import TorchEngine
    from llmchat.tokenizers.prompt_style import PromptStyle

_MOST_PREPARED = 2**29
"""Bytes. More cannot be got ready while a vocabulary is read, and a file may be larger than what it holds."""


def open_engine(spec: ModelSpec, progress: Progress, cancel: threading.Event | None = None) -> Engine:
    """Open a model, fetching it first if it is a named one that is not on disk.

    Runs on the thread that will use the engine: torch is imported and its
    thread count set here.

    Args:
        spec: What to open.
        progress: Told what is being done.
        cancel: Set to give up a fetch.

    Raises:
        ModelLoadError: It cannot be opened; the message says what to do.
    """
    spec = locate(spec, progress, cancel or threading.Event())
    reason = why_torch(spec)
    if not reason:
        return _open_natively(spec, progress)
    return _open_on_torch(spec, progress, reason)


def _open_on_torch(spec: ModelSpec, progress: Progress, reason: str, checkpoint: Checkpoint | None = None) -> Engine:
    """Open a model on torch.

    Args:
        spec: What to open.
        progress: Told what is being done.
        reason: Why it is torch, in a few words.
        checkpoint: The model's, if it has been opened already.
    """
    from llmchat.checkpoints.loading import load_checkpoint

    progress("starting torch", None)
    require_torch(reason)
    import torch

    threads = spec.threads or default_threads(natively=False)
    torch.set_num_threads(threads)
    device = choose_device(spec.device)
    checkpoint = checkpoint or load_checkpoint(spec, progress)
    progress("building the model", None)
    try:
        engine = _build(checkpoint, spec, device, choose_dtype(spec.dtype, device), threads)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelLoadError(f"There is not enough memory for {checkpoint.name}.") from error
    engine.info = replace(engine.info, path_reason=reason)
    return engine


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


def _open_natively(spec: ModelSpec, progress: Progress) -> Engine:
    """Open a model on the native decode step, or on torch if that does not know its kind."""
    from llmchat.engine.native.library import MOST_THREADS, PreparedMemory, kernels_name

    memory = PreparedMemory(min(_size_of_weights(Path(spec.model)), _MOST_PREPARED))
    # What follows takes its time to import.
    from llmchat.checkpoints.loading import load_checkpoint
    from llmchat.engine.native.model import NativeModel
    from llmchat.engine.native.shapes import supports
    from llmchat.engine.native_engine import NativeEngine

    checkpoint = load_checkpoint(spec, progress)
    if missing := supports(checkpoint.plan):
        del memory
        return _open_on_torch(spec, progress, f"the native step cannot run this model: {missing}", checkpoint)
    threads = min(spec.threads or default_threads(natively=True), MOST_THREADS)
    try:
        model = NativeModel(checkpoint, threads, progress, memory)
        style = _prompt_style(checkpoint, spec)
        info = _describe(checkpoint, spec, "cpu", f"native {kernels_name()}", threads, model.parameter_count)
        info = replace(info, notes=(*info.notes, *model.notes))
        return NativeEngine(
            model,
            checkpoint.tokenizer,
            _with_style(info, style, spec),
            end_ids=_end_ids(checkpoint, style),
            prompt_style=style,
        )
    except MemoryError as error:
        raise ModelLoadError(f"There is not enough memory for {checkpoint.name}.") from error


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


def _build(
    checkpoint: Checkpoint, spec: ModelSpec, device: torch.device, dtype: torch.dtype, threads: int
) -> TorchEngine:
    """Put the tensors into a module and the module into an engine."""
    from llmchat.engine.architectures.network import Network
    from llmchat.engine.cuda_graph import capture_cuda_graph
    from llmchat.engine.torch_engine import TorchEngine

    model = Network.build(checkpoint.plan, checkpoint.tensors, device=device, dtype=dtype)
    checkpoint.check_unchanged()
    style = _prompt_style(checkpoint, spec)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    precision = str(dtype).removeprefix("torch.")
    info = _describe(checkpoint, spec, str(device), precision, threads, parameters)
    return TorchEngine(
        model,
        checkpoint.tokenizer,
        _with_style(info, style, spec),
        end_ids=_end_ids(checkpoint, style),
        prompt_style=style,
        device=device,
        capture=capture_cuda_graph if device.type == "cuda" else None,
    )


def _prompt_style(checkpoint: Checkpoint, spec: ModelSpec) -> PromptStyle | None:
    """The chat template that was asked for, or else the model's own."""
    from llmchat.tokenizers.prompt_style import load_prompt_style

    template = spec.chat_template or checkpoint.chat_template
    return load_prompt_style(template, checkpoint.tokenizer) if template else None


def _with_style(info: ModelInfo, style: PromptStyle | None, spec: ModelSpec) -> ModelInfo:
    """What was opened, with the chat template that it is talked to through."""
    from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES

    given = spec.chat_template or ""
    if style is not None and given and given not in BUILT_IN_TEMPLATES:
        # A file may be changed or deleted.
        given = style.source
    return replace(info, has_chat_template=style is not None, chat_template=given)


def _end_ids(checkpoint: Checkpoint, style: PromptStyle | None) -> tuple[int, ...]:
    """Every token that ends a reply: those that the files name, and the one that the template writes behind replies."""
    return tuple(dict.fromkeys((*checkpoint.end_ids, *(style.end_ids if style else ()))))


def _describe(
    checkpoint: Checkpoint, spec: ModelSpec, device: str, dtype: str, threads: int, parameters: int
) -> ModelInfo:
    """What was opened, for people and transcripts."""
    plan = checkpoint.plan
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
        has_chat_template=False,
        training=checkpoint.training,
        path_reason=path_reason(spec),
        parse_special=spec.parse_special,
        notes=(*checkpoint.notes, *checkpoint.tokenizer.notes),
    )
