"""A model in the native decode step's memory: its weights repacked once, its caches, and its steps."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from ctypes import byref, c_int32, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import Checkpoint, GPTConfig, LlamaConfig, RawTensor
from llmchat.engine.architectures.frequencies import rope_frequencies
from llmchat.engine.native.library import (
    BLOCK_ROWS,
    KERNELS_VARIABLE,
    NO_MEMORY,
    TILE,
    PreparedMemory,
    Shape,
    load_library,
)
from llmchat.errors import ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = NDArray[np.float32]

_FORMATS = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
"""Formats that are kept as they are, in the library's order; others become F16, or F32 where that is too small."""

_QKV, _OUT, _GATE, _UP, _DOWN = range(5)
_VECTORS = (
    "norm_1", "norm_1_bias", "qkv_bias", "q_norm", "k_norm",
    "out_bias", "norm_2", "norm_2_bias", "up_bias", "down_bias",
)  # fmt: skip
_NORM, _NORM_BIAS, _POSITIONS, _COSINES, _SINES = range(5)

_LLAMA_MATRICES = {
    _QKV: ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    _OUT: ("attention.o_proj",),
    _GATE: ("ffn.gate_proj",),
    _UP: ("ffn.up_proj",),
    _DOWN: ("ffn.down_proj",),
}
_LLAMA_VECTORS = {
    "norm_1": ("attention_norm.weight",),
    "qkv_bias": ("attention.q_proj.bias", "attention.k_proj.bias", "attention.v_proj.bias"),
    "q_norm": ("attention.q_norm.weight",),
    "k_norm": ("attention.k_norm.weight",),
    "norm_2": ("ffn_norm.weight",),
}
_GPT_MATRICES = {_QKV: ("attn.qkv_proj",), _OUT: ("attn.out_proj",), _UP: ("mlp.fc1",), _DOWN: ("mlp.fc2",)}
_GPT_VECTORS = {
    "norm_1": ("ln1.weight",),
    "norm_1_bias": ("ln1.bias",),
    "out_bias": ("attn.out_proj.bias",),
    "norm_2": ("ln2.weight",),
    "norm_2_bias": ("ln2.bias",),
    "up_bias": ("mlp.fc1.bias",),
    "down_bias": ("mlp.fc2.bias",),
}


class NativeCache:
    """Keys and values of one sequence, for `capacity` positions."""

    def __init__(self, model: NativeModel, capacity: int) -> None:
        self._library = model.library
        self.capacity = capacity
        self.handle = self._library.llmchat_cache_new(model.handle, capacity)
        if not self.handle:
            raise MemoryError("the KV cache does not fit into memory")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.llmchat_cache_free(self.handle)


