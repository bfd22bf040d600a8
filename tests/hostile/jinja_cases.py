"""Chat templates: real ones damaged, and made ones that try to take time, memory, or Python's insides."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

from llmchat.chat.turn import Turn
from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES
from llmchat.tokenizers.loading import load_tokenizer
from llmchat.tokenizers.prompt_style import load_prompt_style
from llmchat.tokenizers.tokenizer import Tokenizer
from tests.hostile.damage import damaged_text
from tests.hostile.jinja_pieces import ALONE, GROWTHS, SEEDS, USES
from tests.hostile.opened import DATA

_NAME = "template.jinja"
_TURNS = (Turn("system", "Be brief."), Turn("user", "Hello there"), Turn("assistant", "Yes?"), Turn("user", "Say more"))


@cache
def _tokenizers() -> dict[str, Tokenizer]:
    names = ("huggingface/llama", "llmbuilder-2.0.0-tiny/tokenizer", "llmbuilder-formats/1.0.0/tok_hf")
    return {name: load_tokenizer(DATA / name) for name in names}


@cache
def _real() -> tuple[str, ...]:
    more = tuple(path.read_text() for path in sorted(DATA.rglob("*.jinja")))
    return (*BUILT_IN_TEMPLATES.values(), *more)


def sound(place: Path) -> None:
    """A template that is rendered."""
    (place / _NAME).write_text(BUILT_IN_TEMPLATES["chatml"])


def write(rng: Random, place: Path) -> None:
    """A template of one of the kinds."""
    make = rng.choice((_grown, _grown, _grown, _alone, _mutated, _mutated, _nested, _combined))
    (place / _NAME).write_bytes(make(rng) if make is _mutated else _encoded(make(rng)))


def _encoded(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _alone(rng: Random) -> str:
    return rng.choice(("", *_real())) + rng.choice(ALONE)


def _mutated(rng: Random) -> bytes:
    text = rng.choice(_real())
    pieces = (
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "(",
        ")",
        "[",
        "]",
        "'",
        "|",
        "messages",
        "endfor",
        "if",
        "%",
        "-",
        "~",
        "\\",
    )
    for _ in range(rng.choice((1, 2, 5, 20))):
        at = rng.randrange(len(text) + 1)
        text = rng.choice((text[:at] + rng.choice(pieces) + text[at:], text[:at] + text[at + rng.choice((1, 3, 20)) :]))
    return damaged_text(rng, text)


def _grown(rng: Random) -> str:
    """A value that grows again and again in a loop, and is then used."""
    steps = "".join(f"{{% set ns.x = {_growth(rng, 'ns.x')} %}}" for _ in range(rng.choice((1, 1, 2))))
    loops = rng.choices(("range(3)", "range(12)", "range(40)", "range(99999)", "messages"), (4, 4, 4, 1, 2))[0]
    use = rng.choice(USES).format(x="ns.x")
    return f"{{% set ns = namespace(x={rng.choice(SEEDS)}) %}}{{% for i in {loops} %}}{steps}{{% endfor %}}{use}"


def _growth(rng: Random, value: str) -> str:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = f"({rng.choice(GROWTHS).format(x=value)})"
    return value


def _combined(rng: Random) -> str:
    """Expressions without a loop, one in the other."""
    return "".join(
        rng.choice(USES).format(x=_growth(rng, f"({rng.choice(SEEDS)})")) for _ in range(rng.choice((1, 2, 5)))
    )


def _nested(rng: Random) -> str:
    """The same thing so often that the parser or the compiler gives up."""
    count = rng.choice((5, 19, 21, 90, 300, 1000, 5000, 100_000))
    opening, middle, closing = rng.choice(
        (
            ("{{ " + "(" * count, "1", ")" * count + " }}"),
            ("{{ " + "[" * count, "", "]" * count + " }}"),
            ("{{ " + "not " * count, "1", " }}"),
            ("{{ 1" + " + 1" * count, "", " }}"),
            ("{{ 'a'" + "|upper" * count, "", " }}"),
            ("{{ messages" + ".a" * count, "", " }}"),
            ("{{ messages" + "[0]" * count, "", " }}"),
            ("{% if 1 %}" * count, "a", "{% endif %}" * count),
            ("{% for x in messages %}" * count, "a", "{% endfor %}" * count),
            ("{% macro f() %}" * count, "a", "{% endmacro %}" * count),
            ("{{ " + "-" * count, "1", " }}"),
            ("{{ 1", " < 1" * count, " }}"),
            ("{{ 'a' if 1 else " * 1 + "'a' if 1 else " * count, "1", " }}"),
            ("{% set x %}" * count, "a", "{% endset %}" * count),
            ("{{ 1 }}" * count, "", ""),
            ("{% filter upper %}" * count, "a", "{% endfilter %}" * count),
            ("{{ f(" + "a=1, " * count, "", ") }}"),
            ("{{ '", "\\\\" * count, "' }}"),
            ("{# ", "#" * count, " #}"),
            ("{{ x" + "~x" * count, "", " }}"),
            ("{{ {" + "1:{" * count, "", "}" * count + "} }}"),
            ("{% raw %}" * count, "", ""),
            ("{{ ", "9" * count, " }}"),
            ("{{ 0x", "f" * count, " }}"),
            ("{{ 1e", "9" * count, " }}"),
            ("{% generation %}" * count, "a", "{% endgeneration %}" * count),
            ("{{ ", "x" * count, " }}"),
            ("{% set a, b = ", "(1, 2)" + ", (1, 2)" * count, " %}"),
            ("{%- " * count, "", ""),
            ("{{ " + "1 ** " * min(count, 300), "1", " }}"),
            ("{% block a%s %}", "a", "{% endblock %}"),
        )
    )
    return opening + middle + closing


def attempt(place: Path) -> None:
    """Compile it for a tokenizer, and make a prompt of a conversation with it."""
    path = place / _NAME
    tokenizers: list[Tokenizer] = list(_tokenizers().values())
    style = load_prompt_style(path, tokenizers[path.stat().st_size % len(tokenizers)])
    style.encode(_TURNS, prefill_text="")
    _ = style.stop_strings
