"""Small stand-ins, for faults and for speed; behaviour is tested on the real parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from llmchat.chat.model import ModelInfo
from llmchat.checkpoints.checkpoint import Progress
from llmchat.engine.engine import Engine, Logits, Prefill, PrefillProgress, StopSignal
from llmchat.engine.opened import PreparedModel
from llmchat.tokenizers.prompt_style import PromptStyle
from llmchat.worker.messages import LoadRequest
from llmchat.worker.model_slot import Prepare


class ByteTokenizer:
    """One token a byte; 256 ends a text."""

    vocab_size = 257
    bos_id = None
    eos_id = 256
    unk_id = None
    adds_bos = False
    control_names = ()
    longest_token: int | None = 1
    notes = ()

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The text's UTF-8 bytes."""
        return list(text.encode())

    def encode_apart(self, text: str, joint: str) -> list[int]:
        """The same, for no name is a token's."""
        return self.encode(text.replace(joint, ""))

    def token_bytes(self, token_id: int) -> bytes:
        """The byte itself."""
        return bytes([token_id]) if token_id < 256 else b""

    def token_text(self, token_id: int) -> str:
        """The byte as a character."""
        return chr(token_id) if token_id < 256 else "<end>"

    def is_control(self, token_id: int) -> bool:
        """Only the end token is."""
        return token_id == 256

    def find(self, piece: str) -> int | None:
        """The end token by its name."""
        return 256 if piece == "<end>" else None

    def decode(self, token_ids: Sequence[int]) -> str:
        """The bytes as text."""
        return bytes(token for token in token_ids if token < 256).decode(errors="replace")


class ScriptedEngine:
    """Says the same text in answer to everything, one byte a token, then ends.

    With `fail_at`, the logits for that token are NaN; with `gate`, every decode
    waits for the semaphore, so that a test decides when a token comes.
    """

    slides = False
    lora_scale = 1.0
    most_drafted = 0
    snapshots = None
    end_ids = (256,)

    def __init__(
        self,
        text: str = "Hello.",
        *,
        fail_at: int | None = None,
        gate: threading.Semaphore | None = None,
        context_length: int = 4096,
        prompt_style: PromptStyle | None = None,
    ) -> None:
        self.tokenizer = ByteTokenizer()
        self.prompt_style = prompt_style
        self.prompts: list[list[int]] = []
        self._script = [*text.encode(), 256]
        self._fail_at = fail_at
        self._gate = gate
        self._said = 0
        self._prompt_tokens = 0
        self.info = ModelInfo(
            name="Scripted", path="scripted", tokenizer_path="scripted", architecture="llama",
            weight_format="float32", device="cpu", dtype="float32", threads=1, vocab_size=257,
            context_length=context_length, parameter_count=0, has_chat_template=prompt_style is not None,
        )  # fmt: skip

    @property
    def context_tokens(self) -> int:
        """Prompt and reply so far."""
        return self._prompt_tokens + self._said

    def streamed_bytes(self, context: int) -> int:
        """It reads nothing."""
        return 0

    def prefill(
        self,
        token_ids: Sequence[int],
        should_stop: StopSignal,
        on_progress: PrefillProgress | None = None,
        lora_scales: Sequence[float] | None = None,
    ) -> Prefill:
        """Note the prompt and begin the script anew."""
        self.prompts.append(list(token_ids))
        self._said, self._prompt_tokens = 0, len(token_ids)
        if on_progress is not None:
            on_progress(len(token_ids), len(token_ids))
        return Prefill(None if should_stop() else self._logits(), 0)

    def decode(self, token_id: int, draft: Sequence[int] = ()) -> Logits:
        """Go on with the script."""
        if self._gate is not None:
            self._gate.acquire()
        self._said += 1
        return self._logits()

    def _logits(self) -> Logits:
        logits = np.zeros(257, dtype=np.float32)
        logits[self._script[min(self._said, len(self._script) - 1)]] = 100.0
        if self._said == self._fail_at:
            logits[:] = np.nan
        return logits

    def fork(self, lanes: int) -> ScriptedFork:
        """Lanes that all go on with the script."""
        return ScriptedFork(self)

    def pass_cost(self, positions: int) -> float:
        """It takes no drafts."""
        return float(positions)

    def lanes(self) -> None:
        """It says one thing at a time."""


class ChangingEngine(ScriptedEngine):
    """A `ScriptedEngine` that from its first decoded token on runs without the CUDA graph that it began with."""

    NOTE = "A CUDA graph was refused."

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(self.info, cuda_graph=True)

    def decode(self, token_id: int, draft: Sequence[int] = ()) -> Logits:
        """Change, once, and go on with the script."""
        if self.info.cuda_graph:
            self.info = replace(self.info, cuda_graph=False, notes=(self.NOTE,))
        return super().decode(token_id)


class ScriptedFork:
    """Lanes of a `ScriptedEngine`."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine

    def decode(self, token_ids: Sequence[int]) -> list[Logits]:
        """The same for every lane."""
        return [self._engine.decode(token_ids[0])] * len(token_ids)

    def keep(self, lanes: Sequence[int]) -> None:
        """All lanes say the same."""


def prepares(make: Callable[[LoadRequest, Progress], Engine]) -> Prepare:
    """For a worker: whatever model is asked for can be opened, and is what this makes on the worker's thread."""
    return lambda request, progress: PreparedModel("scripted", lambda: make(request, progress))
