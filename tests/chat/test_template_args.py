"""Variables of a chat template: how they are typed and kept, and how a model is told to think."""

from __future__ import annotations

import pytest

from llmchat.chat.generation_config import GenerationConfig, parse_setting
from llmchat.chat.presets import apply_preset
from llmchat.chat.template_args import (
    canonical_argument,
    template_values,
    think_arguments,
    thinking_words,
    unknown_arguments,
)
from llmchat.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "kept", "value"),
    [
        ("enable_thinking=false", "enable_thinking=false", False),
        ("enable_thinking = Off", "enable_thinking=false", False),
        ("reasoning_effort=high", 'reasoning_effort="high"', "high"),
        ('reasoning_effort="high"', 'reasoning_effort="high"', "high"),
        ("thinking_budget=512", "thinking_budget=512", 512),
        ("share=0.5", "share=0.5", 0.5),
        ('tools=["a", {b = 1}]', 'tools=["a", {"b" = 1}]', ["a", {"b": 1}]),
        ("words=a=b", None, None),
        ("date=1979-05-27", None, None),
        ("count=nan", None, None),
        ("messages=[]", None, None),
        ("add_generation_prompt=false", None, None),
        ("_moment=1", None, None),
        ("x=", None, None),
        ("enable_thinking", None, None),
        ("x=two words", None, None),
    ],
)
def test_an_argument_is_a_name_and_a_value_of_toml(typed: str, kept: str | None, value: object) -> None:
    """A word needs no quotes, on and off are what they say; what no template is told is refused."""
    if kept is None:
        with pytest.raises(UsageError):
            canonical_argument(typed)
        return
    assert canonical_argument(typed) == kept == canonical_argument(kept)
    assert list(template_values([kept]).values()) == [value]


def test_arguments_are_a_setting_like_any_other() -> None:
    """Typed, kept by presets and in files; of one that comes twice the last counts."""
    _, value = parse_setting("template_args", "enable_thinking=off reasoning_effort=low enable_thinking=on")
    assert value == ("enable_thinking=true", 'reasoning_effort="low"')
    config = GenerationConfig(template_args=("a=1", "a=2"))
    assert config.template_args == ("a=2",)
    assert GenerationConfig.from_mapping(config.to_mapping()) == config
    assert apply_preset("Thinking", config).template_args == ("a=2",)
    assert parse_setting("template_args", "off")[1] == ()
    assert parse_setting("template_args", "\"words='two words'\"")[1] == ('words="two words"',)


def test_think_says_what_the_template_knows() -> None:
    """On, off and the efforts become its own variables; where it knows none, that is said."""
    both = {"enable_thinking", "reasoning_effort"}
    assert think_arguments("off", ("x=1",), {"enable_thinking"}) == ("enable_thinking=false", "x=1")
    assert think_arguments("high", (), {"reasoning_effort"}) == ('reasoning_effort="high"',)
    assert think_arguments("low", ("enable_thinking=false",), both) == (
        "enable_thinking=true",
        'reasoning_effort="low"',
    )
    assert think_arguments("off", ('reasoning_effort="low"',), both) == ("enable_thinking=false",)
    with pytest.raises(UsageError, match="reasoning_effort: low, medium, high, not off"):
        think_arguments("off", (), {"reasoning_effort"})
    with pytest.raises(UsageError, match="knows no variable"):
        think_arguments("on", (), {"tools"})
    assert "knows no variable" in thinking_words((), set())
    assert "/think takes on, off" in thinking_words((), {"thinking"})
    assert unknown_arguments(("a=1", "thinking=true"), {"thinking"}) == (
        "The chat template knows no variable a; it is left as it is."
    )


def test_the_preset_for_models_that_think_leaves_room() -> None:
    """It raises the length, and never lowers it."""
    assert apply_preset("Thinking").max_new_tokens == 8192
    assert apply_preset("Thinking", GenerationConfig(max_new_tokens=20_000)).max_new_tokens == 20_000
