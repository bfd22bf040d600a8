"""How a reply is generated: every parameter, defined once.

`GenerationConfig` is the frozen value that travels everywhere; `SAMPLING_SPECS`
describes its numeric fields. Flags, sliders, `/set`, transcripts, the README's
table and the tests are all made from it. Values are checked when a config is
made, so one that exists is valid.
"""

from __future__ import annotations

import difflib
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from llmchat.errors import UsageError

Number = int | float
Value = int | float | bool | str | tuple[str, ...] | None

SEED_LIMIT = 2**63
"""Seeds are whole numbers from 0 up to, not including, this."""


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One numeric parameter: what it accepts, and how a slider shows it."""

    name: str
    """The field of `GenerationConfig`; also the flag, with dashes, and the TOML key."""
    label: str
    """The words beside the slider."""
    help: str
    """What it does, in one sentence."""
    default: Number
    neutral: Number | None
    """The value at which it has no effect; None if every value has one."""
    off: bool
    """Whether the neutral value is shown as the word "off"."""
    minimum: Number
    maximum: Number
    step: Number
    """The change made by one key press."""
    shown: tuple[Number, Number]
    """The part of the range that the slider spans; values outside can be typed."""
    curve: float
    """How the track is stretched near its start: position = fraction ** (1 / curve)."""
    aliases: tuple[str, ...] = ()
    """Other names that `/set` and the command line accept."""

    @property
    def is_integer(self) -> bool:
        """Whether only whole numbers are accepted."""
        return isinstance(self.default, int)

    @property
    def range_text(self) -> str:
        """The accepted range in words, such as "0 to 2"."""
        return f"{self.minimum:g} to {self.maximum:g}" if not self.is_integer else (f"{self.minimum} to {self.maximum}")

    def parse(self, text: str) -> Number:
        """Read a typed value; "off" gives the neutral one.

        Raises:
            UsageError: It is no number, or outside the range.
        """
        word = text.strip().lower()
        if word in ("off", "none") and self.neutral is not None:
            return self.neutral
        try:
            number: Number = int(word) if self.is_integer else float(word)
        except ValueError:
            kind = "a whole number" if self.is_integer else "a number"
            raise UsageError(f"{self.name} takes {kind} from {self.range_text}, not {text.strip()!r}.") from None
        return self.check(number)

    def check(self, value: object) -> Number:
        """Return `value` as the field's own type.

        Raises:
            UsageError: It is no finite number of the right kind, or outside the range.
        """
        if value is None and self.neutral is not None:
            return self.neutral
        whole = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, float) and self.is_integer and value.is_integer():
            value, whole = int(value), True
        if not (whole or (isinstance(value, float) and not self.is_integer and math.isfinite(value))):
            kind = "a whole number" if self.is_integer else "a number"
            raise UsageError(f"{self.name} takes {kind} from {self.range_text}, not {value!r}.")
        assert isinstance(value, int | float)
        if not self.minimum <= value <= self.maximum:
            raise UsageError(f"{self.name} must be from {self.range_text}, not {value:g}.")
        return value if self.is_integer else float(value)

    def format(self, value: Number) -> str:
        """The value as the sidebar shows it."""
        if self.off and value == self.neutral:
            return "off"
        if self.is_integer:
            return str(value)
        # Two decimals, or as many as it takes not to hide what was typed.
        return f"{value:.2f}" if round(value, 2) == value else f"{value:.4g}"

    def stepped(self, value: Number, steps: int) -> Number:
        """The value `steps` key presses away, on the grid of steps and inside the range."""
        grid = round(value / self.step) + steps
        moved = grid * self.step
        if self.is_integer:
            return int(min(max(moved, self.minimum), self.maximum))
        return float(min(max(round(moved, 6), self.minimum), self.maximum))

    def position(self, value: Number) -> float:
        """Where the value lies on the slider's track, 0 to 1."""
        low, high = self.shown
        fraction = min(max((value - low) / (high - low), 0.0), 1.0)
        return float(fraction ** (1 / self.curve))

    def value_at(self, position: float) -> Number:
        """The value, on the grid of steps, at a place of the track, 0 to 1."""
        low, high = self.shown
        return self.stepped(low + (high - low) * min(max(position, 0.0), 1.0) ** self.curve, 0)


