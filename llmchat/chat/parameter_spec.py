"""What is known of one numeric parameter: its meaning, its range, how a slider shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from llmchat.errors import UsageError

Number = int | float

Group = Literal["main", "more", "adapter"]
"""Which rows are always in view, which unfold, and which are there while an adapter is open."""


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
    """The value that switches it off; None if no value does."""
    off: bool
    """Whether the neutral value is shown as the word "off", and as an empty track."""
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
    group: Group = "main"
    neutral_word: str = ""
    """A word for the neutral value where that is not "off", such as "all"."""

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
        if word and word in ("off", "none", self.neutral_word) and self.neutral is not None:
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
        if value == self.neutral and (self.off or self.neutral_word):
            return self.neutral_word or "off"
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


def parameter(default: Number, label: str, text: str, **spec: Any) -> Any:
    """A dataclass field that carries its spec, for `specs_of` to find."""
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


def specs_of(described: type) -> tuple[ParameterSpec, ...]:
    """The specs of a dataclass's fields, in their order."""
    return tuple(ParameterSpec(name=item.name, **item.metadata) for item in fields(described) if item.metadata)
