"""What a file says of its network, by our names: one reader over config.json and the keys of GGUF files."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from llmchat.errors import ModelLoadError
from llmchat.models.plan import Rope, RopeScaling, Shape

Source = Literal["config", "gguf"]

LARGEST = 2**31 - 1
"""No dimension is larger."""

ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
"""GGUF's tensors that stretch positions."""

_MOST_CHANNELS = 2**16
"""Of a head whose positions are listed one by one."""

_STILL = 1e30
"""What frequencies of pairs that do not turn are divided by; converters of GGUF files write the same."""

FULL, SLIDING = "full_attention", "sliding_attention"
"""Hugging Face's names of the kinds of layers."""


class _Key(NamedTuple):
    """Where a fact stands."""

    config: tuple[str, ...] = ()
    """Keys of config.json; the first that is there counts."""
    gguf: str = ""
    """Key of a GGUF file, behind its architecture's name."""


_KEYS: Mapping[str, _Key] = {
    "dim": _Key(("hidden_size", "n_embd", "d_model"), "embedding_length"),
    "context_length": _Key(("max_position_embeddings", "n_positions", "max_sequence_length"), "context_length"),
    "n_layers": _Key(("num_hidden_layers", "n_layer", "n_layers"), "block_count"),
    "n_heads": _Key(("num_attention_heads", "n_head", "n_heads"), "attention.head_count"),
    "n_kv_heads": _Key(("num_key_value_heads", "num_kv_heads"), "attention.head_count_kv"),
    "head_dim": _Key(("head_dim",), "attention.key_length"),
    "value_dim": _Key(("v_head_dim",), "attention.value_length"),
    "ffn_dim": _Key(("intermediate_size", "n_inner", "ffn_hidden_size"), "feed_forward_length"),
    "rms_eps": _Key(("rms_norm_eps",), "attention.layer_norm_rms_epsilon"),
    "layer_eps": _Key(("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"), "attention.layer_norm_epsilon"),
    "window": _Key(("sliding_window",), "attention.sliding_window"),
    "attention_scale": _Key(("attention_multiplier",), "attention.scale"),
    "attention_softcap": _Key(("attn_logit_softcapping",), "attn_logit_softcapping"),
    "final_softcap": _Key(("final_logit_softcapping",), "final_logit_softcapping"),
    "clip": _Key(("clip_qkv",), "attention.clamp_kqv"),
    "embedding_scale": _Key(("embedding_multiplier",), "embedding_scale"),
    "residual_scale": _Key(("residual_multiplier",), "residual_scale"),
    "logit_scale": _Key(("logit_scale",), "logit_scale"),
    "logits_scaling": _Key(("logits_scaling",), "logit_scale"),
    "expert_count": _Key(("num_experts", "num_local_experts", "n_routed_experts"), "expert_count"),
    "experts_used": _Key(("num_experts_per_tok",), "expert_used_count"),
    "expert_dim": _Key(("moe_intermediate_size",), "expert_feed_forward_length"),
    "shared_dim": _Key(("shared_expert_intermediate_size",), "expert_shared_feed_forward_length"),
    "linear_num_key_heads": _Key(("linear_num_key_heads",), "ssm.group_count"),
    "linear_num_value_heads": _Key(("linear_num_value_heads",), "ssm.time_step_rank"),
    "linear_key_head_dim": _Key(("linear_key_head_dim",), "ssm.state_size"),
    "linear_value_head_dim": _Key(("linear_value_head_dim",), "ssm.inner_size"),
    "linear_conv_kernel_dim": _Key(("linear_conv_kernel_dim",), "ssm.conv_kernel"),
    "layer_input_dim": _Key(("hidden_size_per_layer_input",), "embedding_length_per_layer_input"),
    "shared_layers": _Key(("num_kv_shared_layers",), "attention.shared_kv_layers"),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """A file's own description. Numbers are checked to be numbers, not to fit together."""

    path: str
    """For messages."""
    source: Source
    name: str
    """The file's `model_type` or `general.architecture`."""
    values: Mapping[str, Any]
    """config.json's object, or a GGUF file's metadata."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """The shape of every tensor by the file's own name."""
    factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The numbers of GGUF's small tensors that stretch positions, by their names."""

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file."""
        return self.source == "gguf"

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number.

        Args:
            key: Our name of the fact, or the file's own.
            default: What it is where the file does not say it; None if it must.

        Raises:
            ModelLoadError: It is something else, or is missing.
        """
        value = self._value(key, default)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]  # GGUF files may say it for each layer.
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST:
            raise ModelLoadError(f"{self.path}: {self._named(key)} should be a whole number, not {_short(value)}.")
        return value

    def item(self, key: str, index: int) -> int:
        """A whole number that may be another for each layer; errors as for `integer`."""
        value = self._find(key)
        if isinstance(value, list) and index < len(value):
            return replace(self, values={self._named(key): value[index]}).integer(key)
        return self.integer(key)

    def number(self, key: str, default: float | None = None) -> float:
        """A number; arguments and errors as for `integer`."""
        value = self._value(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or abs(value) > sys.float_info.max or math.isnan(value):
            raise ModelLoadError(f"{self.path}: {self._named(key)} should be a number, not {_short(value)}.")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """Whether something is so; what the file does not say is `default`."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise ModelLoadError(f"{self.path}: {self._named(key)} should be true or false, not {_short(value)}.")
        return value

    def text(self, key: str, default: str = "") -> str:
        """A word."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise ModelLoadError(f"{self.path}: {self._named(key)} should be a word, not {_short(value)}.")
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        """A table of config.json; empty if it is not there."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise ModelLoadError(f"{self.path}: {self._named(key)} should be a table, not {_short(value)}.")
        return value or {}

    def per_layer(self, key: str) -> Sequence[Any]:
        """A list with an item for each layer; empty if it is not there."""
        value = self._find(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or len(value) < self.integer("n_layers"):
            raise ModelLoadError(f"{self.path}: {key} should have an item for each layer.")
        return value

    def has(self, key: str) -> bool:
        """Whether the file says something."""
        return self._find(key) is not None

    def holds(self, *names: str) -> bool:
        """Whether one of some tensors is in the file, by the file's own names."""
        return any(name in self.shapes for name in names)

    def rope(self, dim: int, *, kind: str = FULL, interleaved: bool = False) -> Rope:
        """The rotary positions of one kind of layer.

        Args:
            dim: Channels of a head; where only a part of them turns, that is in the file.
            kind: FULL or SLIDING, for files that tell them apart.
            interleaved: Whether neighbours make a pair.

        Raises:
            ModelLoadError: They are of a kind llmchat does not know.
        """
        if self.is_gguf:
            return self._gguf_rope(dim, kind, interleaved)
        given = self.table("rope_parameters") or self.table("rope_scaling")
        if isinstance(given.get(kind), dict):
            given = given[kind]
        rope = Facts(self.path, "config", self.name, given)
        theta = rope.number("rope_theta", self.number("rope_theta", self.number("rotary_emb_base", 10000.0)))
        share = self.number("partial_rotary_factor", self.number("rotary_pct", 1.0))
        share = rope.number("partial_rotary_factor", share)
        turned = dim if rope.values.get("rope_type") == "proportional" else int(dim * share)
        return Rope(theta, turned, self._scaling(rope, dim), interleaved)

    def _scaling(self, rope: Facts, dim: int) -> RopeScaling | None:
        kind = rope.values.get("rope_type", rope.values.get("type", "default"))
        trained = self.integer("context_length", LARGEST)
        # Dynamic stretching begins beyond the length that is taken as the context.
        if kind in ("default", "dynamic", None):
            return None
        if kind == "proportional":
            return _proportional(rope, dim)
        if kind == "linear":
            return RopeScaling("linear", rope.number("factor"))
        if kind == "llama3":
            return RopeScaling(
                "llama3",
                rope.number("factor"),
                rope.number("low_freq_factor"),
                rope.number("high_freq_factor"),
                rope.integer("original_max_position_embeddings"),
            )
        original = rope.integer(
            "original_max_position_embeddings", self.integer("original_max_position_embeddings", trained)
        )
        if kind == "yarn":
            factor = rope.number("factor", _ratio(trained, original))
            return RopeScaling(
                "yarn",
                factor,
                original_context_length=original,
                beta_fast=rope.number("beta_fast", 32.0),
                beta_slow=rope.number("beta_slow", 1.0),
                truncate=rope.flag("truncate", True),
                magnitude=rope.number("attention_factor", _yarn_magnitude(factor, rope)),
            )
        if kind in ("longrope", "su"):
            return self._longrope(rope, original, trained)
        raise ModelLoadError(f"{self.path} stretches its positions by {str(kind)[:40]!r}, which llmchat does not know.")

    def _longrope(self, rope: Facts, original: int, trained: int) -> RopeScaling:
        factor = _ratio(trained, original)
        usual = 1.0 if factor <= 1.0 or original <= 1 else math.sqrt(1.0 + math.log(factor) / math.log(original))
        return RopeScaling(
            "factors",
            original_context_length=original,
            factors=rope._numbers("short_factor"),
            long_factors=rope._numbers("long_factor"),
            magnitude=rope.number("attention_factor", usual),
        )

    def _gguf_rope(self, dim: int, kind: str, interleaved: bool) -> Rope:
        theta = self.number("rope.freq_base", 10000.0)
        turned = self.integer("rope.dimension_count", dim)
        if kind == SLIDING:
            # As in llama.cpp, layers with a window have positions that are not stretched.
            turned = self.integer("rope.dimension_count_swa", turned)
            return Rope(self.number("rope.freq_base_swa", theta), turned, None, interleaved)
        return Rope(theta, turned, self._gguf_scaling(), interleaved)

    def _gguf_scaling(self) -> RopeScaling | None:
        original = self.integer("rope.scaling.original_context_length", self.integer("context_length"))
        magnitude = self.number("rope.scaling.attn_factor", 1.0)
        if ROPE_FACTORS[0] in self.factors:
            # Llama 3.1 and later: converters write the finished factors instead of the rule.
            return RopeScaling("factors", factors=self.factors[ROPE_FACTORS[0]])
        if ROPE_FACTORS[1] in self.factors:
            return RopeScaling(
                "factors",
                original_context_length=original,
                factors=self.factors[ROPE_FACTORS[1]],
                long_factors=self.factors.get(ROPE_FACTORS[2], ()),
                magnitude=magnitude,
            )
        kind = self.text("rope.scaling.type", "none")
        if kind in ("none", "longrope"):
            return None
        if kind == "linear":
            return RopeScaling("linear", self.number("rope.scaling.factor"))
        if kind == "yarn":
            factor = self.number("rope.scaling.factor")
            scale_all = self.number("rope.scaling.yarn_log_multiplier", 0.0)
            return RopeScaling(
                "yarn",
                factor,
                original_context_length=original,
                beta_fast=self.number("rope.scaling.yarn_beta_fast", 32.0),
                beta_slow=self.number("rope.scaling.yarn_beta_slow", 1.0),
                truncate=self.name != "gpt-oss",
                magnitude=magnitude * _yarn_scale(factor, 1.0) / _yarn_scale(factor, scale_all),
            )
        raise ModelLoadError(f"{self.path} stretches its positions by {kind[:40]!r}, which llmchat does not know.")

    def _numbers(self, key: str) -> tuple[float, ...]:
        values = self.values.get(key)
        if not isinstance(values, list) or not all(isinstance(item, int | float) for item in values):
            raise ModelLoadError(f"{self.path}: {self._named(key)} should be a list of numbers, not {_short(values)}.")
        return tuple(map(float, values))

    def _find(self, key: str) -> Any:
        return self.values.get(self._named(key))

    def _value(self, key: str, default: object) -> Any:
        value = self._find(key)
        value = default if value is None else value
        if value is None:
            raise ModelLoadError(f"{self.path} does not say its {self._named(key)}.")
        return value

    def _named(self, key: str) -> str:
        """What the file itself calls a fact."""
        known = _KEYS.get(key, _Key((key,), key))
        if self.is_gguf:
            return f"{self.name}.{known.gguf or key}"
        return next((name for name in known.config if self.values.get(name) is not None), known.config[0])


def _proportional(rope: Facts, dim: int) -> RopeScaling:
    """A share of the pairs turns as if all did, the others hardly at all."""
    share = rope.number("partial_rotary_factor", 1.0)
    if not 0 <= share <= 1 or dim > _MOST_CHANNELS:
        raise ModelLoadError(f"{rope.path} turns {share} of {dim} channels of each head, which cannot be.")
    turned = int(dim * share) // 2
    factors = (rope.number("factor", 1.0),) * turned + (_STILL,) * (dim // 2 - turned)
    return RopeScaling("factors", factors=factors)


def _yarn_magnitude(factor: float, rope: Facts) -> float:
    """What YaRN multiplies cosines and sines by, where the file does not say it (Peng et al. 2023)."""
    scale, scale_all = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
    if scale > 0 and scale_all > 0:
        return _yarn_scale(factor, scale) / _yarn_scale(factor, scale_all)
    return _yarn_scale(factor, 1.0)


def _yarn_scale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1.0 or scale < 0 else 0.1 * scale * math.log(factor) + 1.0


def _ratio(trained: int, original: int) -> float:
    return trained / original if original else 0.0


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return "one so large"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
