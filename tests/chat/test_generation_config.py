"""Every sampling parameter: what it accepts, what it says, how a slider shows it."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from llmchat.chat.generation_config import (
    SAMPLER_ORDER,
    SAMPLING_SPECS,
    SEED_LIMIT,
    SPEC_BY_NAME,
    GenerationConfig,
    ParameterSpec,
    canonical_name,
    parse_setting,
    roll_seed,
)
from llmchat.chat.presets import PRESETS, apply_preset, matching_preset
from llmchat.chat.setting_values import SETTING_KINDS
from llmchat.errors import UsageError

each_spec = pytest.mark.parametrize("spec", SAMPLING_SPECS, ids=lambda spec: spec.name)


def test_the_promised_defaults() -> None:
    """The defaults are those that README and help state."""
    assert GenerationConfig().to_mapping() == {
        "temperature": 0.8,
        "top_k": 50,
        "top_p": 0.9,
        "min_p": 0.0,
        "repetition_penalty": 1.1,
        "min_new_tokens": 0,
        "max_new_tokens": 512,
        "do_sample": True,
        "stop": (),
    }


def test_every_number_has_one_description() -> None:
    """A numeric field without a spec would have no flag and no slider."""
    others = set(SETTING_KINDS)
    assert {item.name for item in fields(GenerationConfig)} == {spec.name for spec in SAMPLING_SPECS} | others
    for spec in SAMPLING_SPECS:
        assert spec.label and spec.help.endswith(".")
        assert spec.minimum <= spec.shown[0] < spec.shown[1] <= spec.maximum
        assert spec.neutral is None or spec.minimum <= spec.neutral <= spec.maximum


@each_spec
def test_the_range_is_exact_and_named(spec: ParameterSpec) -> None:
    """Both ends are accepted, the next value beyond is refused, and the message gives the range."""
    for end in (spec.minimum, spec.maximum):
        assert spec.check(end) == end
        assert spec.parse(str(end)) == end
    for beyond in (spec.minimum - 1, spec.maximum + 1):
        with pytest.raises(UsageError) as caught:
            spec.check(beyond)
        assert spec.name in caught.value.message and spec.range_text in caught.value.message


@each_spec
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "5", True, [1], b"1"])
def test_what_is_no_finite_number_is_refused(spec: ParameterSpec, value: Any) -> None:
    """NaN, infinities, text and truth values never reach the sampling chain."""
    with pytest.raises(UsageError, match=spec.name):
        GenerationConfig(**{spec.name: value})


@each_spec
@pytest.mark.parametrize("text", ["", "abc", "1,5", "nan", "inf", "--1", "1e999", "0x10"])
def test_what_is_typed_wrong_is_refused_with_the_range(spec: ParameterSpec, text: str) -> None:
    """A typing mistake is answered with what is accepted."""
    with pytest.raises(UsageError, match=r"takes|must be"):
        spec.parse(text)


def test_numbers_of_the_other_kind() -> None:
    """A whole float is a count; a fraction is not; a whole number is a temperature."""
    assert GenerationConfig(top_k=40.0).top_k == 40  # type: ignore[arg-type]
    assert isinstance(GenerationConfig(temperature=1).temperature, float)
    with pytest.raises(UsageError, match=r"top_k takes a whole number from 0 to 1000000, not 1\.5"):
        GenerationConfig(top_k=1.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"temperature must be from 0 to 5, not 9\."):
        GenerationConfig(temperature=9)


@pytest.mark.parametrize(
    ("name", "neutral"),
    [("top_k", 0), ("top_p", 1.0), ("min_p", 0.0), ("repetition_penalty", 1.0), ("temperature", 1.0)],
)
def test_off_and_none_are_the_neutral_value(name: str, neutral: float) -> None:
    """A parameter can be switched off by word, in Python and in TOML's stead; its exact value is reached."""
    assert parse_setting(name, "off") == (name, neutral)
    assert parse_setting(name, " None ") == (name, neutral)
    assert getattr(GenerationConfig(**{name: None}), name) == neutral  # type: ignore[arg-type]


def test_a_length_cannot_be_off() -> None:
    """There is no neutral number of tokens."""
    with pytest.raises(UsageError, match="max_new_tokens takes a whole number"):
        parse_setting("max_new_tokens", "off")
    with pytest.raises(UsageError, match="max_new_tokens"):
        GenerationConfig(max_new_tokens=None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"min_new_tokens \(9\) must not be above max_new_tokens \(5\)"):
        GenerationConfig(min_new_tokens=9, max_new_tokens=5)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("temp", "temperature"),
        (" Top-K ", "top_k"),
        ("repeat_penalty", "repetition_penalty"),
        ("max-tokens", "max_new_tokens"),
        ("SEED", "seed"),
    ],
)
def test_other_spellings_are_understood(typed: str, name: str) -> None:
    """Dashes, case and usual short names mean the field."""
    assert canonical_name(typed) == name


