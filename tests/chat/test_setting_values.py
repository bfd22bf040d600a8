"""The added samplers' settings, and those that are no plain numbers: kept, typed, checked, put in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from llmchat.chat.generation_config import SAMPLER_ORDER, SAMPLING_SPECS, GenerationConfig, check_bans, parse_setting
from llmchat.chat.setting_values import SETTING_KINDS
from llmchat.errors import UsageError


def test_the_defaults_that_transcripts_leave_out() -> None:
    """Old transcripts replay only while these stay; those that switch something on are off."""
    main = {spec.name for spec in SAMPLING_SPECS if spec.group == "main"} | {"do_sample", "seed", "stop"}
    left_out = {name: value for name, value in GenerationConfig().values().items() if name not in main}
    assert left_out == {
        "lora_scale": 1.0,
        "typical_p": 1.0,
        "top_n_sigma": 0.0,
        "xtc_probability": 0.0,
        "xtc_threshold": 0.1,
        "xtc_spares_ends": True,
        "dry_multiplier": 0.0,
        "dry_base": 1.75,
        "dry_allowed_length": 2,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "penalty_window": 0,
        "dynatemp_range": 0.0,
        "dynatemp_exponent": 1.0,
        "mirostat_tau": 0.0,
        "mirostat_eta": 0.1,
        "dry_breakers": ("\n", ":", '"', "*"),
        "banned_tokens": (),
        "temperature_last": False,
        "prompt_lookup": True,
        "sampler_order": (
            "penalties",
            "dry",
            "top_n_sigma",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "xtc",
        ),
        "template_args": (),
    }
    assert all(spec.neutral in (None, spec.default) for spec in SAMPLING_SPECS if spec.group == "more")


EVERYTHING = GenerationConfig(
    lora_scale=0.5,
    typical_p=0.9, top_n_sigma=1.5, xtc_probability=0.5, xtc_threshold=0.2, dry_multiplier=0.8, dry_base=2,
    dry_allowed_length=3, dry_breakers=("\n", "x"), frequency_penalty=-0.5, presence_penalty=0.5, penalty_window=64,
    dynatemp_range=0.5, dynatemp_exponent=2, mirostat_tau=5, mirostat_eta=0.2, banned_tokens=(9, 3),
    xtc_spares_ends=False, temperature_last=True, sampler_order=SAMPLER_ORDER[::-1], stop=("a",), seed=3,
    template_args=("enable_thinking=false",), prompt_lookup=False,
)  # fmt: skip


def test_every_kind_of_setting_comes_back_from_a_mapping() -> None:
    """What is kept gives the same config, whatever is set; what does nothing is not kept."""
    assert GenerationConfig.from_mapping(EVERYTHING.to_mapping()) == EVERYTHING
    assert GenerationConfig.from_mapping(EVERYTHING.difference()) == EVERYTHING
    assert EVERYTHING.to_mapping()["banned_tokens"] == "3 9"
    assert set(EVERYTHING.to_mapping()) == set(EVERYTHING.values())
    kept = GenerationConfig(dry_multiplier=1, xtc_threshold=0.3).to_mapping()
    added = set(kept) - set(GenerationConfig().to_mapping())
    assert added == {"dry_multiplier", "dry_base", "dry_allowed_length", "dry_breakers", "xtc_threshold"}
    assert GenerationConfig.from_mapping(kept) == GenerationConfig(dry_multiplier=1, xtc_threshold=0.3)


@pytest.mark.parametrize("name", sorted(SETTING_KINDS))
def test_what_is_kept_of_a_setting_can_be_typed(name: str) -> None:
    """`/set` understands flags, seeds, strings, ids and orders."""
    value = getattr(EVERYTHING, name)
    words = value if isinstance(value, tuple) else (value,)
    text = " ".join(str(word).replace("\n", "\\n") for word in words)
    assert parse_setting(name, text) == (name, value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("dry_breakers", r"\n \s\t :", ("\n", " \t", ":")),
        ("dry_breakers", "off", ()),
        ("banned_tokens", "7, 5 5", (5, 7)),
        ("banned_tokens", "none", ()),
        ("sampler_order", "", SAMPLER_ORDER),
        ("sampler_order", "default", SAMPLER_ORDER),
        ("sampler_order", "off", SAMPLER_ORDER),
        ("sampler-order", "xtc,typical-p,min-p,top-p,top-k,temperature,Top-n-sigma,dry,penalties", SAMPLER_ORDER[::-1]),
        ("temperature_last", "on", True),
        ("penalty_window", "all", 0),
        ("typical", "off", 1.0),
    ],
)
def test_other_ways_to_type_a_setting(name: str, text: str, value: object) -> None:
    """Commas, dashes and words for nothing are understood."""
    assert parse_setting(name, text)[1] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("banned_tokens", "seven"),
        ("banned_tokens", (-1,)),
        ("banned_tokens", (2**31,)),
        ("banned_tokens", (True,)),
        ("banned_tokens", 5),
        ("dry_breakers", ("",)),
        ("dry_breakers", (1,)),
        ("temperature_last", 1),
        ("sampler_order", (*SAMPLER_ORDER, "xtc")),
        ("sampler_order", (*SAMPLER_ORDER, "mirostat")),
        ("sampler_order", "top_k top_q"),
        ("sampler_order", 5),
    ],
)
def test_what_is_no_such_value_is_refused(name: str, value: Any) -> None:
    """A wrong id, string or stage is answered with the setting's name."""
    with pytest.raises(UsageError, match=name):
        GenerationConfig(**{name: value})


