"""Opening GGUF files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.assembly import FileTensor, assemble
from llmchat.checkpoints.checkpoint import Checkpoint, Companions, Progress, RawTensor
from llmchat.checkpoints.file_bytes import check_unchanged
from llmchat.checkpoints.lazy_tensors import LazyTensors
from llmchat.checkpoints.purpose import gguf_purpose
from llmchat.errors import ModelLoadError, UnknownArchitectureError
from llmchat.files import expanded
from llmchat.models.check import check_plan
from llmchat.models.facts import ROPE_FACTORS, Facts
from llmchat.models.family import Family, find_family
from llmchat.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmchat.checkpoints.gguf_file import GGUFFile, GGUFTensor
    from llmchat.tokenizers.gguf_vocab import GGUFVocab

_PRECISION_SUFFIX = re.compile(r"[.\-_](I?Q\d\w*|F16|F32|BF16|FP16|FP32)$", re.IGNORECASE)
_PART_SUFFIX = re.compile(r"-\d{5}-of-\d{5}$")
_VAGUE_NAME = re.compile(r"model|ggml-model|unnamed|sha256-[0-9a-f]{64}", re.IGNORECASE)
"""What says nothing of a model; the last is how stores name files by their content."""


def load_gguf(spec: ModelSpec, progress: Progress) -> Checkpoint:
    """Open a GGUF file. Its tensors are dequantised one by one, when the model is built from them.

    Args:
        spec: `model` is the file; `tokenizer`, if given, replaces the file's own.
        progress: Told how far the tensors have been read, also after this returns.

    Raises:
        ModelLoadError: The file cannot be read, is damaged, or is of a kind llmchat cannot run.
    """
    from llmchat.checkpoints.gguf_file import GGUFFile

    progress("opening the file", None)
    path = expanded(spec.model)
    file = GGUFFile.open(path)
    family = _family(file)
    plan = family.plan(_facts(file))
    check_plan(path, plan)
    tensors = {
        name: FileTensor(tensor.kind, tensor.shape, partial(_raw, tensor)) for name, tensor in file.tensors.items()
    }
    raw = assemble(path, plan, family.layouts["gguf"], tensors)
    _check_types(file)
    progress("reading the tokenizer", None)
    tokenizer, end_ids, tokenizer_notes = _tokenizer(spec, file)
    return Checkpoint(
        name=_model_name(file),
        path=str(path),
        plan=plan,
        tensors=LazyTensors(raw, progress),
        raw=raw,
        kinds=raw.kinds,
        weight_format=_main_type(file),
        tokenizer=tokenizer,
        tokenizer_path=spec.tokenizer or str(path),
        chat_template=_chat_template(file),
        end_ids=end_ids,
        check_unchanged=partial(check_unchanged, file.contents),
        notes=tokenizer_notes,
        source="gguf",
    )


def read_companions(spec: ModelSpec, file: GGUFFile, other_reader: Callable[[Path], GGUFVocab]) -> Companions:
    """What a file says beside its network.

    Args:
        spec: `tokenizer`, if given, replaces the file's own.
        file: The file.
        other_reader: Reads the file's vocabulary where it is of a kind that llmchat does not read itself.

    Raises:
        ModelLoadError: There is no tokenizer, or it is damaged.
    """
    try:
        tokenizer, end_ids, notes = _tokenizer(spec, file)
    except ModelLoadError:
        if spec.tokenizer:
            raise
        vocab = other_reader(file.path)
        tokenizer, end_ids, notes = vocab.tokenizer, vocab.end_ids, vocab.notes
    return Companions(
        name=_model_name(file),
        path=str(file.path),
        weight_format=_main_type(file),
        tokenizer=tokenizer,
        tokenizer_path=spec.tokenizer or str(file.path),
        chat_template=_chat_template(file),
        end_ids=end_ids,
        notes=notes,
    )


def _family(file: GGUFFile) -> Family:
    """The family of a file.

    Raises:
        ModelLoadError: There is none, or it writes no text.
    """
    if words := gguf_purpose(file.metadata):
        raise ModelLoadError(f"{file.path} {words}.")
    architecture = file.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ModelLoadError(f"{file.path} does not say its architecture, so llmchat cannot tell what it is.")
    family = find_family("gguf", architecture)
    if family is None:
        raise UnknownArchitectureError(str(file.path), architecture, "llama-cpp")
    return family


def _facts(file: GGUFFile) -> Facts:
    """What the file says of its network."""
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    factors = {name: _numbers(tensor) for name, tensor in file.tensors.items() if name in ROPE_FACTORS}
    return Facts(str(file.path), "gguf", str(file.metadata["general.architecture"]), file.metadata, shapes, factors)


def _numbers(tensor: GGUFTensor) -> tuple[float, ...]:
    from llmchat.checkpoints.blocks import dequantise

    return tuple(dequantise(tensor.kind, tensor.read()).ravel().tolist())


def _raw(tensor: GGUFTensor) -> RawTensor:
    blocks = tensor.read()
    return RawTensor(tensor.kind, tensor.shape, blocks.reshape(*tensor.shape[:-1], tensor.row_bytes))


def _tokenizer(spec: ModelSpec, file: GGUFFile) -> tuple[Tokenizer, tuple[int, ...], tuple[str, ...]]:
    """The tokenizer, every token that ends a reply, and notes."""
    if spec.tokenizer:
        from llmchat.tokenizers.loading import load_tokenizer
        from llmchat.tokenizers.readable import conventional_end_ids

        tokenizer = load_tokenizer(spec.tokenizer)
        return tokenizer, conventional_end_ids(tokenizer), ()
    from llmchat.tokenizers.gguf_vocab import load_gguf_vocab

    vocab = load_gguf_vocab(file.metadata)
    return vocab.tokenizer, vocab.end_ids, vocab.notes


def _chat_template(file: GGUFFile) -> str | None:
    template = file.metadata.get("tokenizer.chat_template")
    return template if isinstance(template, str) and template.strip() else None


def _check_types(file: GGUFFile) -> None:
    """Refuse types that cannot be dequantised, by trying a row of each."""
    from llmchat.checkpoints.blocks import dequantise

    samples = {tensor.kind: tensor for tensor in file.tensors.values()}
    for kind, tensor in samples.items():
        try:
            dequantise(kind, tensor.read(0, 1))
        except NotImplementedError as error:
            hint = f" without a package: {error}" if "pip install" in str(error) else ""
            raise ModelLoadError(
                f"{file.path} holds weights of the type {kind}, which llmchat cannot read{hint}."
            ) from None


def _main_type(file: GGUFFile) -> str:
    """The type that most bytes of the file are in."""
    sizes: Counter[str] = Counter()
    for tensor in file.tensors.values():
        sizes[tensor.kind] += tensor.span.size
    return sizes.most_common(1)[0][0]


def _model_name(file: GGUFFile) -> str:
    """The file's name without its part and precision; the name in the header where the file's says nothing."""
    name = _PRECISION_SUFFIX.sub("", _PART_SUFFIX.sub("", file.path.stem))
    stated: Any = file.metadata.get("general.name")
    if _VAGUE_NAME.fullmatch(name) and isinstance(stated, str) and stated.strip():
        return stated.strip()[:80]
    return name