def test_an_unknown_name_gets_the_nearest() -> None:
    """A typing mistake is answered with the name that was meant, or with all of them."""
    with pytest.raises(UsageError, match=r"'temprature'\. Did you mean temperature\?"):
        canonical_name("temprature")
    with pytest.raises(UsageError, match="Known: temperature, top_k"):
        GenerationConfig.from_mapping({"zzzzzz": 1})


def test_seed_stop_and_sampling_are_parsed() -> None:
    """The fields that are no sliders can be typed too."""
    assert parse_setting("seed", " 8417 ") == ("seed", 8417)
    assert parse_setting("seed", "roll") == parse_setting("seed", "-1") == ("seed", None)
    assert parse_setting("stop", "User:") == ("stop", ("User:",))
    assert parse_setting("stop", "") == ("stop", ())
    assert parse_setting("do_sample", "off") == ("do_sample", False)
    assert parse_setting("do-sample", "Yes") == ("do_sample", True)
    for name, text in (("seed", "lucky"), ("seed", "-7"), ("do_sample", "maybe")):
        with pytest.raises(UsageError, match=name):
            parse_setting(name, text)


def test_seeds_fit_everywhere() -> None:
    """A seed is a whole number that TOML can hold; a rolled one is short enough to read out."""
    assert GenerationConfig(seed=SEED_LIMIT - 1).seed == SEED_LIMIT - 1
    for bad in (SEED_LIMIT, -2, 1.5, True, "1"):
        with pytest.raises(UsageError, match="seed must be"):
            GenerationConfig(seed=bad)  # type: ignore[arg-type]
    assert all(0 <= roll_seed() < 1_000_000 for _ in range(100))


def test_stop_strings_are_checked() -> None:
    """One string or several; an empty one would end every reply at once."""
    assert GenerationConfig(stop="x").stop == ("x",)  # type: ignore[arg-type]
    assert GenerationConfig(stop=["x", "y"]).stop == ("x", "y")  # type: ignore[arg-type]
    refused: tuple[Any, ...] = ("", ("x", ""), (1,), 5)
    for bad in refused:
        with pytest.raises(UsageError, match="stop must"):
            GenerationConfig(stop=bad)


def test_a_mapping_comes_back() -> None:
    """What is written to TOML or JSON gives the same config; a base keeps what is not named."""
    config = GenerationConfig(temperature=1.2, seed=7, stop=("x",), do_sample=False)
    assert GenerationConfig.from_mapping(config.to_mapping()) == config
    assert GenerationConfig.from_mapping({"temp": 0.5}, config) == config.changed(temperature=0.5)
    assert config.difference() == {"temperature": 1.2, "seed": 7, "stop": ("x",), "do_sample": False}
    assert config.difference(config) == {}


# ── sliders ──────────────────────────────────────────────────────────────────


@each_spec
def test_every_place_of_the_track_gives_an_accepted_value(spec: ParameterSpec) -> None:
    """A drag gives values in range, on the grid, that grow to the right; the ends are reached."""
    values = [spec.value_at(place / 200) for place in range(201)]
    assert values == sorted(values)
    assert all(spec.check(value) == value for value in values)
    assert values[0] == pytest.approx(spec.stepped(spec.shown[0], 0))
    assert values[-1] == spec.stepped(spec.shown[1], 0)
    assert spec.value_at(-1) == values[0] and spec.value_at(2) == values[-1]


@each_spec
def test_a_value_on_the_grid_survives_the_track(spec: ParameterSpec) -> None:
    """Showing a value and reading it back from its place changes nothing."""
    value: float = spec.stepped(spec.shown[0], 0)
    for _ in range(300):
        if value > spec.shown[1]:
            break
        assert spec.value_at(spec.position(value)) == value
        value = spec.stepped(value, 1)


@each_spec
def test_steps_stay_in_range_and_on_the_grid(spec: ParameterSpec) -> None:
    """Keys never leave the range, do not drift, and land on exact decimals."""
    for steps in (-(10**9), 10**9):
        assert spec.check(spec.stepped(spec.default, steps)) in (spec.minimum, spec.maximum)
    value: float = spec.default
    away = 1 if spec.default < spec.maximum else -1
    for _ in range(5):
        value = spec.stepped(value, away)
    for _ in range(5):
        value = spec.stepped(value, -away)
    assert value == spec.stepped(spec.default, 0)
    if not spec.is_integer:
        assert value == round(value, 2)


