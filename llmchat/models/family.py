"""What a family of networks is to the rest: names, a plan, and how its files name parameters."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from llmchat.models.facts import Facts, Source
from llmchat.models.plan import ModelPlan
from llmchat.models.stored import LAYOUTS, Layout


@dataclass(frozen=True, slots=True)
class Family:
    """Networks of one kind."""

    names: Mapping[Source, tuple[str, ...]]
    """What its files call themselves: `model_type`s, and architectures of GGUF."""
    plan: Callable[[Facts], ModelPlan]
    """Reads a file's facts. Raises ModelLoadError where they are not of this kind after all."""
    layouts: Mapping[Source, Layout] = field(default_factory=lambda: LAYOUTS)
    pairs_channels: bool = False
    """Whether GGUF files have channels of queries and keys that turn together side by side, though directories have
    them half a head apart."""
    quantised: tuple[str, ...] = ()
    """The `quant_method`s of directories whose tensors its layout has places for."""


def find_family(source: Source, name: str) -> Family | None:
    """The family of a file that calls itself so; None if there is none."""
    return next((family for family in _families() if name in family.names.get(source, ())), None)


@cache
def _families() -> tuple[Family, ...]:
    return tuple(_found())


def _found() -> Iterator[Family]:
    """Each module beside this one that has FAMILIES adds its own."""
    package = __name__.rpartition(".")[0]
    parent = importlib.import_module(package)
    for module in pkgutil.iter_modules(parent.__path__):
        yield from getattr(importlib.import_module(f"{package}.{module.name}"), "FAMILIES", ())
