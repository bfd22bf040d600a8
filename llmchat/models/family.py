"""What a family of networks is to the rest: names, a plan, and how its files name parameters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from llmchat.models.facts import Facts, Source
from llmchat.models.plan import ModelPlan
from llmchat.models.stored import LAYOUTS, Layout


class Family(NamedTuple):
    """Networks of one kind."""

    names: Mapping[Source, tuple[str, ...]]
    """What its files call themselves: `model_type`s, and architectures of GGUF."""
    plan: Callable[[Facts], ModelPlan]
    """Reads a file's facts. Raises ModelLoadError where they are not of this kind after all."""
    layouts: Mapping[Source, Layout] = LAYOUTS
    pairs_channels: bool = False
    """Whether GGUF files have channels of queries and keys that turn together side by side, though directories have
    them half a head apart."""
    quantised: tuple[str, ...] = ()
    """The `quant_method`s of directories whose tensors its layout has places for."""


def find_family(source: Source, name: str) -> Family | None:
    """The family of a file that calls itself so; None if there is none."""
    return next((family for family in _families(name) if name in family.names.get(source, ())), None)


def _families(sought: str = "") -> Iterator[Family]:
    """What the modules beside this one have as FAMILIES, the likeliest first; each is imported when it is asked for."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    for module in sorted(modules, key=lambda module: not sought.startswith(module)):
        yield from getattr(importlib.import_module(f"{__package__}.{module}"), "FAMILIES", ())
