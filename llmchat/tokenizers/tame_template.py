"""Templates that surely do little work: they run in this process, for starting another takes longer than they do.

Tame is what is made of a short list of expressions none of which builds much at once, and meets no loop in a loop
too many. All but the models' templates with macros are. Each operation pays for what it makes; a template that has
spent all is not tame after all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Template, nodes
from jinja2.runtime import Context

from llmchat.tokenizers.template_sandbox import Sandbox, render

MOST_SAID = 1_000_000
"""Characters of messages that are rendered in this process."""

_MOST_SOURCE = 40_000
_FUEL, _FUEL_PER_CHAR = 4_000_000, 50
_MOST_SECONDS = 1.0
_LONGEST_PUT_IN = 32

_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Name, nodes.If, nodes.CondExpr, nodes.And,
    nodes.Or, nodes.Not, nodes.Compare, nodes.Operand, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.For,
    nodes.Assign, nodes.NSRef, nodes.Keyword, nodes.Call, nodes.Filter, nodes.Test, nodes.Concat, nodes.Add,
    nodes.Sub, nodes.Mod, nodes.Neg, nodes.List, nodes.Tuple, nodes.Break, nodes.Continue,
)  # fmt: skip
_FUNCTIONS = ("raise_exception", "strftime_now", "namespace", "range")
_METHODS = (
    "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith", "upper", "lower", "title",
    "capitalize", "get", "items", "keys", "values", "find", "rfind", "count", "isdigit", "partition", "rpartition",
    "removeprefix", "removesuffix",
)  # fmt: skip
_FILTERS = (
    "trim", "length", "count", "upper", "lower", "capitalize", "title", "first", "last", "string", "default", "d",
    "safe", "tojson", "items", "list",
)  # fmt: skip
_TESTS = (
    "defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "true", "false", "boolean",
    "integer", "float", "odd", "even",
)  # fmt: skip


class NotTameError(Exception):
    """A template does more than was thought."""


class TameTemplate:
    """A tame template, compiled.

    Raises:
        NotTameError: It is not tame.
        TemplateError: As `RENDER_ERRORS`: it is no valid template.
    """

    def __init__(self, source: str) -> None:
        if len(source) > _MOST_SOURCE:
            raise NotTameError
        self._environment = _MeteredSandbox()
        tree = self._environment.parse(source)
        if not all(_is_tame(node) for node in _all_nodes(tree)):
            raise NotTameError
        _meter(tree)
        tree.set_environment(self._environment)
        self._template: Template = self._environment.from_string(tree)

    def render(self, messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> str:
        """The text.

        Raises:
            NotTameError: It does more than was thought.
            TemplateError: As `RENDER_ERRORS`: it fails in its own way.
        """
        said = sum(len(str(message["content"])) for message in messages)
        if said > MOST_SAID:
            raise NotTameError
        self._environment.deadline = time.monotonic() + _MOST_SECONDS
        self._environment.fuel = _FUEL + _FUEL_PER_CHAR * said
        return render(self._environment, self._template, messages, values)


class _MeteredSandbox(Sandbox):
    """The sandbox, where every operation pays for what it makes."""

    fuel = 0

    def __init__(self) -> None:
        super().__init__()
        for name in (*_FILTERS, "replace"):
            self.filters[name] = self._metered(self.filters[name])
        self.filters |= {"ticking": self._ticking, "weighed": self._weighed}

    def check(self, length: int = 0) -> None:
        """Pay for a piece of work.

        Raises:
            NotTameError: The template has spent all.
        """
        self.fuel -= length + _STEP
        if self.fuel < 0 or time.monotonic() > self.deadline:
            raise NotTameError

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call, which pays for its result."""
        result = super().call(__context, __obj, *args, **kwargs)
        __self.check(_length(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operation; formatting is not tame."""
        if operator == "%" and isinstance(left, str):
            raise NotTameError
        return super().call_binop(context, operator, left, right)

    def joined(self, *values: object) -> str:
        """What `~` makes."""
        texts = list(map(str, values))
        self.check(sum(map(len, texts)))
        return "".join(texts)

    def _ticking(self, values: Iterable[Any]) -> Iterator[Any]:
        """The same values; each round pays."""
        for value in values:
            self.check(_length(value))
            yield value

    def _weighed(self, value: object) -> object:
        """The same value, which is going to be compared."""
        self.check(_length(value))
        return value

    def _metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.check(sum(map(_length, args)))
            result = function(*args, **kwargs)
            self.check(_length(result))
            return result

        run.__dict__.update(getattr(function, "__dict__", {}))
        return run


_STEP = 64
"""What the smallest piece of work, or a place in a list, costs; a character costs 1."""


def _length(value: object) -> int:
    if isinstance(value, list | tuple | dict):
        return len(value) * _STEP
    return len(value) if isinstance(value, str) else 0


def _all_nodes(tree: nodes.Node) -> Iterator[nodes.Node]:
    yield tree
    for child in tree.iter_child_nodes():
        yield from _all_nodes(child)


def _is_tame(node: nodes.Node) -> bool:
    if type(node) not in _NODES:
        return False
    match node:
        case nodes.Call():
            return _is_tame_call(node)
        case nodes.Filter(name="replace"):
            return _puts_in_little(node)
        case nodes.Filter():
            return node.name in _FILTERS and not any(map(_is_large, node.args)) and not node.dyn_args
        case nodes.List() | nodes.Tuple():
            return all(map(_is_flat, node.items))
        case nodes.Test():
            return node.name in _TESTS
        case nodes.For():
            return not node.recursive
    return True


def _is_flat(item: nodes.Expr) -> bool:
    """Whether what stands in a list is a plain value, or a name of the loop to be set."""
    return isinstance(item, nodes.Const) or (isinstance(item, nodes.Name) and item.ctx == "store")


def _is_tame_call(node: nodes.Call) -> bool:
    called = node.node
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return False
    if isinstance(called, nodes.Getattr) and called.attr == "replace":
        return _puts_in_little(node)
    if isinstance(called, nodes.Getattr):
        return called.attr in _METHODS
    return isinstance(called, nodes.Name) and called.name in _FUNCTIONS


def _puts_in_little(node: nodes.Call | nodes.Filter) -> bool:
    """Whether what a text is replaced by is short."""
    return len(node.args) == 2 and all(
        isinstance(one, nodes.Const) and isinstance(one.value, str) and len(one.value) <= _LONGEST_PUT_IN
        for one in node.args
    )


def _is_large(node: nodes.Node) -> bool:
    """Whether an argument could ask for much."""
    return not isinstance(node, nodes.Const) or (isinstance(node.value, int) and node.value > _LONGEST_PUT_IN)


def _meter(node: nodes.Node) -> nodes.Node:
    """Have loops, comparisons and `~` pay."""
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _meter(value))
        elif isinstance(value, list):
            setattr(node, name, [_meter(one) if isinstance(one, nodes.Node) else one for one in value])
    match node:
        case nodes.Concat():
            return nodes.Call(nodes.EnvironmentAttribute("joined"), node.nodes, [], None, None, lineno=node.lineno)
        case nodes.For():
            node.iter = _filtered(node.iter, "ticking")
        case nodes.Compare() | nodes.Operand() if not isinstance(node.expr, nodes.Const):
            node.expr = _filtered(node.expr, "weighed")
    return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
