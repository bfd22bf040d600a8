"""From a checkpoint's tensors to the native library's slots: it repacks matrices and takes vectors as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ctypes import c_int32, c_size_t, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import Adapter, RawTensor
from llmchat.engine.native.adapters import placed_pairs
from llmchat.engine.native.interface import constants
from llmchat.engine.native.library import BLOCK_ROWS
from llmchat.engine.native.lookup import CODED, LOOKED_UP, set_table, unpack
from llmchat.errors import ModelLoadError
from llmchat.models.plan import NORMS, Experts, Layer, ModelPlan

Floats = NDArray[np.float32]

_FORMATS = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ4_NL", "IQ4_XS", "MXFP4", *CODED, "AFFINE8"),
)
"""Formats that are kept as they are, in the library's order, and what others become before F16, or F32 if need be."""

_MATRICES = {
    "QKV": tuple(f"attention.{part}_proj" for part in "qkv"),
    "OUT": ("attention.o_proj",),
    "INPUT_GATE": ("input.gate_proj",),
    "INPUT_OUT": ("input.out_proj",),
}
_NETWORK = {"GATE": "gate_proj", "UP": "up_proj", "DOWN": "down_proj"}
_VECTORS = {
    **{name.upper(): (f"{name}.weight",) for name in NORMS},
    **{f"{name.upper()}_BIAS": (f"{name}.bias",) for name in NORMS},
    **{f"{part}_NORM": (f"attention.{part.lower()}_norm.weight",) for part in "QK"},
    **{f"{part}_NORM_BIAS": (f"attention.{part.lower()}_norm.bias",) for part in "QK"},
    "QKV_BIAS": tuple(f"attention.{part}_proj.bias" for part in "qkv"),
    "OUT_BIAS": ("attention.o_proj.bias",),
    "SINKS": ("attention.sinks.weight",),
    "INPUT_NORM": ("input.norm.weight",),
    "SCALE": ("scale.weight",),
}
_MIXTURE_VECTORS = {
    "ROUTER_BIAS": ("ffn.router.bias",),
    "EXPERTS_NORM": ("ffn.experts_norm.weight",),
    "POST_EXPERTS_NORM": ("ffn.post_experts_norm.weight",),
    "POST_SHARED_NORM": ("ffn.post_shared_norm.weight",),
    "EXPERT_SCALES": ("ffn.expert_scales.weight",),
}
"""A layer's vectors by the library's names, and the parameters that make each."""


