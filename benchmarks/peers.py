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
from llmchat.engine.engine import Engine, Logits
from llmchat.engine.locating import locate
from llmchat.engine.opening import open_engine


class Peer(Protocol):
    """Something that can read and decode token ids."""

    name: str

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt from its beginning."""

    def decode(self, token_id: int) -> None:
        """Append one token and compute the logits for the next."""

    def logits(self) -> Logits:
        """Those of the last position, shape (vocab_size,)."""


@dataclass
class OurEngine:
    """llmchat on one of its engines."""

    name: str
    engine: Engine
    _logits: Logits | None = None

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt; the KV cache is emptied first by another one."""
        self.engine.prefill([token_ids[0] + 1], lambda: False)
        self._logits = self.engine.prefill(token_ids, lambda: False).logits

    def decode(self, token_id: int) -> None:
        """One step."""
        self._logits = self.engine.decode(token_id)

    def logits(self) -> Logits:
        """Those of the last position."""
        assert self._logits is not None
        return self._logits


class LlamaCpp:
    """llama.cpp through its Python bindings."""

    name = "llama.cpp"

    def __init__(self, path: str, threads: int) -> None:
        llama_cpp: Any = importlib.import_module("llama_cpp")
        self._pointer = llama_cpp.llama_get_logits
        self._model = llama_cpp.Llama(
            path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False, logits_all=False
        )

    def read(self, token_ids: Sequence[int]) -> None:
        """Read a prompt with an empty KV cache."""
        self._model.reset()
        self._model.eval(list(token_ids))

    def decode(self, token_id: int) -> None:
        """One step."""
        self._model.eval([token_id])

    def logits(self) -> Logits:
        """Those of the last position."""
        return np.ctypeslib.as_array(self._pointer(self._model.ctx), (self._model.n_vocab(),)).copy()


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

    def logits(self) -> Logits:
        """Those of the last position."""
        row: Logits = self._result.logits[0, -1].numpy()
        return row

    def _forward(self, ids: list[int], cache: Any) -> None:
        with self._torch.inference_mode():
            self._result = self._model(
                self._torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1
            )


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
