"""The presets: named settings of the sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmchat.chat.generation_config import GenerationConfig
from llmchat.errors import UsageError

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "Greedy": {"do_sample": False},
    "Conservative": {"temperature": 0.3},
    "Balanced": {"temperature": 0.8},
    "Creative": {"temperature": 1.5},
    # As the makers of Qwen 3 and of DeepSeek R1 advise; a thought alone often takes thousands of tokens.
    "Thinking": {
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "repetition_penalty": 1.0,
        "max_new_tokens": 8192,
    },
}
"""Named settings; what a preset does not name is at its default, but for lengths, which it only raises."""

_KEPT_BY_PRESETS = (
    "min_new_tokens", "max_new_tokens", "seed", "stop", "banned_tokens", "lora_scale", "template_args", "prompt_lookup",
)  # fmt: skip

REPLACED_BY_PRESETS = frozenset(GenerationConfig().values()) - frozenset(_KEPT_BY_PRESETS)
"""What a preset sets; the rest is the person's."""


def apply_preset(name: str, config: GenerationConfig | None = None) -> GenerationConfig:
    """The preset's sampling settings; what belongs to the prompt, the model or the person's limits stays.

    A preset for models that think raises the length to what a thought needs.

    Raises:
        UsageError: There is no such preset.
    """
    known = {preset.lower(): preset for preset in PRESETS}
    key = known.get(name.strip().lower())
    if key is None:
        raise UsageError(f"There is no preset called {name!r}. Known: {', '.join(PRESETS)}.")
    config = config or GenerationConfig()
    kept = {field_name: getattr(config, field_name) for field_name in _KEPT_BY_PRESETS}
    longest = max(config.max_new_tokens, PRESETS[key].get("max_new_tokens", 0))
    return GenerationConfig(**{**kept, **PRESETS[key], "max_new_tokens": longest})


def matching_preset(config: GenerationConfig) -> str | None:
    """The preset that gives exactly this config, if there is one."""
    return next((name for name in PRESETS if apply_preset(name, config) == config), None)
