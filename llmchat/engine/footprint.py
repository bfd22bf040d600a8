"""What a model will take of memory, from its plan and the formats of its file, before its weights are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from llmchat.models.plan import Attention, ModelPlan, Shape, is_kept_whole

CONTEXT = 4096
"""Tokens of the conversation that memory is reckoned for, where the model's context is as long."""

_LOOKED_UP = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0")
_PACKED = dict.fromkeys(_LOOKED_UP, 148) | {
    **dict(F32=1024, F16=512, BF16=512, Q8_0=272, AFFINE8=288, Q5_1=192, Q5_0=176, Q4_1=160, Q4_0=144),
    **dict(Q6_K=212, Q5_K=180, Q4_K=148, Q3_K=116, Q2_K=100, IQ4_NL=144, IQ4_XS=140, MXFP4=144),
}
"""Bytes of 256 weights of a format in the native step, which has scales in whole bytes; others are kept in 16 bits."""

_FLOATS = ("F32", "F16", "BF16")
_PYTHON, _TOKEN, _TORCH = 28 << 20, 570, 190 << 20
"""Bytes of libraries, of each token of a vocabulary, and of torch: measured."""

_ROWS = 16
"""The native step keeps whole blocks of so many rows."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a model takes, about."""

    weights: int
    """As they are kept."""
    cache: int
    """Keys and values of a conversation of `CONTEXT` tokens."""
    reading: int
    """Beside the weights that have been read, at most, until all of them have."""
    host: int
    """The vocabulary and libraries: they are in memory before a weight is read."""
    is_on_gpu: bool = False
    """Whether weights and cache are in the memory of a GPU."""

    @property
    def total(self) -> int:
        """At the most."""
        return self.host + self.to_come

    @property
    def to_come(self) -> int:
        """The same without what is in memory before a weight is read."""
        return self.weights + max(self.cache, self.reading)


def footprint_natively(plan: ModelPlan, kinds: Mapping[str, str], prepared: int = 0) -> Footprint:
    """What the native step takes.

    Args:
        plan: The model.
        kinds: The format in the file of each of its parameters.
        prepared: Bytes that are got ready for weights, used or not.
    """
    sizes = {
        name: _packed_bytes(kinds[name], shape) if _is_matrix(name, shape) else 4 * math.prod(shape)
        for name, shape in plan.tensors().items()
    }
    embedding = sizes["embedding.weight"]
    # Its rows are looked up as the file has them; a tied output layer is packed beside.
    packed = sum(sizes.values()) - (0 if plan.tied else embedding)
    in_floats = kinds["layers.0.attention.q_proj.weight"] in _FLOATS
    reading = max(*sizes.values(), prepared - packed)
    return Footprint(packed + embedding, _native_cache(plan, in_floats), reading, _host(plan))


def footprint_on_torch(
    plan: ModelPlan, kinds: Mapping[str, str], number_bytes: int, *, is_on_gpu: bool = False
) -> Footprint:
    """What torch takes.

    Args:
        plan: The model.
        kinds: The format in the file of each of its parameters.
        number_bytes: Bytes of a weight in the precision that is computed in.
        is_on_gpu: Whether it runs on a GPU.
    """
    weights = most = 0
    for _, parts in groupby(_read_in_order(plan), lambda item: _joined_name(item[0])):
        kept = read = 0
        for name, shape in parts:
            count = math.prod(shape)
            kept += count * (4 if is_kept_whole(name) else number_bytes)
            is_float, of_file = kinds[name] in _FLOATS, _packed(kinds[name]) * count // 256
            read += of_file if is_float else of_file + 4 * count
            if number_bytes * count != (of_file if is_float else 4 * count):
                read += number_bytes * count
        weights += kept
        most = max(most, weights + read)
    cache = sum(2 * attention.kv_dim * number_bytes * count for attention, count in _keys_held(plan))
    return Footprint(weights, cache, most - weights, _host(plan) + _TORCH, is_on_gpu)


def _native_cache(plan: ModelPlan, in_floats: bool) -> int:
    """Keys and values: 16 bits each and a scale for 32 of them, with weights in floats 32 bits."""
    total = 0
    for attention, count in _keys_held(plan):
        columns = -(-attention.head_dim // 16) * 16
        total += 2 * attention.kv_heads * (columns * (4 if in_floats else 2) + 4 * -(-columns // 32)) * count
    return total


def _keys_held(plan: ModelPlan) -> Iterator[tuple[Attention, int]]:
    """Each attention that has keys of its own, and how many of them a conversation of `CONTEXT` tokens keeps."""
    seen = plan.keys_seen(min(CONTEXT, plan.context_length))
    return ((attention, count) for attention, count in seen if attention.keys_of is None)


def _packed(kind: str) -> int:
    return _PACKED.get(kind, _PACKED["F16"])


def _packed_bytes(kind: str, shape: Shape) -> int:
    *stack, rows, cols = shape
    return math.prod(stack) * -(-rows // _ROWS) * _ROWS * cols * _packed(kind) // 256


def _read_in_order(plan: ModelPlan) -> Iterator[tuple[str, Shape]]:
    """The parameters, the output layer last."""
    shapes = plan.tensors()
    last = [name for name in shapes if name.startswith("head.")]
    yield from ((name, shape) for name, shape in shapes.items() if name not in last)
    yield from ((name, shapes[name]) for name in last)


def _is_matrix(name: str, shape: Shape) -> bool:
    """Whether the native step packs a parameter, and does not keep it in float32."""
    return len(shape) > 1 and not name.endswith(".bias") and not is_kept_whole(name) and name != "positions.weight"


def _joined_name(name: str) -> str:
    """The same for parameters that torch's module reads into one."""
    for parts in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
        for part in parts:
            name = name.replace(part, parts[0])
    return name


def _host(plan: ModelPlan) -> int:
    return _PYTHON + _TOKEN * plan.vocab_size
