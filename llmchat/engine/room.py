"""Whether a model fits into the memory that is free, asked before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmchat.chat.amounts import size_words
from llmchat.engine.devices import choose_device, choose_dtype
from llmchat.engine.footprint import CONTEXT, Footprint, footprint_natively, footprint_on_torch
from llmchat.engine.free_memory import free_gpu_memory, free_memory
from llmchat.errors import MemoryShortError

if TYPE_CHECKING:
    from llmchat.chat.model import ModelSpec
    from llmchat.checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Room:
    """What a model that was looked at needs, and what there is for it, in bytes."""

    needed: int
    free: int

    @classmethod
    def of(cls, footprint: Footprint, prepared: int = 0) -> Room | None:
        """The room for a model whose vocabulary has been read; None where free memory is not known.

        Args:
            footprint: The model's.
            prepared: Bytes that were got ready for its weights and are not free any more.
        """
        if footprint.is_on_gpu:
            return cls(footprint.weights + footprint.cache, free_gpu_memory())
        free = free_memory()
        # What is in memory already counts on both sides, so that the figures are the model's own.
        return None if free is None else cls(footprint.total, free + prepared + footprint.host)

    def require(self, name: str, advice: str, held: int = 0) -> None:
        """Refuse a model that does not fit.

        Args:
            name: The model's.
            advice: What makes it smaller, as a sentence.
            held: Bytes that are free once the model that is open is let go.

        Raises:
            MemoryShortError: It needs more than there is.
        """
        free = self.free + held
        if self.needed > free:
            raise MemoryShortError(
                f"{name} needs about {size_words(self.needed)} of memory with a conversation of {CONTEXT} tokens, "
                f"and {size_words(free)} are free.",
                f"{advice} Or end other programs; --ignore-memory opens it all the same.",
            )


def footprint_of(checkpoint: Checkpoint, spec: ModelSpec, prepared: int, *, on_torch: bool) -> Footprint | None:
    """What a model takes where it will run; None where that is not known.

    Args:
        checkpoint: The model, its weights unread.
        spec: What was asked for.
        prepared: Bytes of memory that have been taken for its weights.
        on_torch: Whether torch runs it, and not the native step.
    """
    if not checkpoint.kinds:
        return None
    if not on_torch:
        return footprint_natively(checkpoint.plan, checkpoint.kinds, prepared)
    device = choose_device(spec.device)
    if device.type not in ("cpu", "cuda"):
        return None
    number_bytes = choose_dtype(spec.dtype, device).itemsize
    return footprint_on_torch(checkpoint.plan, checkpoint.kinds, number_bytes, is_on_gpu=device.type == "cuda")


def advice(checkpoint: Checkpoint, spec: ModelSpec, *, on_torch: bool) -> str:
    """What makes a model smaller, as a sentence."""
    if on_torch and spec.dtype == "float32":
        return "--dtype bfloat16 takes half of it."
    if checkpoint.weight_format.upper() in ("F32", "F16", "BF16", "FLOAT32", "FLOAT16", "BFLOAT16"):
        return "Take the model as a GGUF file in Q4_K_M, or a smaller one."
    return "Take it in fewer bits, or a smaller model."
