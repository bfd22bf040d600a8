"""A model in the native decode step's memory: its weights repacked once, and its steps."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from ctypes import byref, c_int32, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmchat.checkpoints.checkpoint import Checkpoint
from llmchat.engine.architectures.frequencies import rope_frequencies, rope_magnitude
from llmchat.engine.native.interface import constants
from llmchat.engine.native.library import BLOCK_ROWS, KERNELS_VARIABLE, WIDTH, PreparedMemory, load_library
from llmchat.engine.native.shapes import layer_shapes, model_shape, ropes_of
from llmchat.engine.native.weight_loader import Floats, WeightLoader, check
from llmchat.errors import GenerationError, ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmchat.engine.native.cache import NativeCache
    from llmchat.engine.native.kept_weights import Keeper


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
        self.parameter_count = sum(math.prod(shape) for shape in self.plan.tensors().values())
        """How many numbers the model has."""
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
        loader = WeightLoader(library, self.handle, self.plan, checkpoint.raw)
        self.is_mapped = kept_at is not None and self._take_over(kept_at)
        """Whether the weights lie in a file that others may map too."""
        if not self.is_mapped:
            loader.load_matrices(progress)
        loader.load_rest()
        self._reserve_positions(1)
        if kept_at is not None and loader.embedding is not None and not loader.widened:
            self._keep(kept_at, *loader.embedding)
        if checkpoint.adapter is not None:
            loader.add(checkpoint.adapter)
        checkpoint.check_unchanged()
        self._lent, self._widened = loader.lent, loader.widened

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
            check(
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

    def _keep(self, path: Path, embedding_format: int, embedding: NDArray[np.uint8]) -> None:
        """Begin to write them to a file."""
        from llmchat.engine.native.kept_weights import Keeper, matrices_of

        rows = embedding_format, embedding.data.cast("B")
        self._keeper = Keeper(path, matrices_of(self.library, self.handle, self.plan), rows)
