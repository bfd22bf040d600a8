"""Which model is asked for, and what was opened. Plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
EngineName = Literal["auto", "native", "torch", "transformers", "llama-cpp"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model a person asks for."""

    model: str = ""
    """A path, or the name of a model in the catalogue; empty for the default model."""
    tokenizer: str | None = None
    """A tokenizer file or directory; None looks beside the model."""
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    """CPU threads for the model, at most; None is all of them for the native step, else all but one."""
    chat_template: str | None = None
    """A built-in template's name or a Jinja file; None takes the model's own."""
    heads: int | None = None
    """Attention heads, for checkpoints that do not say."""
    parse_special: bool = False
    """Whether the names of control tokens in what is said mean the tokens."""
    engine: str = "auto"
    """What is to run it; "auto" takes the first that can: native, torch, then transformers or llama-cpp."""
    lora: str = ""
    """The directory or file of a LoRA adapter; "" for none."""
    ignore_memory: bool = False
    """Whether to open it also where it seems to need more memory than is free."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that was opened."""

    name: str
    """Short name for headers and labels, such as "SmolLM2-135M-Instruct"."""
    path: str
    tokenizer_path: str
    architecture: str
    """The family: gpt or llama."""
    weight_format: str
    """How the file holds the weights, such as "Q4_1" or "float32"."""
    device: str
    dtype: str
    threads: int
    vocab_size: int
    context_length: int
    """Positions the model was made for, in tokens."""
    parameter_count: int
    has_chat_template: bool
    """Whether prompts are rendered through a chat template unless `--raw` is given."""
    training: Mapping[str, int | float] = field(default_factory=dict)
    """What the checkpoint says of its training: step, epoch, loss."""
    path_reason: str = ""
    """Why it is run as it is, such as "the precision float32 was asked for"; "" where nothing spoke for another way."""
    parse_special: bool = False
    """Whether the names of control tokens in what is said mean the tokens."""
    chat_template: str = ""
    """The template that was asked for in place of the model's own: a built-in one's name, or Jinja; "" for none."""
    template_variables: frozenset[str] = frozenset()
    """What the chat template can be told, beside the messages."""
    cuda_graph: bool = False
    """Whether a GPU replays decode steps that were recorded once."""
    lora: str = ""
    """The path of the LoRA adapter that is open with it; "" for none."""
    notes: tuple[str, ...] = ()
    """Sentences a person should see once, such as a vocabulary that does not match."""
    engine: str = "torch"
    """What runs it: native, torch, transformers or llama-cpp."""

    @property
    def path_words(self) -> str:
        """What runs it, such as "native avx512" or "torch bfloat16 on cuda · CUDA graph"."""
        if self.engine == "native":
            return self.dtype
        device = f" on {self.device}" if self.device != "cpu" else ""
        return f"{self.engine} {self.dtype}{device}" + (" · CUDA graph" if self.cuda_graph else "")

    @property
    def thread_words(self) -> str:
        """Such as "2 threads"."""
        return f"{self.threads} thread{'s' if self.threads != 1 else ''}"

    @property
    def why_words(self) -> str:
        """The same as a sentence without its stop."""
        runner = "the native step" if self.engine == "native" else self.engine
        return f"{runner} runs it, because {self.path_reason}" if self.path_reason else ""


def split_lora(text: str) -> tuple[str, float | None]:
    """The path of a typed PATH[:SCALE], and the scale; None where none was typed. A path that is there is whole."""
    path, colon, scale = text.rpartition(":")
    if not (path and colon) or os.path.exists(os.path.expanduser(text)):
        return text, None
    try:
        return path, float(scale)
    except ValueError:
        return text, None


def is_pattern(model: str) -> bool:
    """Whether a model is asked for by a pattern such as runs/step_*.pt, and not by the name of a file."""
    return any(sign in model for sign in "*?[") and not os.path.exists(os.path.expanduser(model))


def recorded_tokenizer(model_path: str, tokenizer_path: str) -> str | None:
    """The tokenizer to ask for with a recorded model; None if it is part of the model, or gone."""
    if not tokenizer_path or tokenizer_path == model_path or not Path(tokenizer_path).exists():
        return None
    return tokenizer_path
