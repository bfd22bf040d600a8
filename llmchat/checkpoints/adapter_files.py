"""What the files of LoRA adapters hold: PEFT's directories, and GGUF files of llama.cpp's converter."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmchat.checkpoints.checkpoint import LowRank, RawTensor
from llmchat.checkpoints.file_bytes import check_unchanged
from llmchat.checkpoints.stored_tensor import FLOATS
from llmchat.checkpoints.weight_files import ADAPTER_NAMES
from llmchat.errors import ModelLoadError
from llmchat.models.facts import Source
from llmchat.tokenizers.text_files import read_object

CONFIG_NAME = "adapter_config.json"

_FLOATS = ("F32", "F16", "BF16")
_WRAPPED = "base_model.model."
_OURS = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])(?:\.\w+)?\.weight")
_PLAIN_PATTERN = re.compile(r"\^?[\w.]+")
_OTHER_METHODS = (
    *("use_dora", "use_qalora", "use_bdlora", "lora_bias", "layer_replication", "alora_invocation_tokens"),
    *("arrow_config", "kasa_config", "velora_config", "monteclora_config"),
)
"""Keys of adapter_config.json under which more is done than to add B A."""
_CHANGED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin a training that change the base model's weights too."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """The pairs of matrices of an adapter, by the names that its files' source gives to the base's."""

    path: Path
    source: Source
    pairs: Mapping[str, LowRank]
    made_for: str = ""
    """What it says of its base: a name, or a GGUF architecture; "" for nothing."""


def read_adapter(path: Path) -> AdapterFile:
    """Read a PEFT directory, its file of weights, or a GGUF file.

    Raises:
        ModelLoadError: It is no adapter, is damaged, or does more than llmchat can.
    """
    if path.name in ADAPTER_NAMES:
        path = path.parent
    if (path / CONFIG_NAME).is_file():
        return _read_peft(path)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                return _read_gguf(path)
    if not path.exists():
        raise ModelLoadError(f"There is no adapter {path}.")
    raise ModelLoadError(f"{path} is no LoRA adapter: give a directory with {CONFIG_NAME}, or a GGUF file of one.")


# ── PEFT ──


def _read_peft(path: Path) -> AdapterFile:
    from llmchat.checkpoints.huggingface_weights import open_weights

    config = read_object(path / CONFIG_NAME)
    if words := _obstacle(config):
        raise ModelLoadError(f"{path} {words}, which llmchat cannot do: merge it into its base model with PEFT.")
    files = [path / name for name in ADAPTER_NAMES if (path / name).is_file()][:1]
    if not files:
        raise ModelLoadError(f"{path} has an {CONFIG_NAME} but no weights: fetch its {ADAPTER_NAMES[0]} too.")
    tensors, contents = open_weights(files, lambda stage, fraction: None)
    halves: dict[str, dict[str, RawTensor]] = {}
    for name, tensor in tensors.items():
        found = _OURS.fullmatch(name)
        if found is None:
            raise ModelLoadError(
                f"{path} holds more than pairs of matrices, {name[:80]!r} (an embedding, a bias or a module that was "
                "trained whole), which llmchat cannot add: merge it into its base model with PEFT."
            )
        if tensor.dtype not in FLOATS or len(tensor.shape) != 2:
            what = f"is of type {tensor.dtype} and shape {tensor.shape}"
            raise ModelLoadError(f"{path}: the tensor {name[:80]!r} {what}, no matrix of floats.")
        halves.setdefault(found["module"].removeprefix(_WRAPPED), {})[found["half"]] = tensor.raw()
    check_unchanged(contents)
    pairs = {
        f"{module}.weight": _pair(path, module, found.get("A"), found.get("B"), _scaling(path, config, module, found))
        for module, found in halves.items()
    }
    base = config.get("base_model_name_or_path")
    return AdapterFile(path, "config", pairs, base if isinstance(base, str) else "")


def _obstacle(config: Mapping[str, Any]) -> str:
    """What an adapter asks for beyond the usual; "" if it is nothing."""
    kind, start = config.get("peft_type"), str(config.get("init_lora_weights")).lower()
    if kind != "LORA":
        return f"is a PEFT adapter of the type {str(kind)[:40]!r}, not LoRA"
    if asked := [key for key in _OTHER_METHODS if config.get(key)]:
        return f"is a LoRA adapter with {asked[0]}"
    if start.startswith(_CHANGED_BASES):
        return f"is a LoRA adapter that began as {start[:40]}, with a changed base model"
    return ""


def _scaling(path: Path, config: Mapping[str, Any], module: str, found: Mapping[str, RawTensor]) -> float:
    """What B A is multiplied by, alpha / r or alpha / sqrt(r), of one module."""
    alpha = _alpha(path, config, module)
    rank = found["A"].shape[0] if "A" in found else 0
    return alpha / max(math.sqrt(rank) if config.get("use_rslora") else rank, 1)


def _alpha(path: Path, config: Mapping[str, Any], module: str) -> float:
    patterns = config.get("alpha_pattern") or {}
    alpha = config.get("lora_alpha")
    for pattern in patterns if isinstance(patterns, dict) else ():
        if not _PLAIN_PATTERN.fullmatch(pattern):
            raise ModelLoadError(f"{path} names modules by the pattern {pattern[:60]!r}, which llmchat cannot read.")
        name = pattern.removeprefix("^")
        if module == name or (name == pattern and module.endswith(f".{name}")):
            alpha = patterns[pattern]
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelLoadError(f"{path}: lora_alpha must be a number, not {str(alpha)[:40]!r}.")
    return float(alpha)


# ── GGUF ──


def _read_gguf(path: Path) -> AdapterFile:
    from llmchat.checkpoints.gguf_file import GGUFFile

    file = GGUFFile.open(path)
    said = file.metadata
    kind = said.get("adapter.type")
    if said.get("general.type") != "adapter":
        raise ModelLoadError(f"{path} is a model, no adapter: give it with --model.")
    if kind != "lora" or "adapter.alora.invocation_tokens" in said:
        raise ModelLoadError(f"{path} is an adapter of the type {str(kind)[:40]!r}, not the usual LoRA.")
    alpha = said.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise ModelLoadError(f"{path}: adapter.lora.alpha must be a number, not {str(alpha)[:40]!r}.")
    halves: dict[str, dict[str, RawTensor]] = {}
    for name, tensor in file.tensors.items():
        base, _, half = name.rpartition(".lora_")
        if half not in ("a", "b"):
            raise ModelLoadError(f"{path} holds {name[:80]!r}, which is no part of a pair of matrices.")
        raw = RawTensor(tensor.kind, tensor.shape, tensor.read().reshape(*tensor.shape[:-1], tensor.row_bytes))
        halves.setdefault(base, {})[half] = raw
    check_unchanged(file.contents)
    pairs = {}
    for base, found in halves.items():
        # Without an alpha, llama.cpp adds B A as it is.
        factor = alpha / max(found["a"].shape[0], 1) if alpha and "a" in found else 1.0
        pairs[base] = _pair(path, base, found.get("a"), found.get("b"), factor)
    return AdapterFile(path, "gguf", pairs, str(said.get("general.architecture"))[:40])


# ── both ──


def _pair(path: Path, name: str, down: RawTensor | None, up: RawTensor | None, factor: float) -> LowRank:
    """A pair that fits together, in floats.

    Raises:
        ModelLoadError: It does not, or a half is missing.
    """
    if down is None or up is None:
        raise ModelLoadError(f"{path} is incomplete: {name[:80]!r} has only one of its two matrices.")
    if len(down.shape) != 2 or len(up.shape) != 2:
        raise ModelLoadError(f"{path} adapts the experts of {name[:80]!r}, which llmchat cannot do.")
    if down.shape[0] != up.shape[1] or 0 in (*down.shape, *up.shape):
        raise ModelLoadError(f"{path} is damaged: the matrices of {name[:80]!r}, {down.shape} and {up.shape}, differ.")
    down, up = (_in_floats(path, half) for half in (down, up))
    if not all(_is_finite(half) for half in (down, up)):
        raise ModelLoadError(f"{path} is damaged: {name[:80]!r} holds numbers that are none.")
    return LowRank(down, up, factor)


def _in_floats(path: Path, tensor: RawTensor) -> RawTensor:
    from llmchat.checkpoints.blocks import dequantise

    if tensor.kind in _FLOATS:
        return tensor
    try:
        numbers = dequantise(tensor.kind, tensor.data)
    except NotImplementedError:
        raise ModelLoadError(f"{path} holds numbers of the type {tensor.kind}, which llmchat cannot read.") from None
    values = np.ascontiguousarray(numbers, dtype=np.float32).reshape(tensor.shape)
    return RawTensor("F32", tensor.shape, values.view(np.uint8))


def _is_finite(tensor: RawTensor) -> bool:
    from llmchat.checkpoints.blocks import dequantise

    return bool(np.isfinite(dequantise(tensor.kind, tensor.data)).all())


def names(listed: Iterator[str] | list[str]) -> str:
    """A few names for a message."""
    given = sorted(listed)
    return ", ".join(repr(name[:80]) for name in given[:3]) + (f" and {len(given) - 3} more" if len(given) > 3 else "")
