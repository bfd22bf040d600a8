"""Opening Hugging Face directories: config.json beside safetensors or .bin files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.affine import take_affine
from llmchat.checkpoints.assembly import FileTensor, assemble
from llmchat.checkpoints.checkpoint import Checkpoint, Companions, Progress
from llmchat.checkpoints.file_bytes import check_unchanged
from llmchat.checkpoints.huggingface_weights import open_weights
from llmchat.checkpoints.lazy_tensors import LazyTensors
from llmchat.checkpoints.microscaled import take_pairs
from llmchat.checkpoints.purpose import config_purpose
from llmchat.checkpoints.stored_tensor import FLOATS, StoredTensor
from llmchat.checkpoints.weight_files import weight_files
from llmchat.checkpoints.zero_points import METHODS, take_zero_points
from llmchat.errors import ModelLoadError, UnknownArchitectureError
from llmchat.files import expanded
from llmchat.models.check import check_plan
from llmchat.models.facts import Facts
from llmchat.models.family import Family, find_family
from llmchat.models.stored import CONFIG
from llmchat.tokenizers.loading import load_tokenizer
from llmchat.tokenizers.readable import conventional_end_ids, encodable
from llmchat.tokenizers.text_files import read_object, read_text
from llmchat.tokenizers.tokenizer import Tokenizer

_KEPT_BITS = {"AFFINE8": 8, "Q8_0": 8, "F16": 16}


def load_huggingface(spec: ModelSpec, progress: Progress) -> Checkpoint:
    """Open a directory. Its tensors are read one by one, when the model is built from them.

    Args:
        spec: `model` is the directory, or one file of weights in it that is to be used in place of the others;
            `tokenizer`, if given, replaces its own.
        progress: Told how far the tensors have been read, also after this returns.

    Raises:
        ModelLoadError: Something is missing or damaged, or is of a kind llmchat cannot run.
    """
    progress("opening the files", None)
    given = expanded(spec.model)
    path = given if given.is_dir() else given.parent
    described = read_object(path / "config.json")
    if not described:
        raise ModelLoadError(f"{path} has no config.json: give a Hugging Face model directory or a model file.")
    family = _family(path, described)
    files = weight_files(path) if given.is_dir() else [given]
    if not files:
        raise ModelLoadError(f"{path} has a config.json but no weights: fetch its model*.safetensors too.")
    stored, contents = open_weights(files, progress)
    pairs = take_pairs(stored) | take_affine(path, stored, described)
    if _method(described) in METHODS:
        pairs |= take_zero_points(path, stored, described["quantization_config"])
    weight_format = _main_dtype(path, stored, pairs)
    shapes = {name: tensor.shape for name, tensor in (stored | pairs).items()}
    plan = family.plan(Facts(str(path), "config", str(described["model_type"]), described, shapes))
    check_plan(path, plan)
    if plan.tied:
        stored = {name: tensor for name, tensor in stored.items() if not _is_head(name)}
    tensors = {name: FileTensor(tensor.dtype, tensor.shape, tensor.raw) for name, tensor in stored.items()}
    raw = assemble(path, plan, family.layouts["config"], tensors | pairs)
    progress("reading the tokenizer", None)
    tokenizer_path = expanded(spec.tokenizer) if spec.tokenizer else path
    tokenizer = load_tokenizer(tokenizer_path)
    return Checkpoint(
        name=_model_name(given),
        path=str(given),
        plan=plan,
        tensors=LazyTensors(raw, progress),
        weight_format=weight_format,
        tokenizer=tokenizer,
        tokenizer_path=str(tokenizer_path),
        chat_template=_chat_template(path),
        end_ids=_end_ids(path, described, tokenizer),
        raw=raw,
        kinds=raw.kinds,
        check_unchanged=partial(check_unchanged, contents),
        notes=_size_notes(described, pairs.values()),
    )


def read_companions(spec: ModelSpec, described: Mapping[str, Any]) -> Companions:
    """What stands beside the weights of a directory.

    Args:
        spec: `model` is the directory; `tokenizer`, if given, replaces its own.
        described: Its config.json.

    Raises:
        ModelLoadError: There is no tokenizer, or it is damaged.
    """
    path = expanded(spec.model)
    tokenizer_path = expanded(spec.tokenizer) if spec.tokenizer else path
    tokenizer = load_tokenizer(tokenizer_path)
    return Companions(
        name=_model_name(path),
        path=str(path),
        weight_format=str(described.get("dtype") or described.get("torch_dtype") or "")[:40],
        tokenizer=tokenizer,
        tokenizer_path=str(tokenizer_path),
        chat_template=_chat_template(path),
        end_ids=_end_ids(path, described, tokenizer),
    )


def _family(path: Path, described: Mapping[str, Any]) -> Family:
    """The family of a configuration.

    Raises:
        ModelLoadError: There is none, it writes no text, or its weights are in a form that llmchat cannot run.
    """
    if words := config_purpose(path, described):
        raise ModelLoadError(f"{path} {words}.")
    kind = described.get("model_type")
    if not isinstance(kind, str):
        raise ModelLoadError(f"{path} has a config.json without a model_type, so llmchat cannot tell what it is.")
    family = find_family("config", kind)
    if family is None:
        sees = "reads pictures too and " if "vision_config" in described else ""
        raise UnknownArchitectureError(str(path), kind, "transformers", sees)
    method = _method(described)
    is_mlx = method is None and isinstance(described.get("quantization"), Mapping)
    if described.get("quantization_config") and not is_mlx and method not in (*family.quantised, *METHODS):
        named = f" by {method[:40]}" if isinstance(method, str) else ""
        raise ModelLoadError(
            f"{path} has weights quantised{named}, which llmchat cannot run: "
            "take the original model, or a GGUF file of it."
        )
    return family


def _method(described: Mapping[str, Any]) -> object:
    """By which method weights are quantised, if config.json says it."""
    settings = described.get("quantization_config")
    return settings.get("quant_method") if isinstance(settings, Mapping) else None


def _is_head(name: str) -> bool:
    return name.rpartition(".")[0].rpartition(".")[2] in CONFIG.globals["head"]


def _main_dtype(path: Path, weights: Mapping[str, StoredTensor], pairs: Mapping[str, FileTensor]) -> str:
    """The type that most weights are in; every one but the pairs must be a plain float."""
    sizes: Counter[str] = Counter()
    for pair in pairs.values():
        sizes[pair.kind] += math.prod(pair.shape)
    for name, weight in weights.items():
        if weight.dtype not in FLOATS:
            raise ModelLoadError(f"{path}: the tensor {name!r} is of type {weight.dtype}, which llmchat cannot read.")
        sizes[weight.dtype] += weight.size
    return sizes.most_common(1)[0][0]


def _size_notes(described: Mapping[str, Any], pairs: Iterable[FileTensor]) -> tuple[str, ...]:
    """What to say of quantised weights that are kept in more bits than the files have."""
    settings = described.get("quantization_config", described.get("quantization"))
    bits = settings.get("bits", 4) if isinstance(settings, Mapping) else 0
    kept = max((_KEPT_BITS.get(pair.kind, 0) for pair in pairs), default=0)
    if not (isinstance(bits, int) and 0 < bits < kept):
        return ()
    return (f"Weights in {bits} bits are kept in {kept}: exact, but larger and slower than the files' size suggests.",)


def _chat_template(path: Path) -> str | None:
    """The Jinja template, from whichever of its places has it."""
    text = read_text(path / "chat_template.jinja")
    if text and text.strip():
        return text
    template = read_object(path / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = (item for item in template if isinstance(item, dict) and item.get("name") == "default")
        template = next((item.get("template") for item in named), None)
    return encodable(template) if isinstance(template, str) and template.strip() else None


def _end_ids(path: Path, described: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[int, ...]:
    declared: list[int] = []
    for source in (read_object(path / "generation_config.json"), described):
        ids = source.get("eos_token_id")
        declared += [item for item in (ids if isinstance(ids, list) else [ids]) if isinstance(item, int)]
    return conventional_end_ids(tokenizer, declared)


def _model_name(path: Path) -> str:
    """The name of the directory or the file; in Hugging Face's own cache that of the model."""
    path = path.absolute()
    if path.is_file():
        return path.stem
    if path.parent.name == "snapshots":
        return path.parent.parent.name.split("--")[-1]
    return path.name
