"""What the files of the Llama family share: our parameters' names and shapes, and checks of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from llmchat.checkpoints.checkpoint import LlamaConfig
from llmchat.errors import ModelLoadError

_LARGEST = 2**31 - 1


def llama_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint with this configuration holds, by our name."""
    q_dim, kv_dim = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "attention_norm.weight": (config.dim,),
        "attention.q_proj.weight": (q_dim, config.dim),
        "attention.k_proj.weight": (kv_dim, config.dim),
        "attention.v_proj.weight": (kv_dim, config.dim),
        "attention.o_proj.weight": (config.dim, q_dim),
        "ffn_norm.weight": (config.dim,),
        "ffn.gate_proj.weight": (config.ffn_dim, config.dim),
        "ffn.up_proj.weight": (config.ffn_dim, config.dim),
        "ffn.down_proj.weight": (config.dim, config.ffn_dim),
    }
    if config.attention_bias:
        layer |= {f"attention.{part}_proj.bias": (dim,) for part, dim in (("q", q_dim), ("k", kv_dim), ("v", kv_dim))}
    if config.qk_norm:
        layer |= {f"attention.{part}_norm.weight": (config.head_dim,) for part in "qk"}
    shapes = {"embedding.weight": (config.vocab_size, config.dim), "norm.weight": (config.dim,)}
    if not config.tied:
        shapes["head.weight"] = (config.vocab_size, config.dim)
    return shapes | {f"layers.{i}.{name}": shape for i in range(config.n_layers) for name, shape in layer.items()}


def check_tensors(path: object, config: LlamaConfig, found: Mapping[str, tuple[int, ...]]) -> None:
    """Make sure that a file holds the tensors its configuration promises, and no others.

    Args:
        path: The file, for the message.
        config: What the file says of itself, already checked by `check_config`.
        found: The shape of every tensor by our name, or by the file's if we have none for it.

    Raises:
        ModelLoadError: A tensor is missing, has another shape, or is one we do not know.
    """
    # Before names are made from it, the count must be one that the file can hold.
    if config.n_layers > len(found):
        raise ModelLoadError(f"{path} does not fit its own description: it claims {config.n_layers} layers.")
    expected = llama_shapes(config)
    for name, shape in expected.items():
        if name not in found:
            raise ModelLoadError(f"{path} is incomplete: the tensor {name!r} is missing.")
        if found[name] != shape:
            raise ModelLoadError(f"{path}: the tensor {name!r} has shape {found[name]}, not {shape} as it should.")
    if extra := sorted(set(found) - set(expected)):
        raise ModelLoadError(f"{path} holds a tensor that llmchat has no place for: {extra[0][:80]!r}.")


def check_config(path: object, config: LlamaConfig) -> None:
    """Make sure that dimensions fit together.

    Raises:
        ModelLoadError: They do not; the message names the file.
    """
    counts = ("vocab_size", "context_length", "n_layers", "n_heads", "n_kv_heads", "head_dim", "dim", "ffn_dim")
    wrong = [name for name in counts if not 0 < getattr(config, name) <= _LARGEST]
    if config.n_kv_heads and config.n_heads % config.n_kv_heads:
        wrong.append("n_kv_heads")
    if config.head_dim % 2:
        wrong.append("head_dim")
    numbers = {"norm_eps": [config.norm_eps], "rope_theta": [config.rope_theta]}
    if (scaling := config.rope_scaling) is not None:
        spread = scaling.high_freq_factor - scaling.low_freq_factor
        numbers["rope scaling"] = [scaling.factor, scaling.original_context_length, spread, *scaling.factors]
        if len(scaling.factors) not in (0, config.head_dim // 2):
            wrong.append("rope scaling")
    for name, values in numbers.items():
        if not all(math.isfinite(value) and value > 0 for value in values):
            wrong.append(name)
    if wrong:
        raise ModelLoadError(f"{path} describes a model that cannot be: {', '.join(dict.fromkeys(wrong))} is wrong.")


def visible_context(trained: int, window: int) -> tuple[int, tuple[str, ...]]:
    """How many tokens a model can be given, where each sees only the last `window` (0 if all), and notes.

    Up to the window's size, attention with and without it is the same.
    """
    if not 0 < window < trained:
        return trained, ()
    return window, (f"This model sees {window} tokens at a time: that is taken as its context, not {trained}.",)


class Fields:
    """Numbers out of a file's own description, each checked to be of its kind."""

    def __init__(self, path: object, values: Mapping[str, Any], prefix: str = "") -> None:
        self._path = path
        self._values = values
        self._prefix = prefix

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number.

        Raises:
            ModelLoadError: It is something else, or is missing and there is no default.
        """
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
            raise ModelLoadError(f"{self._path}: {self._prefix}{key} should be a whole number, not {_short(value)}.")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number.

        Raises:
            ModelLoadError: It is something else, or is missing and there is no default.
        """
        value = self._value(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or abs(value) > sys.float_info.max:
            raise ModelLoadError(f"{self._path}: {self._prefix}{key} should be a number, not {_short(value)}.")
        return float(value)

    def _value(self, key: str, default: float | None) -> Any:
        value = self._values.get(self._prefix + key)
        value = default if value is None else value
        if value is None:
            raise ModelLoadError(f"{self._path} does not say its {self._prefix}{key}.")
        return value


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return "one so large"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
