"""A network that llama.cpp reads: its weights, and contexts that texts are read in."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmchat.checkpoints.checkpoint import Progress
from llmchat.engine.engine import Logits
from llmchat.engine.extras.llama_cpp_library import silent_library
from llmchat.errors import GenerationError, ModelLoadError

CACHE_TYPES: Mapping[str, int] = {"float32": 0, "float16": 1, "bfloat16": 30}
"""What ggml calls the types that keys and values may be kept in."""

_NO_FLASH_ATTENTION = 0
_BATCH = 256
"""Tokens that are computed at once."""

State = ctypes.Array[ctypes.c_uint8]
"""What was read of a text, as bytes."""


class Placed(NamedTuple):
    """A token that is to be read."""

    token_id: int
    position: int
    sequence: int
    wants_logits: bool


class LlamaCppModel:
    """The weights of a GGUF file, in the memory of the devices that the library was built for."""

    def __init__(self, path: Path, threads: int, progress: Progress, *, dtype: str, offloads: bool) -> None:
        """Read the file.

        Args:
            path: The file.
            threads: CPU threads.
            progress: Told how much has been read.
            dtype: What keys and values are kept in, one of `CACHE_TYPES`.
            offloads: Whether every layer goes to a GPU, where the library has one.

        Raises:
            ModelLoadError: llama.cpp cannot run it.
        """
        self.library: Any = silent_library()
        self.threads, self.dtype = threads, dtype
        parameters = self.library.llama_model_default_params()
        parameters.n_gpu_layers = -1 if offloads else 0

        def tell(share: float, data: object) -> bool:
            progress("reading weights", share)
            return True

        parameters.progress_callback = told = self.library.llama_progress_callback(tell)
        handle = self.library.llama_model_load_from_file(os.fsencode(path), parameters)
        del told  # Until now it was asked for.
        if handle is None:
            raise ModelLoadError(
                f"{path} cannot be run with llama.cpp either: the file is damaged, does not fit into memory, or is of "
                "an architecture that a newer one may know: pip install -U llama-cpp-python"
            )
        self.handle = handle
        weakref.finalize(self, self.library.llama_model_free, handle).atexit = False
        self.vocab = self.library.llama_model_get_vocab(handle)
        self.vocab_size = int(self.library.llama_vocab_n_tokens(self.vocab))
        self.context_length = int(self.library.llama_model_n_ctx_train(handle))
        self.parameter_count = int(self.library.llama_model_n_params(handle))
        self.weight_bytes = int(self.library.llama_model_size(handle))
        self.is_recurrent = bool(
            self.library.llama_model_is_recurrent(handle) or self.library.llama_model_is_hybrid(handle)
        )
        """Whether it remembers what it cannot take back token by token."""
        if not self.library.llama_model_has_decoder(handle) or self.library.llama_model_has_encoder(handle):
            raise ModelLoadError(f"{path} is no language model that continues a text.")


class LlamaCppContext:
    """What was read of some texts."""

    def __init__(self, model: LlamaCppModel, positions: int, sequences: int = 1) -> None:
        """An empty context.

        Args:
            model: What reads.
            positions: Tokens that each text may have.
            sequences: How many texts there are.

        Raises:
            GenerationError: There is not enough memory.
        """
        self._model, self._library = model, model.library
        self.sequences = sequences
        parameters = self._library.llama_context_default_params()
        # A context with less room than a batch would take smaller batches.
        parameters.n_ctx, parameters.n_seq_max = max(positions, _BATCH) * sequences, sequences
        parameters.n_batch = parameters.n_ubatch = max(_BATCH, sequences)
        parameters.type_k = parameters.type_v = CACHE_TYPES[model.dtype]
        if model.dtype == "float32":
            # Its flash attention computes in 16 bits whatever the keys are in.
            parameters.flash_attn_type = _NO_FLASH_ATTENTION
        parameters.n_threads = parameters.n_threads_batch = model.threads
        # All positions of sliding windows are kept, so that texts may part anywhere; and texts of all contexts lie in
        # one buffer, so that a copy from one fits into another.
        parameters.swa_full, parameters.kv_unified, parameters.no_perf = True, True, True
        self._handle = self._library.llama_init_from_model(model.handle, parameters)
        if self._handle is None:
            raise GenerationError("There is not enough memory for a text of this length.")
        self._free = weakref.finalize(self, self._library.llama_free, self._handle)
        # When Python ends, a thread may still be computing.
        self._free.atexit = False
        self._memory = self._library.llama_get_memory(self._handle)
        self.positions = int(self._library.llama_n_ctx(self._handle)) // sequences
        """Tokens that each text may have."""

    def close(self) -> None:
        """Give its memory back."""
        self._free()

    def read(self, tokens: Sequence[Placed]) -> list[Logits]:
        """Read some tokens, and give the logits behind those that want them.

        Raises:
            GenerationError: llama.cpp fails.
        """
        batch = self._library.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for at, token in enumerate(tokens):
                batch.token[at], batch.pos[at] = token.token_id, token.position
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, token.sequence
                batch.logits[at] = token.wants_logits
            if (code := self._library.llama_decode(self._handle, batch)) != 0:
                raise GenerationError(f"llama.cpp cannot go on with this text (its code is {code}).")
            return [self._logits(at) for at, token in enumerate(tokens) if token.wants_logits]
        finally:
            self._library.llama_batch_free(batch)

    def cut(self, length: int) -> bool:
        """Forget of the first text what is behind its first `length` tokens; false, with nothing done, if it cannot."""
        return bool(self._library.llama_memory_seq_rm(self._memory, 0, length, -1))

    def clear(self) -> None:
        """Forget everything."""
        self._library.llama_memory_clear(self._memory, True)

    def state(self, sequence: int = 0) -> State:
        """What was read of a text, as bytes."""
        size = self._library.llama_state_seq_get_size(self._handle, sequence)
        state: State = (ctypes.c_uint8 * size)()
        self._library.llama_state_seq_get_data(self._handle, state, size, sequence)
        return state

    def restore(self, state: State, sequence: int = 0) -> None:
        """Put what was read in the place of a text.

        Raises:
            GenerationError: It does not fit.
        """
        if not self._library.llama_state_seq_set_data(self._handle, state, len(state), sequence):
            raise GenerationError("llama.cpp cannot go on with a copy of this text.")

    def _logits(self, at: int) -> Logits:
        found = self._library.llama_get_logits_ith(self._handle, at)
        return np.ctypeslib.as_array(found, (self._model.vocab_size,)).astype(np.float32)