class WeightLoader:
    """Hands a model its weights.

    Args:
        library: The native library.
        handle: The model there.
        plan: What the network is.
        raw: Its tensors by our names, in the formats of the file.
    """

    def __init__(self, library: Any, handle: Any, plan: ModelPlan, raw: Mapping[str, RawTensor]) -> None:
        self._library, self._handle, self._plan, self._raw = library, handle, plan, raw
        self.widened: dict[str, int] = {}
        """Formats that are not kept as they are, with the bits of what they become."""
        self.lent: list[NDArray[np.uint8]] = []
        """What the library reads rows from: it must be kept as long as the model."""
        self.embedding: tuple[int, NDArray[np.uint8]] | None = None
        """The number of the embedding's format, and its rows, shape (vocab_size, bytes); None before it is loaded."""

    def load_matrices(self, progress: Callable[[str, float | None], object]) -> None:
        """Hand over what is repacked: the matrices and the embedding."""
        for index, layer in enumerate(self._plan.layers):
            progress("repacking weights", index / len(self._plan.layers))
            self._load_matrices(index, layer)
        self._load_embedding()

    def load_rest(self) -> None:
        """Hand over what is read as it is: vectors, and the layers' own embeddings."""
        if self._plan.layer_input is not None:
            self._load_inputs()
        for index, layer in enumerate(self._plan.layers):
            self._load_vectors(index, layer)
        self._load_global_vectors()

    def _load_matrices(self, index: int, layer: Layer) -> None:
        prefix = f"layers.{index}."
        for slot, names in _MATRICES.items():
            if parts := [
                self._raw[f"{prefix}{name}.weight"] for name in names if f"{prefix}{name}.weight" in self._raw
            ]:
                self._set_matrix(index, slot, parts)
        if isinstance(layer.ffn, Experts):
            self._load_experts(index, prefix, layer.ffn)
            return
        for slot, name in _NETWORK.items():
            if f"{prefix}ffn.{name}.weight" in self._raw:
                self._set_matrix(index, slot, [self._raw[f"{prefix}ffn.{name}.weight"]])

    def _load_experts(self, index: int, prefix: str, mixture: Experts) -> None:
        self._set_matrix(index, "ROUTER", [_as_float32(self._raw[f"{prefix}ffn.router.weight"])])
        for slot, name in _NETWORK.items():
            if f"{prefix}ffn.experts.{name}.weight" not in self._raw:
                continue
            stack = self._raw[f"{prefix}ffn.experts.{name}.weight"]
            for expert in range(mixture.count):
                part = RawTensor(stack.kind, stack.shape[1:], stack.data[expert])
                self._set_matrix(index, slot, [part], expert)
        if mixture.shared is not None:
            for slot, name in _NETWORK.items():
                self._set_matrix(index, f"SHARED_{slot}", [self._raw[f"{prefix}ffn.shared.{name}.weight"]])
        if mixture.shared_gate:
            self._set_matrix(index, "SHARED_SCORE", [_as_float32(self._raw[f"{prefix}ffn.shared_gate.weight"])])

    def _load_embedding(self) -> None:
        """The rows of the embedding, and the matrix of the logits."""
        if not self._plan.tied:
            self._set_matrix(-1, "QKV", [self._raw["head.weight"]])
        rows = self._rows(self._raw["embedding.weight"])
        if self._plan.tied:
            self._set_matrix(-1, "QKV", [rows])
        self.embedding = _FORMATS.index(rows.kind), self._lend(rows, self._library.llmchat_set_embedding)

    def _load_inputs(self) -> None:
        """The rows of the layers' own embeddings, which are read as the file has them, and what joins the stream."""
        self._set_matrix(-1, "INPUT_GATE", [self._raw["inputs.projection.weight"]])
        self._lend(self._rows(self._raw["inputs.embedding.weight"]), self._library.llmchat_set_inputs)

    def _load_vectors(self, index: int, layer: Layer) -> None:
        prefix, place = f"layers.{index}.", "ffn.experts" if isinstance(layer.ffn, Experts) else "ffn"
        self._set_vectors(index, prefix, _VECTORS)
        self._fill_norms(index, layer)
        biases = {f"{slot}_BIAS": (f"{place}.{name}.bias",) for slot, name in _NETWORK.items()}
        self._set_vectors(index, prefix, {**biases, **_MIXTURE_VECTORS})
        if isinstance(layer.ffn, Experts) and layer.ffn.apart is not None:
            # What the scores are multiplied by may as well be in the norm's weight.
            norm = _values(self._raw[f"{prefix}ffn.router_norm.weight"]) * self._plan.dim**-0.5
            self._set_vector(index, "ROUTER_NORM", norm)

    def _set_vectors(self, index: int, prefix: str, vectors: Mapping[str, Sequence[str]]) -> None:
        for slot, names in vectors.items():
            found = [_values(self._raw[prefix + name]).ravel() for name in names if prefix + name in self._raw]
            if found:
                self._set_vector(index, slot, np.concatenate(found))

    def _fill_norms(self, index: int, layer: Layer) -> None:
        """Give norms that have no weight one of 1, and LayerNorms without a bias one of 0."""
        for name in NORMS:
            norm = getattr(layer, name)
            if norm is not None and not norm.weight:
                self._set_vector(index, name.upper(), np.ones(self._plan.dim))
            if norm is not None and norm.kind == "layer" and not norm.bias:
                self._set_vector(index, f"{name.upper()}_BIAS", np.zeros(self._plan.dim))
        if layer.attention.value_norm is not None and layer.attention.keys_of is None:
            self._set_vector(index, "V_NORM", np.ones(layer.attention.head_dim))
        own, attention = layer.attention.qk_norm, layer.attention
        if own is not None and own.kind == "layer" and not own.bias:
            for part, heads in (("Q", attention.heads), ("K", attention.kv_heads)):
                count = attention.head_dim * (1 if attention.qk_norm_of == "head" else heads)
                self._set_vector(index, f"{part}_NORM_BIAS", np.zeros(count))

    def _load_global_vectors(self) -> None:
        plan = self._plan
        given = {
            "NORM": "norm.weight",
            "NORM_BIAS": "norm.bias",
            "POSITIONS": "positions.weight",
            "HEAD_BIAS": "head.bias",
            "INPUTS_NORM": "inputs.norm.weight",
        }
        for slot, name in given.items():
            if name in self._raw:
                self._set_vector(-1, slot, _values(self._raw[name]))
        if not plan.norm.weight:
            self._set_vector(-1, "NORM", np.ones(plan.dim))
        if plan.norm.kind == "layer" and not plan.norm.bias:
            self._set_vector(-1, "NORM_BIAS", np.zeros(plan.dim))

    def _lend(self, rows: RawTensor, set_rows: Callable[..., int]) -> NDArray[np.uint8]:
        """Give the library a row for each token, which it reads from what is lent."""
        kept = np.ascontiguousarray(rows.data)
        check(set_rows(self._handle, _FORMATS.index(rows.kind), kept.ctypes.data, kept.nbytes))
        self.lent.append(kept)
        return kept

    def add(self, adapter: Adapter) -> None:
        """Take over an adapter's pairs, in the floats of its file."""
        for layer, slot, first_row, pair in placed_pairs(self._plan, adapter):
            halves = [np.ascontiguousarray(half.data) for half in (pair.down, pair.up)]
            (down_format, up_format), (down, up) = (
                (_FORMATS.index(pair.down.kind), _FORMATS.index(pair.up.kind)),
                halves,
            )
            check(
                self._library.llmchat_add_low_rank(
                    *(self._handle, layer, constants()[slot], 0, first_row, pair.up.shape[0], pair.rank),
                    *(down_format, down.ctypes.data, down.nbytes, up_format, up.ctypes.data, up.nbytes, pair.factor),
                )
            )

    def _set_vector(self, layer: int, slot: str, values: NDArray[np.floating]) -> None:
        floats = np.ascontiguousarray(values, dtype=np.float32)
        check(self._library.llmchat_set_vector(self._handle, layer, constants()[slot], floats.ctypes.data, floats.size))

    def _kept(self, tensor: RawTensor) -> RawTensor:
        """A tensor as the library takes it: in its own format, or where it has it not in another of 16 bits."""
        if tensor.kind in _FORMATS:
            return tensor
        if tensor.kind not in LOOKED_UP:
            self.widened[tensor.kind] = 16
            return _dense(tensor)
        if tensor.kind not in self.widened:
            set_table(self._library, self._handle, tensor.kind)
            self.widened[tensor.kind] = 4
        return tensor

    def _rows(self, tensor: RawTensor) -> RawTensor:
        """A tensor of which the library reads rows one by one."""
        kept = self._kept(tensor)
        return unpack(self._library, self._handle, kept) if kept.kind in LOOKED_UP else kept

    def _set_matrix(self, layer: int, slot: str, parts: Sequence[RawTensor], expert: int = 0) -> None:
        """Hand over matrices that lie one below the other."""
        kept = [self._kept(part) for part in parts]
        if len({part.kind for part in kept}) > 1 and any(part.shape[0] % BLOCK_ROWS for part in kept[:-1]):
            # Where the format changes a block must end, which it does in every model of usual sizes.
            kept = [_as_float32(part) for part in parts]
        count = len(kept)
        data = [np.ascontiguousarray(part.data) for part in kept]
        result = self._library.llmchat_set_matrix(
            self._handle,
            layer,
            constants()[slot],
            expert,
            count,
            (c_int32 * count)(*(_number_of(part.kind) for part in kept)),
            (c_void_p * count)(*(blocks.ctypes.data for blocks in data)),
            (c_size_t * count)(*(blocks.nbytes for blocks in data)),
            (c_int32 * count)(*(part.shape[0] for part in kept)),
            kept[0].shape[1],
        )
        check(result)


