"""The settings that are no plain numbers: what each accepts, and how it is typed.

A value is checked when a config is made; typed text becomes a value first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llmchat.chat.quoting import NOTHING, typed_strings
from llmchat.chat.template_args import canonical_argument, with_arguments
from llmchat.errors import UsageError

Value = int | float | bool | str | tuple[str, ...] | tuple[int, ...] | None

SEED_LIMIT = 2**63
"""Seeds are whole numbers from 0 up to, not including, this."""

TOKEN_LIMIT = 2**31
"""Token ids are whole numbers from 0 up to, not including, this."""

SAMPLER_ORDER: tuple[str, ...] = (
    "penalties",
    "dry",
    "top_n_sigma",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "xtc",
)
"""The stages of the sampling chain in the order in which they act unless a person says otherwise.

Transcripts leave it out, so those that are here must keep their order; a new one may stand anywhere.
"""

DRY_BREAKERS = ("\n", ":", '"', "*")
"""The strings at which a repetition ends for DRY, as in llama.cpp."""

_WORDS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\s": " "}


@dataclass(frozen=True, slots=True)
class SettingKind:
    """What a setting accepts."""

    check: Callable[[str, object], Value]
    """Takes the setting's name and a value, gives the value in its own type or raises UsageError."""
    parse: Callable[[str, str], Value]
    """Takes the setting's name and typed text, gives a value, to be checked still."""
    words: tuple[str, ...] = ()
    """The words that can be typed for it."""
    is_list: bool = False
    """Whether it takes all of the words, each once, in any order."""
    is_quoted: bool = False
    """Whether quotes are its own to read."""


def roll_seed() -> int:
    """A new random seed of at most six digits, short enough to read out and type again."""
    return int.from_bytes(os.urandom(8), "little") % 1_000_000


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


def _parse_seed(name: str, text: str) -> int | None:
    word = text.strip().lower()
    if word in ("roll", "random", "none", "off"):
        return None
    try:
        return check_seed(int(word))
    except ValueError:
        raise UsageError(f"seed takes a whole number, or roll; not {text!r}.") from None


def _check_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false, not {value!r}.")
    return value


def _parse_flag(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in _WORDS:
        raise UsageError(f"{name} takes on or off, not {text!r}.")
    return _WORDS[word]


def _check_strings(name: str, value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if strings is None:
        return ()
    if not isinstance(strings, list | tuple) or not all(isinstance(item, str) for item in strings):
        raise UsageError(f"{name} must be strings, not {value!r}.")
    if not all(strings):
        raise UsageError(f"{name} must not hold an empty string: every text has that everywhere.")
    return tuple(strings)


def _parse_stop(name: str, text: str) -> tuple[str, ...]:
    return typed_strings(text)


def _parse_breakers(name: str, text: str) -> tuple[str, ...]:
    r"""Strings with spaces between; \n, \t and \s stand for what cannot be typed."""
    if text.strip().lower() in NOTHING:
        return ()
    words = text.split()
    for written, meant in _ESCAPES.items():
        words = [word.replace(written, meant) for word in words]
    return tuple(words)


def _check_ids(name: str, value: object) -> tuple[int, ...]:
    """Token ids, ascending, each once. A string holds them with spaces between."""
    if isinstance(value, str):
        value = _parse_ids(name, value)
    ids = () if value is None else value
    if not isinstance(ids, list | tuple) or not all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < TOKEN_LIMIT for item in ids
    ):
        raise UsageError(f"{name} takes token ids, whole numbers from 0 to {TOKEN_LIMIT - 1}, not {_as_typed(value)}.")
    return tuple(sorted(set(ids)))


def _as_typed(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else repr(value)


def _parse_ids(name: str, text: str) -> tuple[int, ...]:
    if text.strip().lower() in NOTHING:
        return ()
    try:
        return tuple(int(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise UsageError(f"{name} takes token ids with spaces between, not {text!r}.") from None


def _check_order(name: str, value: object) -> tuple[str, ...]:
    """Every stage once; those that are left out stand behind what they usually follow.

    A string holds them with spaces between; nothing, or "off", is the usual order.
    """
    stages = _parse_order(name, value) if isinstance(value, str) else value
    if stages is None:
        return SAMPLER_ORDER
    if not isinstance(stages, list | tuple) or not all(isinstance(item, str) for item in stages):
        raise UsageError(f"{name} takes the stages {', '.join(SAMPLER_ORDER)} in any order, not {value!r}.")
    if wrong := [stage for stage in stages if stage not in SAMPLER_ORDER or stages.count(stage) > 1]:
        fault = "there twice" if wrong[0] in SAMPLER_ORDER else "none of them"
        raise UsageError(
            f"{name} takes some or all of {', '.join(SAMPLER_ORDER)}, or off for this, the usual order: "
            f"{wrong[0]!r} is {fault}."
        )
    order = list(stages)
    for place, stage in enumerate(SAMPLER_ORDER):
        if stage not in order:
            before = SAMPLER_ORDER[place - 1] if place else None
            order.insert(0 if before is None else order.index(before) + 1, stage)
    return tuple(order)


def _parse_order(name: str, text: str) -> tuple[str, ...]:
    words = text.replace(",", " ").replace("-", "_").lower().split()
    return SAMPLER_ORDER if " ".join(words) in (*NOTHING, "default") else tuple(words)


def _check_arguments(name: str, value: object) -> tuple[str, ...]:
    """Variables of the chat template, each NAME=VALUE, by name; of one that is there twice the last counts."""
    if value is not None and not isinstance(value, str | list | tuple):
        raise UsageError(f'{name} takes strings such as "enable_thinking=false", not {value!r}.')
    return with_arguments((), map(canonical_argument, _check_strings(name, value)))


def _parse_arguments(name: str, text: str) -> tuple[str, ...]:
    """Variables with spaces between; one whose value has spaces stands in quotes as a whole."""
    if text.strip().lower() in NOTHING:
        return ()
    return typed_strings(text) if text.strip()[0] in "\"'[" else tuple(text.split())


_FLAG = SettingKind(_check_flag, _parse_flag, ("on", "off"))

SETTING_KINDS: Mapping[str, SettingKind] = {
    "do_sample": _FLAG,
    "seed": SettingKind(lambda _, value: check_seed(value), _parse_seed, ("roll",)),
    "stop": SettingKind(_check_strings, _parse_stop, ("off",), is_quoted=True),
    "dry_breakers": SettingKind(_check_strings, _parse_breakers),
    "banned_tokens": SettingKind(_check_ids, _parse_ids),
    "xtc_spares_ends": _FLAG,
    "temperature_last": _FLAG,
    "prompt_lookup": _FLAG,
    "template_args": SettingKind(_check_arguments, _parse_arguments, is_quoted=True),
    "sampler_order": SettingKind(_check_order, _parse_order, SAMPLER_ORDER, is_list=True),
}
"""Every setting that is no plain number, by the field of `GenerationConfig`."""
