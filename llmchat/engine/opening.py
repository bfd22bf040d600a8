"""Opening a model, in two steps.

spec ─ prepare: found, read but for its weights ─▶ PreparedModel ─ build: its weights ─▶ Engine
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelInfo, ModelSpec
from llmchat.engine.devices import choose_device, choose_dtype, gpu_sign, require_torch, torch_finds_gpu
from llmchat.engine.free_memory import free_memory
from llmchat.engine.locating import locate
from llmchat.engine.opened import PreparedModel, all_end_ids, chosen_style, core_count, describe
from llmchat.engine.room import advice, footprint_of
from llmchat.errors import ENGINES_TO_INSTALL, ModelLoadError, UnknownArchitectureError
from llmchat.files import expanded

if TYPE_CHECKING:
    from llmchat.checkpoints.checkpoint import Checkpoint, Progress
    from llmchat.engine.engine import Engine
    from llmchat.engine.native.library import PreparedMemory
    from llmchat.tokenizers.prompt_style import PromptStyle

_MOST_PREPARED = 2**29
"""Bytes. More cannot be got ready while a vocabulary is read, and a file may be larger than what it holds."""
_PLENTY = 4
"""Nothing is got ready where less than so many times as much is free."""

_LEAST_KEPT = 256 * 2**20
"""Bytes of a model's file: smaller ones are repacked in less time than a file is worth."""


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Look for no garbage: a vocabulary is many objects that stay, and they would be gone through over and over."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def open_engine(spec: ModelSpec, progress: Progress, cancel: threading.Event | None = None) -> Engine:
    """Open a model in one go, on the thread that will use the engine; arguments as for `prepare_model`.

    Raises:
        ModelLoadError: It cannot be opened, or needs more memory than there is.
    """
    model = prepare_model(spec, progress, cancel)
    if not spec.ignore_memory:
        model.require_room()
    return model.build()


def prepare_model(
    spec: ModelSpec, progress: Progress, cancel: threading.Event | None = None, *, may_fetch: int | None = None
) -> PreparedModel:
    """Find out whether a model opens, as far as that costs little, fetching it first if it is not on disk.

    May run on any thread, also while another model is open: what it takes is a tokenizer's memory.

    Args:
        spec: What to open.
        progress: Told what is being done, also when the model is built.
        cancel: Set to give up a fetch.
        may_fetch: Bytes that may be fetched from the hub or an address without asking; None is any number.

    Raises:
        FetchQuestionError: More than `may_fetch` bytes would be fetched.
        ModelLoadError: It cannot be opened; the message says what to do.
    """
    spec = locate(spec, progress, cancel or threading.Event(), may_fetch=may_fetch)
    if spec.engine in ENGINES_TO_INSTALL:
        return _prepare_extra(spec.engine, spec, progress, "it was asked for")
    try:
        return _prepare_plan(spec, progress)
    except UnknownArchitectureError as unknown:
        if spec.engine != "auto" or not is_installed(unknown.extra):
            raise
        why = f"llmchat has no plan of the architecture {unknown.architecture[:40]}"
        return _prepare_extra(unknown.extra, spec, progress, why)


@_collector_at_rest()
def _prepare_plan(spec: ModelSpec, progress: Progress) -> PreparedModel:
    """Prepare a model for the native step, or for torch where that is asked for or the native step cannot run it."""
    reason = why_torch(spec)
    if reason and spec.engine == "native":
        raise ModelLoadError(f"The native step cannot run it, because {reason}. Leave out --engine native.")
    if reason:
        _start_torch(spec, reason, progress)
    kept_at = None if reason else _place_of_weights(Path(spec.model))
    prepared = 0 if reason or (kept_at and kept_at.exists()) else _memory_to_prepare(Path(spec.model))
    memory = _prepare_memory(prepared)
    # What follows takes its time to import.
    from llmchat.checkpoints.loading import load_checkpoint
    from llmchat.engine.native.shapes import supports

    checkpoint = load_checkpoint(spec, progress)
    if not reason and (missing := supports(checkpoint.plan)):
        if spec.engine == "native":
            raise ModelLoadError(f"The native step cannot run {checkpoint.name}: {missing}. Leave out --engine native.")
        reason, memory, prepared = f"the native step cannot run this model: {missing}", None, 0
        _start_torch(spec, reason, progress)
    style = chosen_style(checkpoint, spec)
    if reason:
        build = partial(_build_on_torch, checkpoint, spec, style, reason, progress)
    else:
        build = partial(_build_natively, checkpoint, spec, style, memory, kept_at, progress)
    footprint = footprint_of(checkpoint, spec, prepared, on_torch=bool(reason))
    return PreparedModel(checkpoint.name, build, footprint, prepared, advice(checkpoint, spec, on_torch=bool(reason)))


def _prepare_extra(engine: str, spec: ModelSpec, progress: Progress, reason: str) -> PreparedModel:
    """Prepare a model for an engine that is no part of llmchat.

    Raises:
        ModelLoadError: The engine is not installed or cannot run it.
    """
    from llmchat.checkpoints.formats import GGUF, HUGGING_FACE, recognise

    library = ENGINES_TO_INSTALL[engine]
    if not is_installed(engine):
        raise ModelLoadError(f"{library} is not installed: pip install 'llmchat[{engine}]'")
    if spec.lora:
        raise ModelLoadError(
            f"{library} runs this model, and llmchat adds adapters to its own alone: leave out --lora."
        )
    found = recognise(expanded(spec.model))
    if found.format is not (HUGGING_FACE if engine == "transformers" else GGUF):
        raise ModelLoadError(
            f"{found.path} is a {found.format.words}, which {library} does not run: leave out --engine."
        )
    spec = replace(spec, model=str(found.path))
    # The threads of both spin where others need the cores.
    threads = threads_for(spec, natively=False)
    if engine == "transformers":
        from llmchat.engine.extras.transformers_opening import prepare_transformers

        return prepare_transformers(spec, progress, reason, threads)
    from llmchat.engine.extras.llama_cpp_opening import prepare_llama_cpp

    return prepare_llama_cpp(spec, progress, reason, threads)