@pytest.mark.parametrize(
    ("given", "fault"), [("top_q", "'top_q' is none of them"), ("xtc top_k xtc", "'xtc' is there twice")]
)
def test_what_is_wrong_with_an_order_is_told(given: str, fault: str) -> None:
    """And that some of the stages are enough, and how the usual order comes back."""
    with pytest.raises(UsageError, match=f"takes some or all of .* or off for this, the usual order: {fault}"):
        parse_setting("sampler_order", given)


def test_the_order_in_which_the_stages_act() -> None:
    """Bans come first, `temperature_last` moves the temperature, greedy and Mirostat replace the filters."""
    assert GenerationConfig().stages == ("bans", *SAMPLER_ORDER)
    assert GenerationConfig(temperature_last=True).stages[-2:] == ("xtc", "temperature")
    assert sorted(GenerationConfig(temperature_last=True).stages) == sorted(("bans", *SAMPLER_ORDER))
    assert GenerationConfig(do_sample=False).stages == ("bans", "penalties", "dry", "greedy")
    assert GenerationConfig(mirostat_tau=5).stages == ("bans", "penalties", "dry", "temperature", "mirostat")
    assert GenerationConfig(sampler_order=SAMPLER_ORDER[::-1]).stages == ("bans", *SAMPLER_ORDER[::-1])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("top_k",), SAMPLER_ORDER),
        (
            ("top_p", "top_k"),
            ("penalties", "dry", "top_n_sigma", "temperature", "top_p", "min_p", "typical_p", "xtc", "top_k"),
        ),
        (SAMPLER_ORDER[:0:-1], ("penalties", *SAMPLER_ORDER[:0:-1])),
        (tuple(stage for stage in SAMPLER_ORDER if stage != "min_p"), SAMPLER_ORDER),
    ],
)
def test_stages_that_are_left_out_stand_behind_what_they_usually_follow(
    given: tuple[str, ...], meant: tuple[str, ...]
) -> None:
    """So an order that was kept before a stage was added means what it meant, and the stage is at its place."""
    assert GenerationConfig(sampler_order=given).sampler_order == meant
    assert GenerationConfig(sampler_order=" ".join(given)).sampler_order == meant  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("banned", "words"),
    [
        ((3, 9), "0 to 8"),
        (range(9), "leaves no token"),
        (range(8), "tokens that end a reply"),
        ((8,), ""),
        (range(7), ""),
    ],
)
def test_bans_that_leave_nothing_to_say_are_refused(banned: Sequence[int], words: str) -> None:
    """Ids past the vocabulary, a ban of all, and a ban of all but the end."""
    config = GenerationConfig(banned_tokens=tuple(banned))
    if not words:
        check_bans(config, 9, (8,))
        return
    with pytest.raises(UsageError, match=words):
        check_bans(config, 9, (8,))