class NativeModel:
    """Weights and steps. One thread at a time may call it; it uses `threads` of its own."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        threads: int,
        progress: Callable[[str, float | None], object],
        memory: PreparedMemory | None = None,
    ) -> None:
        """Repack a checkpoint's weights.

        Args:
            checkpoint: Where they are.
            threads: The most that are used.
            progress: Told how far it is.
            memory: Is used up first.

        Raises:
            ModelLoadError: There is not enough memory.
        """
        library = load_library()
        assert library is not None
        self.library: Any = library
        config = checkpoint.config
        self.config = config
        self._raw: Mapping[str, RawTensor] = checkpoint.raw
        self.parameter_count = 0
        """How many numbers the model has."""
        shape = _shape(config, threads, checkpoint.interleaved_rope)
        self._padded_vocab = -(-config.vocab_size // BLOCK_ROWS) * BLOCK_ROWS
        kernels = os.environ.get(KERNELS_VARIABLE, "").encode()
        self.handle = library.llmchat_model_new(byref(shape), kernels, memory.hand_over() if memory else None)
        if not self.handle:
            raise ModelLoadError(f"There is not enough memory for {checkpoint.name}.")
        self._positions = 0
        # What a step is given lies in the same places each time: it costs a small model time to make them anew.
        self._ids, self._places, self._handles = (c_int32 * TILE)(), (c_int32 * TILE)(), (c_void_p * TILE)()
        prefix = "blocks" if isinstance(config, GPTConfig) else "layers"
        for layer in range(config.n_layers):
            progress("repacking weights", layer / config.n_layers)
            self._load_layer(layer, f"{prefix}.{layer}.")
        self._load_globals()
        checkpoint.check_unchanged()
        self._raw = {}

    def __del__(self) -> None:
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

    def read(self, token_ids: Sequence[int], places: Sequence[int], caches: Sequence[NativeCache]) -> None:
        """Run tokens for what they leave in their caches alone; arguments as for `step`."""
        for start in range(0, len(token_ids), TILE):
            self._tile(token_ids, places, caches, start, min(start + TILE, len(token_ids)), wanted=0)

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
        start = (len(token_ids) - 1) // TILE * TILE
        if start:
            self.read(token_ids[:start], places[:start], caches[:start])
        last: Floats = self._tile(token_ids, places, caches, start, len(token_ids), wanted=1)[0]
        return last

    def step_lanes(self, token_ids: Sequence[int], places: Sequence[int], caches: Sequence[NativeCache]) -> Floats:
        """Run one token for each of several caches; logits of shape (lanes, vocab_size)."""
        tiles = [
            self._tile(token_ids, places, caches, start, min(start + TILE, len(token_ids)), wanted=TILE)
            for start in range(0, len(token_ids), TILE)
        ]
        return np.concatenate(tiles)

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
        count, last = end - start, 0
        first = max(count - wanted, 0)
        for row in range(count):
            token_id, place, cache = token_ids[start + row], places[start + row], caches[start + row]
            if not 0 <= token_id < self.config.vocab_size:
                raise IndexError(f"token {token_id} lies outside the vocabulary")
            if not 0 <= place < min(cache.capacity, self.config.context_length):
                raise IndexError(f"position {place} lies outside the cache")
            self._ids[row], self._places[row], self._handles[row] = token_id, place, cache.handle
            last = max(last, place)
        self._reserve_positions(last + 1)
        logits = np.empty((count - first, self._padded_vocab), dtype=np.float32)
        result = self.library.llmchat_step(
            self.handle, self._ids, self._places, self._handles, count, logits.ctypes.data, first
        )
        if result == NO_MEMORY:
            raise MemoryError("the attention of a text so long does not fit into memory")
        if result:
            raise ValueError("these caches are not of this model")
        return logits[:, : self.config.vocab_size]

    def _reserve_positions(self, positions: int) -> None:
        """Make the tables of rotations long enough, at least doubling them."""
        if positions <= self._positions or not isinstance(self.config, LlamaConfig):
            return
        self._positions = min(max(2 * positions, 2048), self.config.context_length)
        angles = np.outer(np.arange(self._positions, dtype=np.float64), rope_frequencies(self.config))
        self._set_vector(-1, _COSINES, np.cos(angles))
        self._set_vector(-1, _SINES, np.sin(angles))

    def _load_layer(self, layer: int, prefix: str) -> None:
        is_gpt = isinstance(self.config, GPTConfig)
        for slot, names in (_GPT_MATRICES if is_gpt else _LLAMA_MATRICES).items():
            self._set_matrix(layer, slot, [self._take(f"{prefix}{name}.weight") for name in names])
        for vector, names in (_GPT_VECTORS if is_gpt else _LLAMA_VECTORS).items():
            found = [_values(self._take(prefix + name)).ravel() for name in names if prefix + name in self._raw]
            if found:
                self._set_vector(layer, _VECTORS.index(vector), np.concatenate(found))

    def _load_globals(self) -> None:
        if isinstance(self.config, GPTConfig):
            embedding, head = "token_embedding.weight", "lm_head.weight"
            self._set_vector(-1, _NORM, _values(self._take("ln_f.weight")))
            self._set_vector(-1, _NORM_BIAS, _values(self._take("ln_f.bias")))
            self._set_vector(-1, _POSITIONS, _values(self._take("position_embedding.weight")))
        else:
            embedding, head = "embedding.weight", "head.weight"
            self._set_vector(-1, _NORM, _values(self._take("norm.weight")))
        if head in self._raw:
            self._set_matrix(-1, 0, [self._take(head)])
        rows = _kept(self._take(embedding))
        if head not in self._raw:
            self._set_matrix(-1, 0, [rows])
        self._embedding = np.ascontiguousarray(rows.data)  # The library reads rows from it.
        _check(
            self.library.llmchat_set_embedding(
                self.handle, _FORMATS.index(rows.kind), self._embedding.ctypes.data, self._embedding.nbytes
            )
        )

    def _take(self, name: str) -> RawTensor:
        """A tensor of the checkpoint, read now; each is taken once."""
        tensor = self._raw[name]
        self.parameter_count += math.prod(tensor.shape)
        return tensor

    def _set_vector(self, layer: int, slot: int, values: NDArray[np.floating]) -> None:
        floats = np.ascontiguousarray(values, dtype=np.float32)
        _check(self.library.llmchat_set_vector(self.handle, layer, slot, floats.ctypes.data, floats.size))

    def _set_matrix(self, layer: int, slot: int, parts: Sequence[RawTensor]) -> None:
        """Hand over matrices that lie one below the other."""
        kept = [_kept(part) for part in parts]
        if len({part.kind for part in kept}) > 1 and any(part.shape[0] % BLOCK_ROWS for part in kept[:-1]):
            # Where the format changes a block must end, which it does in every model of usual sizes.
            kept = [_as_float32(part) for part in parts]
        count = len(kept)
        data = [np.ascontiguousarray(part.data) for part in kept]
        result = self.library.llmchat_set_matrix(
            self.handle,
            layer,
            slot,
            count,
            (c_int32 * count)(*(_FORMATS.index(part.kind) for part in kept)),
            (c_void_p * count)(*(blocks.ctypes.data for blocks in data)),
            (c_size_t * count)(*(blocks.nbytes for blocks in data)),
            (c_int32 * count)(*(part.shape[0] for part in kept)),
            kept[0].shape[1],
        )
        _check(result)


def _check(result: int) -> None:
    """Turn the library's answer to weights into an error."""
    if result == NO_MEMORY:
        raise MemoryError("the weights do not fit into memory")
    if result:
        raise ModelLoadError("The model's weights do not fit its dimensions: fetch or copy the file again.")