def is_installed(engine: str) -> bool:
    """Whether an engine that is no part of llmchat can be imported."""
    return find_spec(engine.replace("-", "_")) is not None


def _start_torch(spec: ModelSpec, reason: str, progress: Progress) -> None:
    """Make sure that torch is there, and has the device and the precision."""
    progress("starting torch", None)
    require_torch(reason)
    choose_dtype(spec.dtype, choose_device(spec.device))


def _memory_to_prepare(path: Path) -> int:
    """Bytes worth getting ready for a model's weights while its files are read; 0 where memory is scarce."""
    size = min(_size_of_weights(path), _MOST_PREPARED)
    free = free_memory()
    return size if free is None or free >= _PLENTY * size else 0


def _prepare_memory(size: int) -> PreparedMemory | None:
    if not size:
        return None
    from llmchat.engine.native.library import PreparedMemory

    return PreparedMemory(size)


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

    threads = threads_for(spec, natively=False)
    torch.set_num_threads(threads)
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    progress("building the model", None)
    try:
        model = Network.build(
            checkpoint.plan, checkpoint.tensors, device=device, dtype=dtype, adapter=checkpoint.adapter
        )
        checkpoint.check_unchanged()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        precision = str(dtype).removeprefix("torch.")
        info = _describe(checkpoint, spec, style, str(device), precision, threads, parameters, reason)
        return TorchEngine(
            model,
            checkpoint.tokenizer,
            info,
            end_ids=all_end_ids(checkpoint, style),
            prompt_style=style,
            device=device,
            capture=capture_cuda_graph if device.type == "cuda" else None,
        )
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelLoadError(f"There is not enough memory for {checkpoint.name}.") from error


@_collector_at_rest()
def _build_natively(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    style: PromptStyle | None,
    memory: PreparedMemory | None,
    kept_at: Path | None,
    progress: Progress,
) -> Engine:
    """Have the native step repack the tensors, or map them from where they are kept.

    Arguments as for torch, the memory that was got ready, and where the weights are kept.
    """
    from llmchat.engine.native.library import MOST_THREADS, kernels_name
    from llmchat.engine.native.model import NativeModel
    from llmchat.engine.native_engine import NativeEngine

    threads = min(threads_for(spec, natively=True), MOST_THREADS)
    try:
        model = NativeModel(checkpoint, threads, progress, memory, kept_at)
        kernels, reason = f"native {kernels_name()}", path_reason(spec)
        info = _describe(checkpoint, spec, style, "cpu", kernels, threads, model.parameter_count, reason)
        return NativeEngine(
            model,
            checkpoint.tokenizer,
            replace(info, notes=(*info.notes, *model.notes)),
            end_ids=all_end_ids(checkpoint, style),
            prompt_style=style,
        )
    except MemoryError as error:
        raise ModelLoadError(f"There is not enough memory for {checkpoint.name}.") from error


def why_torch(spec: ModelSpec) -> str:
    """Why torch runs a model and not the native step, in a few words; "" if the native step does."""
    from llmchat.engine.native.library import why_not

    if spec.engine == "torch":
        return "it was asked for"
    if spec.device not in ("auto", "cpu"):
        return f"the device {spec.device} was asked for"
    if spec.device == "auto" and spec.engine != "native" and torch_finds_gpu():
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
    from llmchat.checkpoints.formats import TORCH, recognise

    found = recognise(path)
    return 0 if found.format is TORCH else found.size


def _place_of_weights(path: Path) -> Path | None:
    """The file in the cache that has a GGUF model's weights repacked, or will have; None where it has none."""
    from llmchat.checkpoints.formats import GGUF, recognise

    found = recognise(path)
    if found.format is not GGUF or found.size < _LEAST_KEPT:
        return None
    from llmchat.engine.native.kept_weights import place_for

    return place_for(found.path)


def threads_for(spec: ModelSpec, *, natively: bool) -> int:
    """As many threads as were asked for, but no more than there are cores: they would only wait for one another."""
    return min(spec.threads or default_threads(natively=natively), core_count())


def default_threads(*, natively: bool) -> int:
    """All cores that this process may use; but one for torch, whose threads spin where the window needs the time.

    The native step takes as many of them as make it quicker at the moment.
    """
    cores = core_count()
    return cores if natively else max(1, cores - 1)


def _describe(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    style: PromptStyle | None,
    device: str,
    dtype: str,
    threads: int,
    parameters: int,
    reason: str,
) -> ModelInfo:
    """What was opened, of a network with a plan."""
    plan = checkpoint.plan
    info = describe(
        checkpoint,
        spec,
        style,
        engine="native" if dtype.startswith("native") else "torch",
        architecture=plan.family,
        vocab_size=plan.vocab_size,
        context_length=plan.context_length,
        device=device,
        dtype=dtype,
        threads=threads,
        parameters=parameters,
        reason=reason,
    )
    return info if checkpoint.adapter is None else replace(info, lora=checkpoint.adapter.path)
