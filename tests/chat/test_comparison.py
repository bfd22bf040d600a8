"""What a person types to compare settings or sweep one, and where two replies part."""

from __future__ import annotations

from typing import Any

import pytest

from llmchat.chat.comparison import (
    Variant,
    first_difference,
    parse_comparison,
    parse_sweep,
    split_prompt,
)
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.presets import apply_preset
from llmchat.errors import UsageError

BASE = GenerationConfig(temperature=0.7, min_p=0.05, seed=9, max_new_tokens=30)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["temperature=0.3", "temp=1.2"],
            {"temperature=0.3": {"temperature": 0.3}, "temperature=1.2": {"temperature": 1.2}},
        ),
        (
            ["temperature=0.3,top-k=20", "now"],
            {"temperature=0.3, top_k=20": {"temperature": 0.3, "top_k": 20}, "now": {}},
        ),
        (["min_p=off"], {"now": {}, "min_p=0": {"min_p": 0.0}}),
        (["do_sample=off", "NOW"], {"do_sample=off": {"do_sample": False}, "now": {}}),
    ],
)
def test_values_change_the_present_settings(words: list[str], expected: dict[str, dict[str, Any]]) -> None:
    """Each variant is the present settings with what was named; one alone is compared with them."""
    variants = parse_comparison(words, BASE)
    assert {variant.label: variant.config for variant in variants} == {
        label: BASE.changed(**values) for label, values in expected.items()
    }


def test_presets_can_be_compared_and_changed() -> None:
    """A preset gives its settings, keeps length and dice, and values may follow it."""
    greedy, creative = parse_comparison(["greedy", "Creative,top_k=5"], BASE)
    assert greedy == Variant("Greedy", apply_preset("Greedy", BASE))
    assert creative == Variant("Creative, top_k=5", apply_preset("Creative", BASE).changed(top_k=5))


def test_a_temperature_is_drawn_with() -> None:
    """Naming a temperature means sampling, also where the present settings are greedy."""
    variants = parse_comparison(["temperature=0.5", "top_p=0.5"], BASE.changed(do_sample=False))
    assert [variant.config.do_sample for variant in variants] == [True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "two to four"),
        (["now"] * 5, "At most 4"),
        (["temprature=1"], "Did you mean temperature"),
        (["temperature=9"], "from 0 to 5"),
        (["top_k=2.5"], "a whole number"),
        (["creativ"], "Did you mean creative"),
        (["top_k"], "top_k needs a value"),
        (["zebra"], "neither a setting nor a preset"),
        (["temperature=0.3,creative"], "A preset comes first"),
        (["temperature=0.3,"], "comma too many"),
        (["seed=3", "seed=4"], "same dice"),
        (["min_new_tokens=99"], "must not be above max_new_tokens"),
    ],
)
def test_mistakes_in_a_comparison_are_refused_in_a_line(words: list[str], said: str) -> None:
    """The line says what is wrong and what would be right."""
    with pytest.raises(UsageError, match=said):
        parse_comparison(words, BASE)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("temperature 0.2..1.4 4", "temperature", (0.2, 0.6, 1.0, 1.4)),
        ("temperature:0.2..1.4:4", "temperature", (0.2, 0.6, 1.0, 1.4)),
        ("temp=1..0", "temperature", (1.0, 0.75, 0.5, 0.25, 0.0)),
        ("temperature 0.2,0.8, 1.2", "temperature", (0.2, 0.8, 1.2)),
        ("top_k 1..4 3", "top_k", (1, 3, 4)),
        ("top_k 1..3 9", "top_k", (1, 2, 3)),
        ("top-k off,20,20,50", "top_k", (0, 20, 50)),
        ("frequency_penalty -1..1 3", "frequency_penalty", (-1.0, 0.0, 1.0)),
    ],
)
def test_a_sweep_goes_over_values(text: str, name: str, values: tuple[float, ...]) -> None:
    """Ranges with a count, or lists; whole numbers stay whole, and no value comes twice."""
    parameter, variants = parse_sweep(text, BASE)
    assert parameter == name
    assert tuple(getattr(variant.config, name) for variant in variants) == values
    assert all(set(variant.config.difference(BASE)) <= {name} for variant in variants)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a parameter and its values"),
        ("temperature", "needs a parameter and its values"),
        ("temperature 0..1 5 6", "needs a parameter and its values"),
        ("temprature 0..1", "Did you mean temperature"),
        ("stop 0..1", "is no number"),
        ("seed 1..5", "is no number"),
        ("temperature 0..9", "from 0 to 5"),
        ("temperature 0..", "takes a number"),
        ("temperature 1..1", "two different ends"),
        ("temperature 0..1 1", "from 2 to 32"),
        ("temperature 0..1 x", "from 2 to 32"),
        ("temperature 0.1,0.2 2", "a list of values needs none"),
        ("temperature ,", "from 1 to 32 values"),
        ("top_k " + ",".join(map(str, range(40))), "from 1 to 32 values"),
    ],
)
def test_mistakes_in_a_sweep_are_refused_in_a_line(text: str, said: str) -> None:
    """The line says what is wrong and what would be right."""
    with pytest.raises(UsageError, match=said):
        parse_sweep(text, BASE)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("greedy creative", ("greedy creative", None)),
        ("greedy -- Tell me -- all", ("greedy", "Tell me -- all")),
        ("greedy --", ("greedy", None)),
        ("greedy -- ", ("greedy", None)),
        ("-- Hi", ("", "Hi")),
        ("stop=a--b", ("stop=a--b", None)),
    ],
)
def test_a_message_may_follow_two_dashes(text: str, parts: tuple[str, str | None]) -> None:
    """The first " -- " parts settings and message."""
    assert split_prompt(text) == parts


@pytest.mark.parametrize(
    ("one", "other", "index"),
    [
        ([], [], None),
        ([1, 2], [1, 2], None),
        ([1, 2], [1, 3], 1),
        ([1], [2], 0),
        ([1, 2], [1, 2, 3], 2),
        ([], [1], 0),
    ],
)
def test_the_first_token_that_differs(one: list[int], other: list[int], index: int | None) -> None:
    """Where one text ends before, that is where they part."""
    assert first_difference(one, other) == first_difference(other, one) == index
