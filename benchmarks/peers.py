"""Who takes part in the comparisons inside one process: llmchat's engines, llama.cpp and transformers.

A peer that is not installed is passed over, with a word on how to install it.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from llmchat.chat.model import ModelSpec
from llmchat.engine.engine import Engine, Fork, Logits
from llmchat.engine.locating import locate
from llmchat.engine.opening import open_engine

LANES = 32
"""The most sequences that are decoded side by side."""


class Peer(Protocol):
    """Something that can read and decode token ids."""

    name: str

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt from its beginning."""

    def decode(self, token_id: int) -> None:
        """Append one token and compute the logits for the next."""

    def fork(self, lanes: int) -> None:
        """Go on in several lanes from here."""

    def decode_lanes(self, token_ids: Sequence[int]) -> None:
        """Append one token to each of as many lanes, and compute the logits of each."""

    def logits(self) -> Logits:
        """Those of the last position, shape (vocab_size,)."""


@dataclass
class OurEngine:
    """llmchat on one of its engines."""

    name: str
    engine: Engine
    _logits: Logits | None = None
    _lanes: Fork | None = None
    _reads: int = 0

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt of which nothing is in memory: what was read before counts as read under another scale."""
        self._reads += 1
        self._logits = self.engine.prefill(
            token_ids, lambda: False, lora_scales=[float(self._reads)] * len(token_ids)
        ).logits

    def decode(self, token_id: int) -> None:
        """One step."""
        self._logits = self.engine.decode(token_id)

    def fork(self, lanes: int) -> None:
        """Go on in several lanes from here."""
        self._lanes = self.engine.fork(lanes)

    def decode_lanes(self, token_ids: Sequence[int]) -> None:
        """One step of as many lanes."""
        assert self._lanes is not None
        self._lanes.decode(token_ids)

    def logits(self) -> Logits:
        """Those of the last position."""
        assert self._logits is not None
        return self._logits


class LlamaCpp:
    """llama.cpp through its Python bindings' C interface.

    Its settings decide what it is good at: weights that are repacked serve small models, its tiled product of the
    K-quants runs without; flash attention helps prompts more than single tokens.
    """

    def __init__(
        self, path: str, threads: int, *, flash: bool = True, repack: bool = True, context: int = 2048
    ) -> None:
        self.name = "llama.cpp" if flash and repack else f"llama.cpp{_without(flash, repack)}"
        self._library: Any = importlib.import_module("llama_cpp")
        importlib.import_module("llama_cpp._logger").set_verbose(False)
        lib = self._library
        lib.llama_backend_init()
        of_model = lib.llama_model_default_params()
        of_model.use_extra_bufts = repack
        self._model = lib.llama_model_load_from_file(path.encode(), of_model)
        of_context = lib.llama_context_default_params()
        of_context.n_ctx, of_context.n_batch, of_context.n_ubatch = context, 2048, 512
        of_context.n_seq_max, of_context.kv_unified = LANES, True
        of_context.n_threads = of_context.n_threads_batch = threads
        of_context.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = lib.llama_init_from_model(self._model, of_context)
        if not self._context:
            raise MemoryError("llama.cpp has no room for its context")
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(2048, 0, 1)
        self._vocab_size = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model)))
        self._length = 0

    def close(self) -> None:
        """Give its memory back."""
        self._library.llama_batch_free(self._batch)
        self._library.llama_free(self._context)
        self._library.llama_model_free(self._model)

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt with an empty KV cache."""
        self._library.llama_memory_clear(self._memory, True)
        self._length = 0
        for start in range(0, len(token_ids), 2048):
            part = token_ids[start : start + 2048]
            self._run(part, [0] * len(part), range(start, start + len(part)), {len(token_ids) - start - 1})
        self._length = len(token_ids)

    def decode(self, token_id: int) -> None:
        """One step."""
        self._run([token_id], [0], [self._length], {0})
        self._length += 1

    def fork(self, lanes: int) -> None:
        """Go on in several sequences from here."""
        for lane in range(1, lanes):
            self._library.llama_memory_seq_cp(self._memory, 0, lane, -1, -1)

    def decode_lanes(self, token_ids: Sequence[int]) -> None:
        """One step of as many sequences."""
        lanes = range(len(token_ids))
        self._run(token_ids, lanes, [self._length] * len(lanes), set(lanes))
        self._length += 1

    def logits(self) -> Logits:
        """Those of the last position."""
        row = self._library.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(row, (self._vocab_size,)).copy()

    def _run(self, ids: Sequence[int], lanes: Sequence[int], places: Sequence[int], wanted: set[int]) -> None:
        batch = self._batch
        batch.n_tokens = len(ids)
        for row, (token_id, lane, place) in enumerate(zip(ids, lanes, places, strict=True)):
            batch.token[row], batch.pos[row], batch.n_seq_id[row] = token_id, place, 1
            batch.seq_id[row][0], batch.logits[row] = lane, row in wanted
        if self._library.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp did not run the batch")


