"""The environment in which chat templates run: Jinja's sandbox, with what Hugging Face's offers and with limits.

It offers loop controls, `raise_exception`, `strftime_now`, `tojson` without HTML escapes, `{% generation %}` blocks.
The limits end most templates that grow or go round early and with a reason; `template_process` bounds the rest.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

_FREE_CHARS, _GROWTH = 1_000_000, 6
"""What a template may write beside what is said, and how often it may write that."""

MOMENT = "_moment"
"""The name of the value that says what `strftime_now` takes for now: local time as ISO 8601 has it."""

MAX_CHARS = 16_000_000
"""What a template may hold in one text."""

_MAX_NUMBER = 100_000
"""The largest number that a template may pair with text: widths, repeats, exponents."""

_WIDE_FORMAT = re.compile(r"[:%][^}a-zA-Z]*(\d{5}|\*)")
_GROWING_METHODS = ("center", "expandtabs", "ljust", "replace", "rjust", "zfill")
_GROWING_FILTERS = ("batch", "center", "format", "indent", "replace", "round", "slice", "wordwrap")

RENDER_ERRORS = (
    TemplateError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""Everything that a template's own mistakes raise."""


class EndlessError(SecurityError):
    """A template takes too long."""


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks replies for training: its content as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes inside the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with a deadline and with limits on what a single operation may build."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    deadline = float("inf")
    """In seconds of the processor."""

    def __init__(self) -> None:
        # What is computed while a template is read would not be bounded, so nothing is.
        extensions = [_GenerationBlock, loopcontrols]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions, optimized=False)
        self.filters["tojson"] = _to_json
        for name in _GROWING_FILTERS:
            self.filters[name] = _limited(name, self.filters[name])
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def check(self, length: int = 0) -> None:
        """Stop a template that works too long or builds too much.

        Raises:
            SecurityError: A limit is passed.
        """
        if time.process_time() > self.deadline:
            raise EndlessError("it does not end")
        if length > MAX_CHARS:
            raise SecurityError("it makes too much text")

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute, within the limits."""
        return self._checked(super().getattr(obj, attribute), obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item, within the limits."""
        return self._checked(super().getitem(obj, argument), obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call, within the limits."""
        __self.check()
        if getattr(__obj, "__name__", "") in _GROWING_METHODS:
            _limit_growth(getattr(__obj, "__self__", ""), *args, *kwargs.values())
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operation, within the limits."""
        self.check(_size(left) + _size(right))
        if operator == "*" and (_size(left) or _size(right)):
            _limit_product(_size(left) or _number(left), _size(right) or _number(right))
        elif operator == "%" and isinstance(left, str):
            _limit_format(left)
        elif operator in ("*", "**"):
            _limit_growth("", left, right)
        return super().call_binop(context, operator, left, right)

    def _checked(self, value: Any, obj: Any, name: object) -> Any:
        self.check(_size(value))
        if isinstance(obj, str) and name in ("format", "format_map"):
            _limit_format(obj)
        return value


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _number(value: object) -> float:
    return abs(value) if isinstance(value, int | float) else 0


def _limit_product(first: float, second: float) -> None:
    if first * second > MAX_CHARS:
        raise SecurityError("it makes too much text")


def _limit_format(text: str) -> None:
    """Refuse to pad to thousands of columns."""
    if _WIDE_FORMAT.search(text):
        raise SecurityError("it formats too wide a text")


def _limit_growth(text: object, *values: object) -> None:
    """Refuse large numbers, and texts that would be put many times into a text."""
    if any(_number(value) > _MAX_NUMBER for value in values):
        raise SecurityError(f"it uses a number above {_MAX_NUMBER}")
    _limit_product(_size(text), max([_number(value) or _size(value) for value in values[1:]], default=0))


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter within the limits."""

    def run(*args: Any, **kwargs: Any) -> Any:
        # Some filters take the environment before the text.
        at = next((index for index, value in enumerate(args) if isinstance(value, str)), 0)
        if name == "format":
            _limit_format(str(args[at]))
        else:
            _limit_growth(args[at], *args[at + 1 :], *kwargs.values())
        return function(*args, **kwargs)

    run.__dict__.update(function.__dict__)
    return run


def render(
    environment: Sandbox, template: Template, messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any]
) -> str:
    """The text of a template.

    Raises:
        SecurityError: It makes far more text than was said.
        TemplateError: As `RENDER_ERRORS`: it fails in its own way.
    """
    said = sum(len(str(message["content"])) for message in messages)
    chunks: list[str] = []
    length = 0
    for chunk in template.generate(messages=[dict(message) for message in messages], **values):
        chunks.append(chunk)
        length += len(chunk)
        environment.check()
        if length > _FREE_CHARS + _GROWTH * said:
            raise SecurityError("it makes too much text")
    return "".join(chunks)


def reason_of(error: BaseException) -> str:
    """What went wrong, in a few words of the library's own."""
    message = str(error) or type(error).__name__
    line = getattr(error, "lineno", None)
    return f"line {line}: {message[:200]}" if line else message[:200]


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> str:
    raise TemplateError(message)


@pass_context
def _strftime_now(context: Context, layout: str) -> str:
    told = context.get(MOMENT)
    return (datetime.fromisoformat(told) if told else datetime.now()).strftime(layout)
