"""What every format's loader gives: dimensions, tensors by our names, tokenizer, template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmchat.models.facts import Source
from llmchat.models.plan import ModelPlan
from llmchat.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Progress = Callable[[str, float | None], None]
"""Told what is being done, and how much of it is done (0 to 1, or None if not known)."""


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor as its file holds it."""

    kind: str
    """The format of its blocks: F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q6_K …"""
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    """The blocks, rows first: shape (…rows, bytes per row)."""


@dataclass(frozen=True, slots=True)
class Companions:
    """What a model's files say beside its network, for engines that read the network themselves; as of a checkpoint."""

    name: str
    path: str
    weight_format: str
    tokenizer: Tokenizer
    tokenizer_path: str
    chat_template: str | None = None
    end_ids: tuple[int, ...] = ()
    training: Mapping[str, int | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened model file, before it becomes a module."""

    name: str
    path: str
    plan: ModelPlan
    tensors: Mapping[str, Tensor]
    """Every parameter of the plan by its name, in the file's precision or float32. Each may be read
    from the file only when it is asked for, and anew every time."""
    weight_format: str
    """How the file holds most of its weights: "Q4_1", "float32"."""
    tokenizer: Tokenizer
    tokenizer_path: str
    raw: Mapping[str, RawTensor]
    """The tensors under the same names, as the file holds them; read when they are asked for, and anew every time."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """The format of each of these, for whoever must know it before they are read; empty where that is not known."""
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
    source: Source = "config"
    """Which names its files use."""
    adapter: Adapter | None = None
    """What is added to its matrices."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """What an adapter adds to one matrix: factor * up @ down (Hu et al. 2021)."""

    down: RawTensor
    """Floats of shape (rank, columns)."""
    up: RawTensor
    """Floats of shape (rows, rank)."""
    factor: float

    @property
    def rank(self) -> int:
        """The inner dimension."""
        return self.down.shape[0]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An opened LoRA adapter."""

    name: str
    path: str
    added: Mapping[str, LowRank]
    """By the plan's names of the matrices."""