def _parameter(default: Number, label: str, text: str, **spec: Any) -> Any:
    """A dataclass field that carries its spec."""
    given: dict[str, Any] = {
        "neutral": None,
        "off": False,
        "curve": 1.0,
        "label": label,
        "help": text,
        "default": default,
    }
    given.update(spec)
    given.setdefault("shown", (given["minimum"], given["maximum"]))
    return field(default=default, metadata=given)


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The settings of one reply. Frozen, checked when made, replaced whole.

    Raises:
        UsageError: A value is not of its kind, not finite, or outside its range.
    """

    temperature: float = _parameter(
        0.8, "Temperature", "Randomness: below 1 sharpens the choice, above 1 flattens it, 0 takes the likeliest.",
        minimum=0.0, maximum=5.0, step=0.05, shown=(0.0, 2.0), neutral=1.0, aliases=("temp",),
    )  # fmt: skip
    top_k: int = _parameter(
        50, "Top-k", "Keep only the k likeliest tokens; 0 keeps all.",
        minimum=0, maximum=1_000_000, step=1, shown=(0, 1000), curve=3.0, neutral=0, off=True,
    )  # fmt: skip
    top_p: float = _parameter(
        0.9, "Top-p", "Keep the smallest set of tokens that holds this much probability; 1 keeps all.",
        minimum=0.0, maximum=1.0, step=0.01, neutral=1.0, off=True,
    )  # fmt: skip
    min_p: float = _parameter(
        0.0, "Min-p", "Keep tokens at least this likely, as a share of the likeliest one; 0 keeps all.",
        minimum=0.0, maximum=1.0, step=0.01, neutral=0.0, off=True, curve=2.0,
    )  # fmt: skip
    repetition_penalty: float = _parameter(
        1.1, "Repetition", "Make tokens that were already used less likely; 1 does nothing, below 1 invites them.",
        minimum=0.1, maximum=10.0, step=0.01, shown=(1.0, 2.0), curve=2.0, neutral=1.0, off=True,
        aliases=("repeat_penalty",),
    )  # fmt: skip
    min_new_tokens: int = _parameter(
        0, "Min tokens", "No end token before this many tokens.",
        minimum=0, maximum=1_000_000, step=1, shown=(0, 512), curve=3.0, neutral=0, off=True,
    )  # fmt: skip
    max_new_tokens: int = _parameter(
        512, "Max tokens", "Stop after this many tokens.",
        minimum=1, maximum=1_000_000, step=16, shown=(1, 8192), curve=3.0, aliases=("max_tokens",),
    )  # fmt: skip
    do_sample: bool = True
    """Whether to draw at random; False always takes the likeliest token."""
    seed: int | None = None
    """The dice. None rolls a new seed for each reply."""
    stop: tuple[str, ...] = ()
    """Strings that end the reply; they are not part of it."""

    def __post_init__(self) -> None:
        for spec in SAMPLING_SPECS:
            object.__setattr__(self, spec.name, spec.check(getattr(self, spec.name)))
        if not isinstance(self.do_sample, bool):
            raise UsageError(f"do_sample must be true or false, not {self.do_sample!r}.")
        object.__setattr__(self, "seed", check_seed(self.seed))
        object.__setattr__(self, "stop", _check_stop(self.stop))
        if self.min_new_tokens > self.max_new_tokens:
            raise UsageError(
                f"min_new_tokens ({self.min_new_tokens}) must not be above max_new_tokens ({self.max_new_tokens})."
            )

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken, so that seed and truncation have no effect."""
        return not self.do_sample or self.temperature == 0.0 or self.top_k == 1

    def changed(self, **values: Any) -> Self:
        """A copy with some fields replaced, checked anew."""
        return replace(self, **values)

    def difference(self, base: GenerationConfig | None = None) -> dict[str, Value]:
        """The fields that differ from `base` (by default, from the defaults), with this config's values."""
        base = base or GenerationConfig()
        names = (item.name for item in fields(self))
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(base, name)}

    def inactive(self) -> frozenset[str]:
        """The names of the parameters that cannot change the next token as things stand."""
        if not self.do_sample:
            return frozenset({"temperature", "top_k", "top_p", "min_p", "seed"})
        if self.temperature == 0.0:
            return frozenset({"top_k", "top_p", "min_p", "seed"})
        if self.top_k == 1:
            return frozenset({"temperature", "top_p", "min_p", "seed"})
        return frozenset()

    def to_mapping(self) -> dict[str, Value]:
        """Every field by name, ready for TOML or JSON; an unset seed is left out."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if values["seed"] is None:
            del values["seed"]
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, object], base: GenerationConfig | None = None) -> GenerationConfig:
        """A config from named values, the rest taken from `base` or the defaults.

        Raises:
            UsageError: A name is unknown (the nearest known one is named) or a value is not accepted.
        """
        named = {canonical_name(name): value for name, value in values.items()}
        return replace(base or cls(), **named)  # type: ignore[arg-type]


def roll_seed() -> int:
    """A new random seed of at most six digits, short enough to read out and type again."""
    return secrets.randbelow(1_000_000)


def check_seed(seed: object) -> int | None:
    """Return a valid seed; None and -1 mean that a new one is rolled.

    Raises:
        UsageError: It is no whole number in range.
    """
    if seed is None or seed == -1:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
        raise UsageError(f"seed must be a whole number from 0 to {SEED_LIMIT - 1} (or -1 to roll one), not {seed!r}.")
    return seed


def _check_stop(stop: object) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop
    if strings is None:
        return ()
    if not isinstance(strings, list | tuple) or not all(isinstance(item, str) for item in strings):
        raise UsageError(f"stop must be strings, not {stop!r}.")
    if not all(strings):
        raise UsageError("stop must not hold an empty string: it would end every reply at once.")
    return tuple(strings)


def _specs() -> tuple[ParameterSpec, ...]:
    described = (item for item in fields(GenerationConfig) if item.metadata)
    return tuple(ParameterSpec(name=item.name, **item.metadata) for item in described)


SAMPLING_SPECS: tuple[ParameterSpec, ...] = _specs()
"""Every numeric parameter, in the order in which sidebar and help show them."""

SPEC_BY_NAME: Mapping[str, ParameterSpec] = {spec.name: spec for spec in SAMPLING_SPECS}

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
    if key == "seed":
        return key, _parse_seed(text)
    if key == "stop":
        return key, _check_stop((text,) if text else ())
    words: dict[str, bool] = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
    if text.strip().lower() not in words:
        raise UsageError(f"{key} takes on or off, not {text!r}.")
    return key, words[text.strip().lower()]


def _parse_seed(text: str) -> int | None:
    word = text.strip().lower()
    if word in ("roll", "random", "none"):
        return None
    try:
        return check_seed(int(word))
    except ValueError:
        raise UsageError(f"seed takes a whole number, or roll; not {text!r}.") from None


PresetName = Literal["Greedy", "Conservative", "Balanced", "Creative"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "Greedy": {"do_sample": False},
    "Conservative": {"temperature": 0.3},
    "Balanced": {"temperature": 0.8},
    "Creative": {"temperature": 1.5},
}
"""Named settings; what a preset does not name is at its default."""

_KEPT_BY_PRESETS = ("min_new_tokens", "max_new_tokens", "seed", "stop")


def apply_preset(name: str, config: GenerationConfig | None = None) -> GenerationConfig:
    """The preset's sampling settings; lengths, seed and stop strings stay as in `config`.

    Raises:
        UsageError: There is no such preset.
    """
    known = {preset.lower(): preset for preset in PRESETS}
    key = known.get(name.strip().lower())
    if key is None:
        raise UsageError(f"There is no preset called {name!r}. Known: {', '.join(PRESETS)}.")
    config = config or GenerationConfig()
    kept = {field_name: getattr(config, field_name) for field_name in _KEPT_BY_PRESETS}
    return GenerationConfig(**{**kept, **PRESETS[key]})


def matching_preset(config: GenerationConfig) -> str | None:
    """The preset that gives exactly this config, if there is one."""
    return next((name for name in PRESETS if apply_preset(name, config) == config), None)