def test_values_are_shown_plainly() -> None:
    """Off is a word where there is nothing to see; a temperature of 1 is a number."""
    shown = {name: SPEC_BY_NAME[name].format(SPEC_BY_NAME[name].neutral or 0) for name in ("top_k", "top_p", "min_p")}
    assert set(shown.values()) == {"off"}
    assert SPEC_BY_NAME["temperature"].format(1.0) == "1.00"
    assert SPEC_BY_NAME["max_new_tokens"].format(512) == "512"


# ── presets, and what has no effect ──────────────────────────────────────────


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_sampling_and_keeps_the_rest(name: str) -> None:
    """Lengths, seed and stop strings are the person's; the preset is recognised afterwards."""
    mine = GenerationConfig(
        min_p=0.3, seed=7, max_new_tokens=9, min_new_tokens=3, stop=("x",), banned_tokens=(4,), dry_multiplier=1
    )
    config = apply_preset(name.upper(), mine)
    longest = PRESETS[name].get("max_new_tokens", 9)
    assert (config.seed, config.max_new_tokens, config.min_new_tokens, config.stop) == (7, longest, 3, ("x",))
    assert (config.min_p, config.dry_multiplier, config.banned_tokens) == (0.0, 0.0, (4,))
    assert matching_preset(config) == name
    assert matching_preset(config.changed(top_k=7)) is None


def test_the_promised_presets() -> None:
    """The presets are those of the README, and another name is refused with the known ones."""
    temperatures = [apply_preset(name).temperature for name in ("Conservative", "Balanced", "Creative")]
    assert temperatures == [0.3, 0.8, 1.5]
    assert apply_preset("Greedy").is_greedy
    with pytest.raises(UsageError, match="Known: Greedy, Conservative, Balanced, Creative"):
        apply_preset("Wild")


FILTERS = {"top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "xtc_probability", "temperature_last"}
HEAT = {"temperature", "dynatemp_range"}


@pytest.mark.parametrize(
    ("changed", "inactive"),
    [
        ({}, set()),
        ({"do_sample": False}, {*FILTERS, *HEAT, "mirostat_tau", "seed"}),
        ({"temperature": 0}, {*FILTERS, "dynatemp_range", "mirostat_tau", "seed"}),
        ({"top_k": 1}, {*FILTERS, *HEAT, "seed"} - {"top_k"}),
        ({"mirostat_tau": 3}, FILTERS),
        ({"mirostat_tau": 3, "top_k": 1}, FILTERS),
        ({"xtc_probability": 0.5, "xtc_threshold": 0.51}, {"xtc_probability"}),
        ({"repetition_penalty": 1}, {"penalty_window"}),
        ({"repetition_penalty": 1, "presence_penalty": -1}, set()),
        ({"repetition_penalty": 1, "dry_multiplier": 1}, set()),
    ],
)
def test_what_has_no_effect_is_known(changed: dict[str, Any], inactive: set[str]) -> None:
    """The sidebar dims what cannot change the next token; greedy is greedy however it is said."""
    config = GenerationConfig(**changed)
    belonging = {
        "dry_multiplier": {"dry_base", "dry_allowed_length", "dry_breakers"},
        "xtc_probability": {"xtc_threshold", "xtc_spares_ends"},
        "dynatemp_range": {"dynatemp_exponent"},
        "mirostat_tau": {"mirostat_eta"},
    }
    idle = {name for switch, names in belonging.items() if not getattr(config, switch) for name in names}
    assert config.inactive() - idle == inactive - idle
    assert idle <= config.inactive()
    assert config.is_greedy == ("seed" in inactive)


def test_a_filter_before_top_k_makes_its_one_token_another() -> None:
    """Top-k 1 is greedy only where nothing before it can remove the likeliest token."""
    order = ("xtc", "typical_p", *(stage for stage in SAMPLER_ORDER if stage not in ("xtc", "typical_p")))
    config = GenerationConfig(top_k=1, sampler_order=order)
    assert config.is_greedy
    assert not config.changed(xtc_probability=0.5).is_greedy
    assert not config.changed(typical_p=0.5).is_greedy
    assert config.changed(typical_p=0.5, sampler_order=SAMPLER_ORDER).is_greedy