def _without(flash: bool, repack: bool) -> str:
    left_out = [name for name, is_on in (("flash attention", flash), ("repacking", repack)) if not is_on]
    return " without " + " and ".join(left_out)


class Transformers:
    """Hugging Face's transformers on the same file, dequantised to float32."""

    name = "transformers"

    def __init__(self, path: str, threads: int) -> None:
        os.environ["TQDM_DISABLE"] = "1"
        warnings.simplefilter("ignore", FutureWarning)
        self._torch: Any = importlib.import_module("torch")
        library: Any = importlib.import_module("transformers")
        library.logging.set_verbosity_error()
        self._torch.set_num_threads(threads)
        file = Path(path)
        loaded = library.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype="float32")
        self._model = loaded.eval()
        self._result: Any = None

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt with an empty KV cache."""
        self._forward(list(token_ids), None)

    def decode(self, token_id: int) -> None:
        """One step."""
        self._forward([token_id], self._result.past_key_values)

    def fork(self, lanes: int) -> None:
        """Go on in several rows of a batch."""
        self._result.past_key_values.batch_repeat_interleave(lanes)

    def decode_lanes(self, token_ids: Sequence[int]) -> None:
        """One step of as many rows."""
        with self._torch.inference_mode():
            self._result = self._model(
                self._torch.tensor(token_ids)[:, None], past_key_values=self._result.past_key_values, use_cache=True
            )

    def logits(self) -> Logits:
        """Those of the last position."""
        row: Logits = self._result.logits[0, -1].numpy()
        return row

    def _forward(self, ids: list[int], cache: Any) -> None:
        with self._torch.inference_mode():
            self._result = self._model(
                self._torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1
            )


SETTINGS = ((True, True), (False, True), (True, False), (False, False))
"""Flash attention and repacking, on or off."""


def open_every_llama_cpp(path: str, threads: int, context: int) -> list[Peer]:
    """llama.cpp with each of its settings; none where it is not installed."""
    try:
        return [LlamaCpp(path, threads, flash=flash, repack=repack, context=context) for flash, repack in SETTINGS]
    except ImportError as error:
        print(f"llama.cpp does not take part ({error}): {PEERS['llama.cpp'][1]}", file=sys.stderr)
        return []


PEERS: dict[str, tuple[Callable[[str, int], Peer], str]] = {
    "llama.cpp": (LlamaCpp, "pip install llama-cpp-python"),
    "transformers": (Transformers, "pip install transformers accelerate"),
}
"""What opens each peer, and what installs it."""


def model_path(name: str) -> str:
    """The file of a model by its name or path; the default model's for ""."""
    return locate(ModelSpec(name), _quiet, threading.Event()).model


def open_ours(path: str, threads: int, dtype: str = "auto") -> OurEngine:
    """llmchat; natively where it was built, unless a dtype asks for torch."""
    engine = open_engine(ModelSpec(path, dtype=dtype, threads=threads), _quiet)
    return OurEngine("llmchat" if dtype == "auto" else f"llmchat, torch {dtype}", engine)


def open_peers(path: str, threads: int, names: Sequence[str]) -> list[Peer]:
    """The peers of these names that are installed."""
    found: list[Peer] = []
    for name in names:
        make, install = PEERS[name]
        try:
            found.append(make(path, threads))
        except ImportError as error:
            print(f"{name} does not take part ({error}): {install}", file=sys.stderr)
    return found


def random_ids(count: int) -> list[int]:
    """Token ids of any meaning, the same ones always."""
    return [int(token) for token in np.random.default_rng(0).integers(100, 30_000, count)]


def _quiet(stage: str, fraction: float | None) -> None:
    """Nobody watches."""
