"""Variables of a chat template that a person sets, such as whether the model thinks.

Each is kept as NAME=VALUE, the value as TOML has it: enable_thinking=false, reasoning_effort="low".
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from llmchat.errors import UsageError

THINK_WORDS = ("on", "off", "low", "medium", "high")
"""How a model can be told to think."""

_SWITCH = {"on": "true", "off": "false"}

_THINKING: Mapping[str, Mapping[str, str]] = {
    "enable_thinking": _SWITCH,
    "thinking": _SWITCH,
    "reasoning": _SWITCH,
    "reasoning_effort": {"low": '"low"', "medium": '"medium"', "high": '"high"'},
    "thinking_budget": {"on": "-1", "off": "0", "low": "512", "medium": "2048", "high": "8192"},
}
"""The variables by which models' templates are told how to think, and what the words mean there: Qwen 3, GLM and
Gemma 4; DeepSeek V3.1 and Granite; Command A; gpt-oss; Seed-OSS."""

_OURS = (
    "messages", "add_generation_prompt", "bos_token", "eos_token", "unk_token", "raise_exception", "strftime_now",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BARE = re.compile(r"[A-Za-z][\w./-]*")
_WORDS = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
_LONGEST = 4000


def canonical_argument(typed: str) -> str:
    """A variable and its value as they are kept; a single word needs no quotes.

    Raises:
        UsageError: It is no NAME=VALUE, the template's own name, or its value is no TOML.
    """
    name, equals, text = (part.strip() for part in typed.partition("="))
    if not equals or not text or not _NAME.fullmatch(name):
        raise UsageError(f"A template's variable is given as NAME=VALUE, such as enable_thinking=false, not {typed!r}.")
    if name in _OURS:
        raise UsageError(f"{name} is what llmchat itself tells the template; it cannot be set.")
    return f"{name}={_toml(_value(name, text))}"


def template_values(arguments: Iterable[str]) -> dict[str, Any]:
    """What a template is told: each variable's value."""
    parts = (argument.partition("=") for argument in arguments)
    return {name: _read(text) for name, _, text in parts}


def with_arguments(arguments: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    """Variables with some of them set anew; each once, by name."""
    values = {argument.partition("=")[0]: argument for argument in (*arguments, *more)}
    return tuple(values[name] for name in sorted(values))


def unknown_arguments(arguments: Iterable[str], variables: Collection[str]) -> str:
    """That a template does not know some of what it is told, as a sentence; "" if it knows all."""
    names = [name for argument in arguments if (name := argument.partition("=")[0]) not in variables]
    if not names:
        return ""
    return f"The chat template knows no variable {' or '.join(names)}; it is left as it is."


def think_arguments(word: str, arguments: Iterable[str], variables: Collection[str]) -> tuple[str, ...]:
    """The variables under which a model thinks as a word says.

    Args:
        word: One of THINK_WORDS.
        arguments: The variables that are set.
        variables: Those that the model's template knows.

    Raises:
        UsageError: The template knows none that could say it.
    """
    known = {name: meanings for name, meanings in _THINKING.items() if name in variables}
    if not known:
        raise UsageError("This model's chat template knows no variable that says whether or how it thinks.")
    said = [f"{name}={meanings[word]}" for name, meanings in known.items() if word in meanings]
    if not said:
        words = [one for one in THINK_WORDS if any(one in meanings for meanings in known.values())]
        raise UsageError(f"This model's chat template knows {' and '.join(known)}: {', '.join(words)}, not {word}.")
    if word not in ("on", "off"):
        said += [f"{name}=true" for name, meanings in known.items() if word not in meanings]
    others = (argument for argument in arguments if argument.partition("=")[0] not in known)
    return with_arguments(others, said)


def thinking_words(arguments: Iterable[str], variables: Collection[str]) -> str:
    """How a model is told to think, as a sentence."""
    told = [argument for argument in arguments if argument.partition("=")[0] in _THINKING]
    known = [name for name in _THINKING if name in variables]
    if not known:
        return "This model's chat template knows no variable that says whether or how it thinks."
    words = [word for word in THINK_WORDS if any(word in _THINKING[name] for name in known)]
    state = f"Told to the template: {', '.join(told)}." if told else "The template decides whether and how it thinks."
    return f"{state} /think takes {', '.join(words)}."


def _value(name: str, text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    wrong = UsageError(f'{name} takes a value of TOML, such as false, 3 or "low", not {text!r}.')
    if len(text) > _LONGEST or "\n" in text:
        raise wrong
    try:
        value = _read(text)
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        # A date, or what is no number, is no TOML either as far as templates go.
        if _BARE.fullmatch(text) and text.lower() not in ("nan", "inf"):
            return text
        raise wrong from None
    return value


def _read(text: str) -> Any:
    import tomllib

    return tomllib.loads(f"value = {text}")["value"]


def _toml(value: Any) -> str:
    """A value as TOML has it, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