def _number_of(kind: str) -> int:
    """The library's number of a format; those that look numbers up come behind the others."""
    return _FORMATS.index(kind) if kind in _FORMATS else len(_FORMATS) + constants()[kind]


def check(result: int) -> None:
    """Turn the library's answer to weights into an error."""
    if result == constants()["NO_MEMORY"]:
        raise MemoryError("the weights do not fit into memory")
    if result:
        raise ModelLoadError("The model's weights do not fit its dimensions: fetch or copy the file again.")


def _from_floats(values: Floats) -> RawTensor:
    rows = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
    return RawTensor("F32", values.shape, rows.view(np.uint8))


def _values(tensor: RawTensor) -> Floats:
    """A tensor's numbers as float32."""
    return dequantise(tensor.kind, tensor.data.reshape(-1, tensor.data.shape[-1])).reshape(tensor.shape)


def _as_float32(tensor: RawTensor) -> RawTensor:
    return _from_floats(_values(tensor))


def _dense(tensor: RawTensor) -> RawTensor:
    """A tensor in 16 bits where they hold it, else in 32."""
    values = _values(tensor)
    if np.abs(values).max(initial=0.0) >= np.finfo(np.float16).max:
        return _from_floats(values)
    halves = values.astype(np.float16)
    return RawTensor("F16", tensor.shape, halves.reshape(-1, values.shape[-1]).view(np.uint8))
