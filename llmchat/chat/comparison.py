"""Comparisons and sweeps: settings to be tried side by side, from what a person typed.

    "temperature=0.3"  "creative"  "temperature=0.3,top_k=20"   a comparison of two to four
    "temperature 0.2..1.4 6"   "top_k:20,50,100"                a sweep over one parameter

All of them throw the same dice, so a seed cannot be among what differs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmchat.chat.generation_config import (
    SPEC_BY_NAME,
    GenerationConfig,
    Number,
    ParameterSpec,
    Value,
    canonical_name,
    parse_setting,
)
from llmchat.chat.presets import PRESETS, apply_preset
from llmchat.errors import UsageError

MOST_COLUMNS = 4
"""The most replies of a comparison."""

MOST_VALUES = 32
"""The most values of a sweep."""

USUAL_COUNT = 5
"""How many values a range has if no count is given."""

AS_IT_IS = "now"
"""The word for the present settings, unchanged."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings to be tried, and what to call them."""

    label: str
    """What differs from the present settings, such as "temperature=0.3, top_k=20"."""
    config: GenerationConfig


def split_prompt(text: str) -> tuple[str, str | None]:
    """Part the settings of a command from the prompt after " -- ".

    Returns:
        The settings as typed, and the prompt; None if there is none.
    """
    settings, separator, prompt = re.sub(r"^--(?=\s)", " --", text, count=1).partition(" -- ")
    if not separator:
        return text.removesuffix(" --").strip(), None
    return settings.strip(), prompt.strip() or None


def parse_comparison(words: Sequence[str], base: GenerationConfig) -> tuple[Variant, ...]:
    """The settings to compare.

    Args:
        words: Each a preset, "now", or values such as "temperature=0.3,top_k=20"; a preset may come
            before values. A single one is compared with the present settings.
        base: The present settings.

    Raises:
        UsageError: There are none or too many, or one of them is not understood.
    """
    if not words:
        raise UsageError("Name two to four settings to compare, such as temperature=0.3 temperature=1.2.")
    if len(words) == 1:
        words = (AS_IT_IS, *words)
    if len(words) > MOST_COLUMNS:
        raise UsageError(f"At most {MOST_COLUMNS} replies can be compared, not {len(words)}. /sweep takes more values.")
    return tuple(_variant(word, base) for word in words)


def parse_sweep(text: str, base: GenerationConfig) -> tuple[str, tuple[Variant, ...]]:
    """The settings of a sweep over one parameter.

    Args:
        text: Name, values and count with spaces or colons between: "temperature 0.2..1.4 6",
            "temperature:0.2..1.4:6", "top_k 20,50,100".
        base: The present settings.

    Returns:
        The parameter's name, and its values with their settings, in the order that was typed.

    Raises:
        UsageError: The parameter or its values are not understood.
    """
    parts = [part for part in re.split(r"[\s:=]+", re.sub(r",\s+", ",", text.strip())) if part]
    if not 2 <= len(parts) <= 3:
        raise UsageError("A sweep needs a parameter and its values, such as temperature 0.2..1.4 6 or top_k 20,50,100.")
    spec = _parameter(parts[0])
    values = _values(spec, parts[1], parts[2] if len(parts) == 3 else None)
    return spec.name, tuple(
        Variant(spec.format(value), base.changed(**_with_dice({spec.name: value}))) for value in values
    )


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The index of the first token that differs; where one ends before, its length; None if they are equal."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other)) if len(one) != len(other) else None


def _variant(word: str, base: GenerationConfig) -> Variant:
    """The settings that one word of a comparison means."""
    parts = [part.strip() for part in word.split(",")]
    if not all(parts):
        raise UsageError(f"{word!r} has a comma too many; write temperature=0.3,top_k=20 without spaces.")
    config, labels, values = base, [], dict[str, Value]()
    if "=" not in parts[0]:
        name, config = _named(parts.pop(0), base)
        labels.append(name)
    for part in parts:
        name, value = _setting(part)
        values[name] = value
        labels.append(f"{name}={_shown(name, value)}")
    return Variant(", ".join(labels), config.changed(**_with_dice(values)))


def _named(word: str, base: GenerationConfig) -> tuple[str, GenerationConfig]:
    """The settings that a bare word means: a preset, or the present ones."""
    if word.lower() == AS_IT_IS:
        return AS_IT_IS, base
    known = {preset.lower(): preset for preset in PRESETS}
    if name := known.get(word.lower()):
        return name, apply_preset(name, base)
    if near := difflib.get_close_matches(word.lower(), [*known, AS_IT_IS], n=1):
        raise UsageError(f"There is no preset called {word!r}. Did you mean {near[0]}?")
    try:
        name = canonical_name(word)
    except UsageError:
        raise UsageError(
            f"{word!r} is neither a setting nor a preset. Write name=value, {AS_IT_IS}, or one of {', '.join(known)}."
        ) from None
    raise UsageError(f"{name} needs a value: {name}=…")


def _setting(part: str) -> tuple[str, Value]:
    """One name=value of a comparison."""
    typed_name, equals, text = part.partition("=")
    if not equals:
        raise UsageError(f"{part!r} needs a value: {part}=… A preset comes first: {part},temperature=0.3.")
    name, value = parse_setting(typed_name, text)
    if name == "seed":
        raise UsageError("All replies of a comparison throw the same dice; set them with /seed or --seed.")
    if name == "template_args":
        raise UsageError(
            "All replies of a comparison answer one prompt; set its variables with /set or --template-arg."
        )
    return name, value


def _with_dice(values: dict[str, Value]) -> dict[str, Value]:
    """The values, with drawing at random switched on where a temperature is named, as /set does it."""
    return {"do_sample": True, **values} if "temperature" in values else values


def _shown(name: str, value: Value) -> str:
    spec = SPEC_BY_NAME.get(name)
    if spec is not None and isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _parameter(word: str) -> ParameterSpec:
    """The numeric parameter that a word means."""
    name = canonical_name(word)
    if name not in SPEC_BY_NAME:
        raise UsageError(f"{name} is no number, so nothing can be swept. Choose one such as temperature or top_k.")
    return SPEC_BY_NAME[name]


def _values(spec: ParameterSpec, text: str, count: str | None) -> tuple[Number, ...]:
    """The values of "0.2..1.4" with a count, or of "20,50,100"."""
    low, dots, high = text.partition("..")
    if not dots:
        if count is not None:
            raise UsageError("A count goes with a range such as 0.2..1.4; a list of values needs none.")
        values = tuple(dict.fromkeys(spec.parse(word) for word in text.split(",") if word.strip()))
        if not values or len(values) > MOST_VALUES:
            raise UsageError(f"A sweep takes from 1 to {MOST_VALUES} values, not {len(values)}.")
        return values
    first, last = spec.parse(low), spec.parse(high)
    if first == last:
        raise UsageError(f"The range {text} has only one value; give two different ends.")
    steps = _count(count) - 1
    even = (first + (last - first) * step / steps for step in range(steps + 1))
    return tuple(dict.fromkeys(int(value + 0.5) if spec.is_integer else round(value, 6) for value in even))


def _count(text: str | None) -> int:
    if text is None:
        return USUAL_COUNT
    if not (text.isascii() and text.isdigit() and 2 <= int(text) <= MOST_VALUES):
        raise UsageError(f"The count of a sweep is a whole number from 2 to {MOST_VALUES}, not {text!r}.")
    return int(text)
