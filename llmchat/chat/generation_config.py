"""How a reply is generated: every setting, defined once.

`GenerationConfig` is the frozen value that travels everywhere; `SAMPLING_SPECS`
describes its numeric fields. Flags, sliders, `/set`, transcripts, the README's
table and the tests are all made from it. Values are checked when a config is
made, so one that exists is valid.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from llmchat.chat.parameter_spec import Group, Number, ParameterSpec, parameter, specs_of
from llmchat.chat.setting_values import (
    DRY_BREAKERS,
    SAMPLER_ORDER,
    SEED_LIMIT,
    SETTING_KINDS,
    Value,
    check_seed,
    roll_seed,
)
from llmchat.errors import UsageError

__all__ = [
    "DRY_BREAKERS",
    "SAMPLER_ORDER",
    "SAMPLING_SPECS",
    "SEED_LIMIT",
    "SPEC_BY_NAME",
    "GenerationConfig",
    "Group",
    "Number",
    "ParameterSpec",
    "Value",
    "canonical_name",
    "check_bans",
    "check_seed",
    "parse_setting",
    "roll_seed",
]

_BELONGS_TO = {
    "dry_base": "dry_multiplier",
    "dry_allowed_length": "dry_multiplier",
    "dry_breakers": "dry_multiplier",
    "xtc_threshold": "xtc_probability",
    "xtc_spares_ends": "xtc_probability",
    "dynatemp_exponent": "dynatemp_range",
    "mirostat_eta": "mirostat_tau",
}
"""What has no effect while the setting that it belongs to is 0."""

_TRUNCATION = frozenset(
    {
        "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold", "xtc_spares_ends",
        "temperature_last",
    }
)  # fmt: skip
_RANDOMNESS = _TRUNCATION | {
    "temperature", "dynatemp_range", "dynatemp_exponent", "mirostat_tau", "mirostat_eta", "seed",
}  # fmt: skip

_ALWAYS_WRITTEN = ("do_sample", "seed", "stop")

OF_WHOLE_REPLY = ("seed", "stop", "template_args", "prompt_lookup")
"""What belongs to a whole reply: moved while one is written, it waits for the next one."""


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The settings of one reply. Frozen, checked when made, replaced whole.

    Raises:
        UsageError: A value is not of its kind, not finite, or outside its range.
    """

    temperature: float = parameter(
        0.8, "Temperature", "Randomness: below 1 sharpens the choice, above 1 flattens it, 0 takes the likeliest.",
        minimum=0.0, maximum=5.0, step=0.05, shown=(0.0, 2.0), neutral=1.0, aliases=("temp",),
    )  # fmt: skip
    top_k: int = parameter(
        50, "Top-k", "Keep only the k likeliest tokens; 0 keeps all.",
        minimum=0, maximum=1_000_000, step=1, shown=(0, 1000), curve=3.0, neutral=0, off=True,
    )  # fmt: skip
    top_p: float = parameter(
        0.9, "Top-p", "Keep the smallest set of tokens that holds this much probability; 1 keeps all.",
        minimum=0.0, maximum=1.0, step=0.01, neutral=1.0, off=True,
    )  # fmt: skip
    min_p: float = parameter(
        0.0, "Min-p", "Keep tokens at least this likely, as a share of the likeliest one; 0 keeps all.",
        minimum=0.0, maximum=1.0, step=0.01, neutral=0.0, off=True, curve=2.0,
    )  # fmt: skip
    repetition_penalty: float = parameter(
        1.1, "Repetition", "Make tokens that were already used less likely; 1 does nothing, below 1 invites them.",
        minimum=0.1, maximum=10.0, step=0.01, shown=(1.0, 2.0), curve=2.0, neutral=1.0, off=True,
        aliases=("repeat_penalty",),
    )  # fmt: skip
    min_new_tokens: int = parameter(
        0, "Min tokens", "No end token before this many tokens.",
        minimum=0, maximum=1_000_000, step=1, shown=(0, 512), curve=3.0, neutral=0, off=True,
    )  # fmt: skip
    max_new_tokens: int = parameter(
        512, "Max tokens", "Stop after this many tokens.",
        minimum=1, maximum=1_000_000, step=16, shown=(1, 8192), curve=3.0, aliases=("max_tokens",),
    )  # fmt: skip
    lora_scale: float = parameter(
        1.0, "LoRA scale", "How much of the LoRA adapter is added to the model; 0 is the model alone.",
        minimum=0.0, maximum=2.0, step=0.05, neutral=0.0, off=True, group="adapter",
    )  # fmt: skip
    typical_p: float = parameter(
        1.0, "Typical", "Keep the tokens of the most usual surprise that hold this much probability; 1 keeps all.",
        minimum=0.0, maximum=1.0, step=0.01, neutral=1.0, off=True, aliases=("typical",), group="more",
    )  # fmt: skip
    top_n_sigma: float = parameter(
        0.0, "Top-nσ", "Keep tokens whose logit is within this many standard deviations of the highest; 0 keeps all.",
        minimum=0.0, maximum=100.0, step=0.05, shown=(0.0, 5.0), neutral=0.0, off=True, group="more",
    )  # fmt: skip
    xtc_probability: float = parameter(
        0.0, "XTC",
        "How often to exclude all above the XTC limit but the least likely, unless an end of line or reply would go; "
        "0 is never.",
        minimum=0.0, maximum=1.0, step=0.05, neutral=0.0, off=True, group="more",
    )  # fmt: skip
    xtc_threshold: float = parameter(
        0.1, "XTC limit", "How likely a token must be for XTC to exclude it; above 0.5 none is.",
        minimum=0.0, maximum=1.0, step=0.01, shown=(0.0, 0.5), group="more",
    )  # fmt: skip
    dry_multiplier: float = parameter(
        0.0, "DRY", "Make tokens less likely that would repeat a passage, by this much or more; 0 does nothing.",
        minimum=0.0, maximum=100.0, step=0.05, shown=(0.0, 5.0), neutral=0.0, off=True, group="more",
    )  # fmt: skip
    dry_base: float = parameter(
        1.75, "DRY base", "By how much the DRY penalty grows with each more token that repeats.",
        minimum=1.0, maximum=10.0, step=0.05, shown=(1.0, 4.0), group="more",
    )  # fmt: skip
    dry_allowed_length: int = parameter(
        2, "DRY length", "How many tokens may repeat; DRY penalises the next one.",
        minimum=1, maximum=1000, step=1, shown=(1, 20), group="more",
    )  # fmt: skip
    frequency_penalty: float = parameter(
        0.0, "Frequency", "Take this from a token's logit for each time that the reply has used it; 0 does nothing.",
        minimum=-2.0, maximum=2.0, step=0.05, neutral=0.0, off=True, group="more",
    )  # fmt: skip
    presence_penalty: float = parameter(
        0.0, "Presence", "Take this from a token's logit once if the reply has used it; 0 does nothing.",
        minimum=-2.0, maximum=2.0, step=0.05, neutral=0.0, off=True, group="more",
    )  # fmt: skip
    penalty_window: int = parameter(
        0, "Window", "How many of the last tokens the penalties and DRY look at; 0 is all of them.",
        minimum=0, maximum=1_000_000, step=16, shown=(0, 4096), curve=3.0, neutral=0, neutral_word="all", group="more",
    )  # fmt: skip
    dynatemp_range: float = parameter(
        0.0, "Dyn. range", "Lower the temperature by up to this where the model is sure, raise it elsewhere; 0 is off.",
        minimum=0.0, maximum=5.0, step=0.05, shown=(0.0, 2.0), neutral=0.0, off=True, group="more",
    )  # fmt: skip
    dynatemp_exponent: float = parameter(
        1.0, "Dyn. curve", "How the dynamic temperature follows the entropy: above 1 late, below 1 early.",
        minimum=0.0, maximum=10.0, step=0.05, shown=(0.0, 4.0), group="more",
    )  # fmt: skip
    mirostat_tau: float = parameter(
        0.0, "Mirostat τ", "Steer the text to this many bits of surprise a token, in place of the filters; 0 does not.",
        minimum=0.0, maximum=100.0, step=0.1, shown=(0.0, 10.0), neutral=0.0, off=True, group="more",
    )  # fmt: skip
    mirostat_eta: float = parameter(
        0.1, "Mirostat η", "How fast Mirostat corrects its limit.",
        minimum=0.0, maximum=1.0, step=0.01, group="more",
    )  # fmt: skip
    do_sample: bool = True
    """Whether to draw at random; False always takes the likeliest token."""
    seed: int | None = None
    """The dice. None rolls a new seed for each reply."""
    stop: tuple[str, ...] = ()
    """Strings that end the reply; they are not part of it."""
    dry_breakers: tuple[str, ...] = DRY_BREAKERS
    """Strings at which a repetition ends for DRY: a token that contains one is never penalised by it."""
    banned_tokens: tuple[int, ...] = ()
    """Ids that are never drawn."""
    xtc_spares_ends: bool = True
    """Whether XTC does nothing where the newline or an end token would go, as in text-generation-webui;
    False spares nothing, as in llama.cpp."""
    temperature_last: bool = False
    """Whether the temperature acts behind all filters, as in llama.cpp, instead of at its place in the order."""
    sampler_order: tuple[str, ...] = SAMPLER_ORDER
    """The stages of the sampling chain in the order in which they act."""
    template_args: tuple[str, ...] = ()
    """Variables of the chat template, each NAME=VALUE as in TOML, such as enable_thinking=false."""

    prompt_lookup: bool = True
    """Whether to guess what follows from the text so far, where that is quicker; the tokens are the same."""

    def __post_init__(self) -> None:
        for spec in SAMPLING_SPECS:
            object.__setattr__(self, spec.name, spec.check(getattr(self, spec.name)))
        for name, kind in SETTING_KINDS.items():
            object.__setattr__(self, name, kind.check(name, getattr(self, name)))
        if self.min_new_tokens > self.max_new_tokens:
            raise UsageError(
                f"min_new_tokens ({self.min_new_tokens}) must not be above max_new_tokens ({self.max_new_tokens})."
            )

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken, so that seed and filters have no effect."""
        return not self.do_sample or self.temperature == 0.0 or self._keeps_one

    @property
    def penalizes(self) -> bool:
        """Whether any token may lose or gain by having been used."""
        return self.repetition_penalty != 1 or bool(
            self.frequency_penalty or self.presence_penalty or self.dry_multiplier
        )

    @property
    def _keeps_one(self) -> bool:
        """Whether top-k leaves the likeliest token alone."""
        if self.top_k != 1 or self.mirostat_tau:
            return False
        before = self.sampler_order[: self.sampler_order.index("top_k")]
        return not (("typical_p" in before and self.typical_p < 1) or ("xtc" in before and self.xtc_probability > 0))

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the sampling chain as they act; those at their neutral values do nothing.

        Bans come first. Greedy decoding, and Mirostat, which comes last, replace the filters.
        """
        order = [name for name in self.sampler_order if name != "temperature" or not self.temperature_last]
        if self.temperature_last:
            order.append("temperature")
        if not self.do_sample or self.temperature == 0.0:
            return ("bans", *(name for name in order if name in ("penalties", "dry")), "greedy")
        if self.mirostat_tau:
            return ("bans", *(name for name in order if name in ("penalties", "dry", "temperature")), "mirostat")
        return ("bans", *order)

    def changed(self, **values: Any) -> Self:
        """A copy with some fields replaced, checked anew."""
        return replace(self, **values)

    def difference(self, base: GenerationConfig | None = None) -> dict[str, Value]:
        """The fields that differ from `base` (by default, from the defaults), with this config's values."""
        base = base or GenerationConfig()
        names = (item.name for item in fields(self))
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(base, name)}

    def inactive(self) -> frozenset[str]:
        """The names of the settings that cannot change the next token as things stand."""
        names = {name for name, switch in _BELONGS_TO.items() if not getattr(self, switch)}
        if not self.penalizes:
            names.add("penalty_window")
        if not self.do_sample:
            names |= _RANDOMNESS
        elif self.temperature == 0.0:
            names |= _RANDOMNESS - {"temperature"}
        elif self._keeps_one:
            names |= _RANDOMNESS - {"top_k", "mirostat_tau"}
        elif self.mirostat_tau:
            names |= _TRUNCATION
        elif self.xtc_threshold > 0.5:
            names.add("xtc_probability")
        return frozenset(names)

    def values(self) -> dict[str, Value]:
        """Every field by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def to_mapping(self) -> dict[str, Value]:
        """The fields by name, ready for TOML or JSON: all that these settings need to mean the same for ever.

        The main parameters, `do_sample` and `stop` are always there, and a seed that is
        set: their defaults may change. The others are left out where they are at their
        default and have no effect; those defaults must stay, and a test pins them. Ids
        and the order are strings with spaces between.
        """
        return {name: _written(name, value) for name, value in self.values().items() if self._is_written(name, value)}

    def _is_written(self, name: str, value: Value) -> bool:
        if name in _ALWAYS_WRITTEN:
            return value is not None
        if name in SPEC_BY_NAME and SPEC_BY_NAME[name].group == "main":
            return True
        switch = _BELONGS_TO.get(name)
        return value != getattr(_DEFAULTS, name) or (switch is not None and bool(getattr(self, switch)))

    @classmethod
    def from_mapping(cls, values: Mapping[str, object], base: GenerationConfig | None = None) -> GenerationConfig:
        """A config from named values, the rest taken from `base` or the defaults.

        Raises:
            UsageError: A name is unknown (the nearest known one is named) or a value is not accepted.
        """
        named = {canonical_name(name): value for name, value in values.items()}
        return replace(base or cls(), **named)  # type: ignore[arg-type]


def check_bans(config: GenerationConfig, vocab_size: int, end_ids: Collection[int] = ()) -> None:
    """Make sure that bans are of tokens that there are, and leave something to say.

    Args:
        config: The settings.
        vocab_size: Ids are below it.
        end_ids: The tokens that end a reply, as far as they are known.

    Raises:
        UsageError: They are not, or leave nothing or the end alone.
    """
    banned = config.banned_tokens
    if banned and banned[-1] >= vocab_size:
        raise UsageError(f"banned_tokens has {banned[-1]}, but the model's tokens are 0 to {vocab_size - 1}.")
    if vocab_size - len(banned) <= len(end_ids) and set(range(vocab_size)).difference(banned) <= set(end_ids):
        left = "the tokens that end a reply" if len(banned) < vocab_size else "no token"
        raise UsageError(f"banned_tokens leaves {left}: allow some with /set banned_tokens.")


def _written(name: str, value: Value) -> Value:
    """A value in the form in which it is kept."""
    if name in ("banned_tokens", "sampler_order") and isinstance(value, tuple):
        return " ".join(map(str, value))
    return value


SAMPLING_SPECS: tuple[ParameterSpec, ...] = specs_of(GenerationConfig)
"""Every numeric parameter, in the order in which sidebar and help show them."""

SPEC_BY_NAME: Mapping[str, ParameterSpec] = {spec.name: spec for spec in SAMPLING_SPECS}

_DEFAULTS = GenerationConfig()

_ALIASES = {alias: spec.name for spec in SAMPLING_SPECS for alias in spec.aliases}
_NAMES = tuple(item.name for item in fields(GenerationConfig))


def canonical_name(name: str) -> str:
    """The field that a typed name means: dashes, case and aliases are accepted.

    Raises:
        UsageError: No field is called so; the nearest is named.
    """
    word = name.strip().lower().replace("-", "_")
    word = _ALIASES.get(word, word)
    if word in _NAMES:
        return word
    import difflib

    near = difflib.get_close_matches(word, [*_NAMES, *_ALIASES], n=1)
    hint = f" Did you mean {near[0]}?" if near else f" Known: {', '.join(_NAMES)}."
    raise UsageError(f"There is no setting called {name!r}.{hint}")


def parse_setting(name: str, text: str) -> tuple[str, Value]:
    """A typed name and value as a field and its value, as `/set` takes them.

    Raises:
        UsageError: The name is unknown or the value is not accepted.
    """
    key = canonical_name(name)
    if key in SPEC_BY_NAME:
        return key, SPEC_BY_NAME[key].parse(text)
    kind = SETTING_KINDS[key]
    return key, kind.check(key, kind.parse(key, text))
