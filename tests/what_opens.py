"""The README's table of what opens, made from the models that the tests compare with transformers.

`python -m tests.what_opens` prints it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.loading import load_checkpoint
from llmchat.engine.native.shapes import supports
from llmchat.models.family import find_family
from tests.conftest import DATA
from tests.engine.test_architectures import SMALL, TOKENIZER, directory_of, names_in

_WITHOUT_A_PLAN, _CONVERTED = DATA / "architectures-extra", DATA / "architectures-extra-gguf"
_HEAD = "| `model_type` | a directory runs on | a GGUF file runs on |\n| --- | --- | --- |"


def table() -> str:
    """The table as Markdown: a row for each way in which architectures run."""
    rows = defaultdict[tuple[str, str], set[str]](set)
    for name, directory, gguf in (*_with_a_plan(), *_without()):
        rows[directory, gguf].add(name)
    lines = (f"| {', '.join(sorted(names))} | {' | '.join(ways)} |" for ways, names in sorted(rows.items()))
    return "\n".join((_HEAD, *lines))


def _with_a_plan() -> Iterator[tuple[str, str, str]]:
    """Architectures that a family knows, and what runs their directories and files."""
    with TemporaryDirectory() as scratch:
        for directory in (directory_of(name, Path(scratch)) for name in names_in(SMALL)):
            name = _model_type(directory)
            family = find_family("config", name)
            assert family is not None, f"{directory} is no model of ours"
            plan = load_checkpoint(ModelSpec(str(directory), TOKENIZER), lambda stage, fraction: None).plan
            ways = "torch" if supports(plan) else "native, torch"
            yield name, ways, ways if family.names.get("gguf") else "–"


def _without() -> Iterator[tuple[str, str, str]]:
    """Some of the architectures that only the engines to install know."""
    for path in sorted(_WITHOUT_A_PLAN.glob("*/config.json")):
        converted = (_CONVERTED / f"{path.parent.name}.gguf").is_file()
        yield _model_type(path.parent), "transformers", "llama-cpp" if converted else "llama-cpp, untried"


def _model_type(directory: Path) -> str:
    return str(json.loads((directory / "config.json").read_text())["model_type"])


if __name__ == "__main__":
    print(table())
