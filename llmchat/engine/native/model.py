"""A model in the native decode step's memory: its weights repacked once, and its steps."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from ctypes import byref, c_int32, c_size_t, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import Adapter, Checkpoint, RawTensor
from llmchat.engine.architectures.frequencies import rope_frequencies, rope_magnitude
from llmchat.engine.native.adapters import placed_pairs
from llmchat.engine.native.interface import constants
from llmchat.engine.native.library import BLOCK_ROWS, KERNELS_VARIABLE, WIDTH, PreparedMemory, load_library
from llmchat.engine.native.lookup import CODED, LOOKED_UP, set_table, unpack
from llmchat.engine.native.shapes import layer_shapes, model_shape, ropes_of
from llmchat.errors import GenerationError, ModelLoadError
from llmchat.models.plan import NORMS, Experts, Layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmchat.engine.native.cache import NativeCache
    from llmchat.engine.native.kept_weights import Keeper

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


class NativeModel:
    """Weights and steps. One thread at a time may call it; it uses `threads` of its own."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        threads: int,
        progress: Callable[[str, float | None], object],
        memory: PreparedMemory | None = None,
        kept_at: Path | None = None,
    ) -> None:
        """Repack a checkpoint's weights, or map them where that was done before.

        Args:
            checkpoint: Where they are.
            threads: The most that are used.
            progress: Told how far it is.
            memory: Is used up first.
            kept_at: The file in which they are kept repacked; it is written where it is not there. None for none.

        Raises:
            ModelLoadError: There is not enough memory.
        """
        library = load_library()
        assert library is not None
        self.library: Any = library
        self.plan = checkpoint.plan
        self._raw: Mapping[str, RawTensor] = checkpoint.raw
        self.parameter_count = sum(math.prod(shape) for shape in self.plan.tensors().values())
        """How many numbers the model has."""
        self._widened: dict[str, int] = {}
        self._ropes = ropes_of(self.plan)
        self._padded_vocab = -(-self.plan.vocab_size // BLOCK_ROWS) * BLOCK_ROWS
        kernels = os.environ.get(KERNELS_VARIABLE, "").encode()
        shape, layers = model_shape(self.plan, len(self._ropes), threads), layer_shapes(self.plan, self._ropes)
        handed = memory.hand_over() if memory else None
        self.handle = library.llmchat_model_new(byref(shape), layers, kernels, handed)
        if not self.handle:
            raise ModelLoadError(f"There is not enough memory for {checkpoint.name}.")
        self._positions, self._is_long = 0, False
        # What a step is given lies in the same places each time: it costs a small model time to make them anew.
        self._ids, self._places, self._handles = (c_int32 * WIDTH)(), (c_int32 * WIDTH)(), (c_void_p * WIDTH)()
        self._keeper: Keeper | None = None
        self.is_mapped = kept_at is not None and self._take_over(kept_at)
        """Whether the weights lie in a file that others may map too."""
        if not self.is_mapped:
            for index, layer in enumerate(self.plan.layers):
                progress("repacking weights", index / len(self.plan.layers))
                self._load_matrices(index, layer)
            self._load_embedding()
        if self.plan.layer_input is not None:
            self._load_inputs()
        for index, layer in enumerate(self.plan.layers):
            self._load_vectors(index, layer)
        self._load_global_vectors()
        self._reserve_positions(1)
        if kept_at is not None and not self.is_mapped and not self._widened:
            self._keep(kept_at)
        if checkpoint.adapter is not None:
            self._add(checkpoint.adapter)
        checkpoint.check_unchanged()
        self._raw = {}

    def __del__(self) -> None:
        if (keeper := getattr(self, "_keeper", None)) is not None:
            keeper.close()
        if getattr(self, "handle", None):
            self.library.llmchat_model_free(self.handle)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that every token reads, as they are kept."""
        return int(self.library.llmchat_weight_bytes(self.handle))

    @property
    def position_bytes(self) -> int:
        """Bytes of one position in a KV cache."""
        return int(self.library.llmchat_position_bytes(self.handle))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about formats that are not kept as they are."""
        return tuple(
            f"Weights in {kind} are kept in {bits} bits: exact, but larger and slower than the file's size suggests."
            for kind, bits in sorted(self._widened.items())
        )

    def read(self, token_ids: Sequence[int], places: Sequence[int], caches: Sequence[NativeCache]) -> None:
        """Run tokens for what they leave in their caches alone; arguments as for `step`."""
        for start in range(0, len(token_ids), WIDTH):
            self._tile(token_ids, places, caches, start, min(start + WIDTH, len(token_ids)), wanted=0)

    def step(self, token_ids: Sequence[int], places: Sequence[int], caches: Sequence[NativeCache]) -> Floats:
        """Run tokens, each at its position of its cache, and return the logits of the last row.

        Args:
            token_ids: At least one; tokens of one cache in the order of their positions.
            places: The position of each.
            caches: The cache of each.

        Returns:
            Shape (vocab_size,).
        """
        if not token_ids:
            raise ValueError("there is no token to run")
        start = (len(token_ids) - 1) // WIDTH * WIDTH
        if start:
            self.read(token_ids[:start], places[:start], caches[:start])
        last: Floats = self._tile(token_ids, places, caches, start, len(token_ids), wanted=1)[0]
        return last

    def step_all(self, token_ids: Sequence[int], places: Sequence[int], caches: Sequence[NativeCache]) -> Floats:
        """As `step`, with the logits of every row: shape (tokens, vocab_size)."""
        tiles = [
            self._tile(token_ids, places, caches, start, min(start + WIDTH, len(token_ids)), wanted=WIDTH)
            for start in range(0, len(token_ids), WIDTH)
        ]
        return np.concatenate(tiles)

    def set_length(self, length: int) -> None:
        """Choose the positions' stretching by how long the text will be, for plans that ask."""
        is_long = self.plan.is_long(length)
        if is_long != self._is_long:
            self._positions, self._is_long = 0, is_long

    def set_lora_scale(self, scale: float) -> None:
        """Choose how much of the adapter counts from the next step on."""
        self.library.llmchat_set_lora_scale(self.handle, scale)

    def _tile(
        self,
        token_ids: Sequence[int],
        places: Sequence[int],
        caches: Sequence[NativeCache],
        start: int,
        end: int,
        *,
        wanted: int,
    ) -> Floats:
        """One call of the library; logits of the last `wanted` rows."""
        count, last, vocab_size, context = end - start, 0, self.plan.vocab_size, self.plan.context_length
        first = max(count - wanted, 0)
        ids_given, places_given, handles_given = self._ids, self._places, self._handles
        for row in range(count):
            token_id, place, cache = token_ids[start + row], places[start + row], caches[start + row]
            if not 0 <= token_id < vocab_size:
                raise IndexError(f"token {token_id} lies outside the vocabulary")
            if not 0 <= place < cache.capacity or place >= context:
                raise IndexError(f"position {place} lies outside the cache")
            ids_given[row], places_given[row], handles_given[row] = token_id, place, cache.handle
            if place > last:
                last = place
        if self._ropes and last >= self._positions:
            self._reserve_positions(last + 1)
        logits = np.empty((count - first, self._padded_vocab), dtype=np.float32)
        result = self.library.llmchat_step(
            self.handle, self._ids, self._places, self._handles, count, logits.ctypes.data, first
        )
        if result:
            if result == constants()["NO_MEMORY"]:
                raise MemoryError("the attention of a text so long does not fit into memory")
            if result == constants()["CUT_OFF"]:
                raise GenerationError(
                    "The weights that llmchat keeps in its cache were cut off while they were in use: "
                    "open the model again, which makes them anew."
                )
            raise ValueError("these caches are not of this model")
        return logits[:, : self.plan.vocab_size]

    def _reserve_positions(self, positions: int) -> None:
        """Make the tables of rotations long enough, at least doubling them."""
        if positions <= self._positions or not self._ropes:
            return
        self._positions = min(max(2 * positions, 2048), self.plan.context_length)
        for index, rope in enumerate(self._ropes):
            frequencies = rope_frequencies(rope, is_long=self._is_long)
            angles = np.outer(np.arange(self._positions, dtype=np.float64), frequencies)
            magnitude = rope_magnitude(rope)
            tables = [np.ascontiguousarray(part * magnitude, np.float32) for part in (np.cos(angles), np.sin(angles))]
            _check(
                self.library.llmchat_set_rope(
                    self.handle,
                    index,
                    *(table.ctypes.data for table in tables),
                    self._positions,
                    rope.dim,
                    int(rope.interleaved),
                )
            )

    def _take_over(self, path: Path) -> bool:
        """Map matrices and embedding, where they are kept in a file."""
        from llmchat.engine.native.kept_weights import take_over

        return take_over(self.library, self.handle, path)

    def _keep(self, path: Path) -> None:
        """Begin to write them to a file."""
        from llmchat.engine.native.kept_weights import Keeper, matrices_of

        rows = _FORMATS.index(self._embedding_kind), self._embedding.data.cast("B")
        self._keeper = Keeper(path, matrices_of(self.library, self.handle, self.plan), rows)

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
        if not self.plan.tied:
            self._set_matrix(-1, "QKV", [self._raw["head.weight"]])
        rows = self._rows(self._raw["embedding.weight"])
        if self.plan.tied:
            self._set_matrix(-1, "QKV", [rows])
        self._embedding_kind = rows.kind
        self._embedding = self._lend(rows, self.library.llmchat_set_embedding)

    def _load_inputs(self) -> None:
        """The rows of the layers' own embeddings, which are read as the file has them, and what joins the stream."""
        self._set_matrix(-1, "INPUT_GATE", [self._raw["inputs.projection.weight"]])
        self._inputs = self._lend(self._rows(self._raw["inputs.embedding.weight"]), self.library.llmchat_set_inputs)

    def _load_vectors(self, index: int, layer: Layer) -> None:
        prefix, place = f"layers.{index}.", "ffn.experts" if isinstance(layer.ffn, Experts) else "ffn"
        self._set_vectors(index, prefix, _VECTORS)
        self._fill_norms(index, layer)
        biases = {f"{slot}_BIAS": (f"{place}.{name}.bias",) for slot, name in _NETWORK.items()}
        self._set_vectors(index, prefix, {**biases, **_MIXTURE_VECTORS})
        if isinstance(layer.ffn, Experts) and layer.ffn.apart is not None:
            # What the scores are multiplied by may as well be in the norm's weight.
            norm = _values(self._raw[f"{prefix}ffn.router_norm.weight"]) * self.plan.dim**-0.5
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
                self._set_vector(index, name.upper(), np.ones(self.plan.dim))
            if norm is not None and norm.kind == "layer" and not norm.bias:
                self._set_vector(index, f"{name.upper()}_BIAS", np.zeros(self.plan.dim))
        if layer.attention.value_norm is not None and layer.attention.keys_of is None:
            self._set_vector(index, "V_NORM", np.ones(layer.attention.head_dim))
        own, attention = layer.attention.qk_norm, layer.attention
        if own is not None and own.kind == "layer" and not own.bias:
            for part, heads in (("Q", attention.heads), ("K", attention.kv_heads)):
                count = attention.head_dim * (1 if attention.qk_norm_of == "head" else heads)
                self._set_vector(index, f"{part}_NORM_BIAS", np.zeros(count))

    def _load_global_vectors(self) -> None:
        plan = self.plan
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
        """Give the library a row for each token; it reads them from what is returned, which must be kept."""
        kept = np.ascontiguousarray(rows.data)
        _check(set_rows(self.handle, _FORMATS.index(rows.kind), kept.ctypes.data, kept.nbytes))
        return kept

    def _add(self, adapter: Adapter) -> None:
        """Take over an adapter's pairs, in the floats of its file."""
        for layer, slot, first_row, pair in placed_pairs(self.plan, adapter):
            halves = [np.ascontiguousarray(half.data) for half in (pair.down, pair.up)]
            (down_format, up_format), (down, up) = (
                (_FORMATS.index(pair.down.kind), _FORMATS.index(pair.up.kind)),
                halves,
            )
            _check(
                self.library.llmchat_add_low_rank(
                    *(self.handle, layer, constants()[slot], 0, first_row, pair.up.shape[0], pair.rank),
                    *(down_format, down.ctypes.data, down.nbytes, up_format, up.ctypes.data, up.nbytes, pair.factor),
                )
            )

    def _set_vector(self, layer: int, slot: str, values: NDArray[np.floating]) -> None:
        floats = np.ascontiguousarray(values, dtype=np.float32)
        _check(self.library.llmchat_set_vector(self.handle, layer, constants()[slot], floats.ctypes.data, floats.size))

    def _kept(self, tensor: RawTensor) -> RawTensor:
        """A tensor as the library takes it: in its own format, or where it has it not in another of 16 bits."""
        if tensor.kind in _FORMATS:
            return tensor
        if tensor.kind not in LOOKED_UP:
            self._widened[tensor.kind] = 16
            return _dense(tensor)
        if tensor.kind not in self._widened:
            set_table(self.library, self.handle, tensor.kind)
            self._widened[tensor.kind] = 4
        return tensor

    def _rows(self, tensor: RawTensor) -> RawTensor:
        """A tensor of which the library reads rows one by one."""
        kept = self._kept(tensor)
        return unpack(self.library, self.handle, kept) if kept.kind in LOOKED_UP else kept

    def _set_matrix(self, layer: int, slot: str, parts: Sequence[RawTensor], expert: int = 0) -> None:
        """Hand over matrices that lie one below the other."""
        kept = [self._kept(part) for part in parts]
        if len({part.kind for part in kept}) > 1 and any(part.shape[0] % BLOCK_ROWS for part in kept[:-1]):
            # Where the format changes a block must end, which it does in every model of usual sizes.
            kept = [_as_float32(part) for part in parts]
        count = len(kept)
        data = [np.ascontiguousarray(part.data) for part in kept]
        result = self.library.llmchat_set_matrix(
            self.handle,
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
        _check(result)


def _number_of(kind: str) -> int:
    """The library's number of a format; those that look numbers up come behind the others."""
    return _FORMATS.index(kind) if kind in _FORMATS else len(_FORMATS) + constants()[kind]


def _check(result: int) -> None:
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