def _shape(config: GPTConfig | LlamaConfig, threads: int, interleaved: bool) -> Shape:
    is_gpt = isinstance(config, GPTConfig)
    return Shape(
        is_gpt=int(is_gpt),
        dim=config.dim,
        ffn=4 * config.dim if isinstance(config, GPTConfig) else config.ffn_dim,
        layers=config.n_layers,
        heads=config.n_heads,
        kv_heads=config.n_heads if isinstance(config, GPTConfig) else config.n_kv_heads,
        head_dim=config.dim // config.n_heads if isinstance(config, GPTConfig) else config.head_dim,
        vocab=config.vocab_size,
        context=config.context_length,
        interleaved=int(interleaved),
        threads=threads,
        eps=1e-5 if isinstance(config, GPTConfig) else config.norm_eps,
    )


def _from_floats(values: Floats) -> RawTensor:
    rows = values.reshape(-1, values.shape[-1])
    return RawTensor("F32", values.shape, rows.view(np.uint8))


def _values(tensor: RawTensor) -> Floats:
    """A tensor's numbers as float32."""
    return dequantise(tensor.kind, tensor.data.reshape(-1, tensor.data.shape[-1])).reshape(tensor.shape)


def _as_float32(tensor: RawTensor) -> RawTensor:
    return _from_floats(_values(tensor))


def _kept(tensor: RawTensor) -> RawTensor:
    """A tensor in its own format, or where the library has it not in another."""
    return tensor if tensor.kind in _FORMATS else _dense(tensor)


def _dense(tensor: RawTensor) -> RawTensor:
    """A tensor in 16 bits where they hold it, else in 32."""
    values = _values(tensor)
    if np.abs(values).max(initial=0.0) >= np.finfo(np.float16).max:
        return _from_floats(values)
    halves = values.astype(np.float16)
    return RawTensor("F16", tensor.shape, halves.reshape(-1, values.shape[-1]).view(np.uint8))
