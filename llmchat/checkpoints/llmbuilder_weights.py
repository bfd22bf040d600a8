"""The weights of an llmbuilder file, under our names, whatever layout they were saved in.

llmbuilder writes a dozen envelopes around one state dict; LoRA pairs and packed
int8 layers are turned back into plain matrices here, and every shape is checked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmchat.checkpoints.stored_tensor import FLOATS, StoredTensor
from llmchat.errors import ModelLoadError
from llmchat.models.plan import ModelPlan

LORA_ALPHA = 32.0
"""llmbuilder's default."""

EMBEDDING, HEAD = "token_embedding.weight", "lm_head.weight"
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.)+")
_BLOCK = re.compile(r"^blocks\.(\d{1,6})\.")
_PACKED = "._packed_params._packed_params"
_LORA_A = ".lora_A.weight"
_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Weights:
    """Plain tensors by our names."""

    tensors: dict[str, StoredTensor]
    weight_format: str
    """How the file holds most of its weights."""
    notes: tuple[str, ...] = ()


def read_weights(payload: object, path: Path) -> Weights:
    """Find the state dict in what a file holds and bring it into our form.

    Raises:
        ModelLoadError: There is none, or it holds what this model does not have.
    """
    state = find_state(payload)
    if state is None:
        raise ModelLoadError(f"{path} holds no llmbuilder model: there is no {EMBEDDING} in it.")
    wanted = {name: value for name, value in state.items() if not name.endswith("causal_mask")}
    plain, notes = _fold_lora(_dequantise(wanted, path), _lora_scale(payload), path)
    tensors = {name: _plain(name, value, path) for name, value in plain.items()}
    if _is_tied(tensors):
        del tensors[HEAD]
    return Weights(tensors, _weight_format(wanted.values()), notes)


def find_state(payload: object) -> dict[str, object] | None:
    """The state dict of a checkpoint, without the prefixes of wrappers; None if there is none."""
    if not isinstance(payload, Mapping):
        return None
    for candidate in (*(payload.get(key) for key in ("model_state_dict", "state_dict", "model")), payload):
        if isinstance(candidate, Mapping):
            state = {_PREFIX.sub("", name): value for name, value in candidate.items() if isinstance(name, str)}
            if EMBEDDING in state:
                return state
    return None


def dimensions(weights: Weights, path: Path) -> tuple[int, int, int, int]:
    """Vocabulary, positions, layers and width, read from the shapes.

    Raises:
        ModelLoadError: The embeddings are missing or are no matrices.
    """
    tensors = weights.tensors
    for name in (EMBEDDING, "position_embedding.weight"):
        if name not in tensors:
            raise ModelLoadError(f"{path} is incomplete: it lacks {name}.")
        if len(tensors[name].shape) != 2 or not tensors[name].size:
            raise ModelLoadError(f"{path}: {name} has shape {tensors[name].shape}, but must be a matrix.")
    vocab_size, dim = tensors[EMBEDDING].shape
    layers = {match[1] for match in map(_BLOCK.match, tensors) if match}
    return vocab_size, tensors["position_embedding.weight"].shape[0], max(len(layers), 1), dim


def check_shapes(weights: Weights, plan: ModelPlan, path: Path) -> None:
    """Compare the tensors with those that the model needs.

    Raises:
        ModelLoadError: One is missing, unknown, of another shape, or holds NaN or infinity.
    """
    tensors, shapes = weights.tensors, _shapes(plan)
    if HEAD in tensors:
        shapes[HEAD] = (plan.vocab_size, plan.dim)
    if missing := [name for name in shapes if name not in tensors]:
        raise ModelLoadError(f"{path} is incomplete: it lacks {_listed(missing)}.")
    if unknown := [name for name in tensors if name not in shapes]:
        raise ModelLoadError(f"{path} holds weights that llmbuilder's model does not have: {_listed(unknown)}.")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ModelLoadError(f"{path}: {name} has shape {tensors[name].shape}, but {shape} is needed.")
    for name, tensor in tensors.items():
        if not tensor.is_finite():
            raise ModelLoadError(
                f"{path}: {name} holds values that are no finite numbers; the training went wrong. "
                "Use an earlier checkpoint."
            )


def _shapes(plan: ModelPlan) -> dict[str, tuple[int, ...]]:
    """Every parameter of the model and its shape, but for an output layer of its own."""
    dim = plan.dim
    layer: dict[str, tuple[int, ...]] = {
        "ln1.weight": (dim,),
        "ln1.bias": (dim,),
        "attn.qkv_proj.weight": (3 * dim, dim),
        "attn.out_proj.weight": (dim, dim),
        "attn.out_proj.bias": (dim,),
        "ln2.weight": (dim,),
        "ln2.bias": (dim,),
        "mlp.fc1.weight": (4 * dim, dim),
        "mlp.fc1.bias": (4 * dim,),
        "mlp.fc2.weight": (dim, 4 * dim),
        "mlp.fc2.bias": (dim,),
    }
    layers = {f"blocks.{i}.{name}": shape for i in range(len(plan.layers)) for name, shape in layer.items()}
    return {
        EMBEDDING: (plan.vocab_size, dim),
        "position_embedding.weight": (plan.context_length, dim),
        **layers,
        "ln_f.weight": (dim,),
        "ln_f.bias": (dim,),
    }


