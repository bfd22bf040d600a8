"""What every format's loader gives: dimensions, tensors by our names, tokenizer, template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmchat.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Progress = Callable[[str, float | None], None]
"""Told what is being done, and how much of it is done (0 to 1, or None if not known)."""


@dataclass(frozen=True, slots=True)
class GPTConfig:
    """Dimensions of a GPT with learned positions (llmbuilder's)."""

    vocab_size: int
    context_length: int
    """Number of learned positions; llmbuilder's block_size."""
    n_layers: int
    n_heads: int
    dim: int


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Stretching of rotary positions; the names are Hugging Face's `rope_scaling` keys."""

    kind: str
    """linear, llama3, or factors."""
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192
    factors: tuple[float, ...] = ()
    """For factors: what each of the head_dim / 2 frequencies is divided by."""


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Dimensions of a Llama: RoPE, grouped-query attention, RMSNorm, SwiGLU."""

    vocab_size: int
    context_length: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    dim: int
    ffn_dim: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    attention_bias: bool = False
    """Whether q, k and v have biases (Qwen2 does)."""
    qk_norm: bool = False
    """Whether q and k are RMS-normalised per head (Qwen3 does)."""
    tied: bool = True
    """Whether the output layer is the embedding."""


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor as its file holds it."""

    kind: str
    """The format of its blocks: F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q6_K …"""
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    """The blocks, rows first: shape (…rows, bytes per row)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened model file, before it becomes a module."""

    name: str
    path: str
    config: GPTConfig | LlamaConfig
    tensors: Mapping[str, Tensor]
    """Every parameter by its name in our own module, in the file's precision or float32. A tied
    output layer is left out. Each may be read from the file only when it is asked for, and anew every time."""
    weight_format: str
    """How the file holds most of its weights: "Q4_1", "float32"."""
    tokenizer: Tokenizer
    tokenizer_path: str
    raw: Mapping[str, RawTensor]
    """The tensors under the same names, as the file holds them; read when they are asked for, and anew every time."""
    interleaved_rope: bool = False
    """Whether the rows of `raw` queries and keys pair neighbouring channels, not the halves of a head."""
    chat_template: str | None = None
    """The file's own Jinja template."""
    end_ids: tuple[int, ...] = ()
    """Every token that ends a reply."""
    training: Mapping[str, int | float] = field(default_factory=dict)
    """step, epoch, loss, as far as the file says."""
    check_unchanged: Callable[[], None] = lambda: None
    """Raises ModelLoadError if the files were written to since they were opened; for when all has been read."""
    notes: tuple[str, ...] = ()
    """Sentences a person should see once."""