def _dequantise(state: dict[str, object], path: Path) -> dict[str, object]:
    """Replace torch's packed int8 layers by float matrices."""
    modules = [name.removesuffix(_PACKED) for name in state if name.endswith(_PACKED)]
    leftovers = {f"{module}.{part}" for module in modules for part in ("scale", "zero_point", "_packed_params.dtype")}
    plain = {name: value for name, value in state.items() if not name.endswith(_PACKED) and name not in leftovers}
    for module in modules:
        packed = state[module + _PACKED]
        if not isinstance(packed, tuple) or len(packed) != 2 or not _is_quantised(packed[0]):
            raise ModelLoadError(f"{path}: {module} is packed in a way that cannot be read.")
        weight, bias = packed
        _check_extent(module, weight, path)
        plain[f"{module}.weight"] = weight.as_float32()
        if bias is not None:
            plain[f"{module}.bias"] = bias
    return plain


def _fold_lora(
    state: dict[str, object], scale: tuple[float, int | None] | None, path: Path
) -> tuple[dict[str, object], tuple[str, ...]]:
    """Add each low-rank pair to its matrix: W + alpha / rank · B · A."""
    modules = [name.removesuffix(_LORA_A) for name in state if name.endswith(_LORA_A)]
    plain = {name.replace(".original_layer.", "."): value for name, value in state.items() if ".lora_" not in name}
    if not modules:
        return plain, ()
    notes = () if scale else (f"The file does not say its LoRA alpha; llmbuilder's {LORA_ALPHA:g} is taken.",)
    alpha, rank = scale or (LORA_ALPHA, None)
    for module in modules:
        names = (f"{module}.original_layer.weight", module + _LORA_A, f"{module}.lora_B.weight")
        if missing := [name for name in names if name not in state]:
            raise ModelLoadError(f"{path} is incomplete: it lacks {_listed(missing)}.")
        base, down, up = (_plain(name, state[name], path).as_float32().numbers for name in names)
        if not (base.ndim == down.ndim == up.ndim == 2 and base.shape == (up.shape[0], down.shape[1])):
            raise ModelLoadError(f"{path}: the LoRA matrices of {module} do not fit its weight.")
        if up.shape[1] != down.shape[0] or not down.shape[0]:
            raise ModelLoadError(f"{path}: the LoRA matrices of {module} do not fit each other.")
        with np.errstate(all="ignore"):
            folded = base + alpha / (rank or down.shape[0]) * (up @ down)
        plain[f"{module}.weight"] = StoredTensor.of_floats(folded.astype(np.float32))
    return plain, notes


def _lora_scale(payload: object) -> tuple[float, int | None] | None:
    """Alpha and rank of the pairs, as far as the file says."""
    for key in ("fine_tuning_config", "config"):
        config = payload.get(key) if isinstance(payload, Mapping) else None
        alpha = config.get("lora_alpha") if isinstance(config, Mapping) else None
        if isinstance(config, Mapping) and isinstance(alpha, int | float) and abs(alpha) < _LIMIT:
            rank = config.get("lora_rank")
            return float(alpha), rank if isinstance(rank, int) and 0 < rank < _LIMIT else None
    return None


def _is_quantised(value: object) -> bool:
    return isinstance(value, StoredTensor) and value.quantisation is not None


def _plain(name: str, value: object, path: Path) -> StoredTensor:
    """A value as a tensor of floating-point numbers, none wider than 32 bits."""
    if not isinstance(value, StoredTensor) or value.dtype not in FLOATS:
        raise ModelLoadError(f"{path}: {_shown(name)} is no tensor of floating-point numbers.")
    _check_extent(name, value, path)
    return value.as_float32() if value.dtype == "float64" else value


def _check_extent(name: str, tensor: StoredTensor, path: Path) -> None:
    """Refuse a tensor that claims more numbers than its storage holds, by repeating them."""
    if tensor.repeats:
        raise ModelLoadError(f"{path}: {_shown(name)} claims {tensor.size} numbers that the file does not hold.")


def _is_tied(tensors: Mapping[str, StoredTensor]) -> bool:
    head, embedding = tensors.get(HEAD), tensors.get(EMBEDDING)
    if head is None or embedding is None or head.dtype != embedding.dtype:
        return False
    return head.is_same_view(embedding) or np.array_equal(head.numbers, embedding.numbers)


def _weight_format(values: Iterable[object]) -> str:
    """The precision that most of the weights are stored in."""
    counts: Counter[str] = Counter()
    for value in values:
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, StoredTensor):
                counts[part.dtype.replace("qint8", "int8")] += part.size
    return counts.most_common(1)[0][0]


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{_shown(names[0])}{rest}"


def _shown(name: str) -> str:
    return repr(name[:80])[1:-1]
