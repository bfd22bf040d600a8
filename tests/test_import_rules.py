"""Imports point down only, and nothing heavy is loaded before it is needed.

    cli → {once, plain, api, ui} → session → worker → engine → {checkpoints, sampling} →
        {models, tokenizers} → chat → errors

Proved twice: by the import statements, and by what a fresh interpreter has loaded.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.patience import PATIENCE_SECONDS

PACKAGE = Path(__file__).parents[1] / "llmchat"

BASE = {"llmchat", "llmchat.errors", "llmchat.file_kinds", "llmchat.files", "llmchat.paths", "llmchat.disk_cache"}
"""What every part may use."""

ENGINE_ROOM = {
    "llmchat.engine",
    "llmchat.stores",
    "llmchat.checkpoints",
    "llmchat.models",
    "llmchat.tokenizers",
    "llmchat.sampling",
}

FINDERS = {
    "llmchat.checkpoints.catalog",
    "llmchat.checkpoints.formats",
    "llmchat.checkpoints.timeline",
    "llmchat.stores.hub_name",
    "llmchat.stores.on_disk",
    "llmchat.tokenizers.loading",
}
"""What finds models and tokenizers on the disk without reading them."""

SETTINGS = {"llmchat.settings", "llmchat.options"}

LAYERS: dict[str, set[str]] = {
    "llmchat.errors": set(),
    "llmchat.file_kinds": set(),
    "llmchat.files": set(),
    "llmchat.paths": BASE,
    "llmchat.disk_cache": BASE,
    "llmchat.chat": BASE,
    "llmchat.settings": BASE | {"llmchat.chat"},
    "llmchat.options": BASE | {"llmchat.chat", "llmchat.settings"},
    "llmchat.themes": BASE,
    "llmchat.streams": BASE | {"llmchat.chat"},
    "llmchat.prompt_source": BASE | {"llmchat.chat"},
    "llmchat.sampling": BASE | {"llmchat.chat"},
    "llmchat.tokenizers": BASE | {"llmchat.chat"},
    "llmchat.models": BASE,
    "llmchat.checkpoints": BASE | {"llmchat.chat", "llmchat.models", "llmchat.tokenizers"},
    "llmchat.stores": BASE | {"llmchat.chat"},
    "llmchat.engine": BASE | ENGINE_ROOM | {"llmchat.chat"},
    "llmchat.remote": BASE | ENGINE_ROOM | {"llmchat.chat"},
    "llmchat.worker": BASE | {"llmchat.chat", "llmchat.worker"},
    "llmchat.session": BASE | {"llmchat.chat", "llmchat.worker"},
    "llmchat.once_output": BASE | {"llmchat.chat", "llmchat.worker", "llmchat.streams"},
    "llmchat.once": BASE | SETTINGS | {"llmchat.chat", "llmchat.worker", "llmchat.session", "llmchat.once_output"},
    "llmchat.replay": BASE | {"llmchat.chat", "llmchat.worker"},
    "llmchat.bench": BASE | {"llmchat.chat"},
    "llmchat.commands": BASE | {"llmchat.chat", "llmchat.streams"},
    "llmchat.api": BASE | {"llmchat.chat"},
    "llmchat.plain": BASE
    | SETTINGS
    | {"llmchat.chat", "llmchat.worker", "llmchat.session", "llmchat.plain", "llmchat.ui"},
    "llmchat.ui": BASE
    | SETTINGS
    | {
        "llmchat.chat",
        "llmchat.worker",
        "llmchat.session",
        "llmchat.themes",
        "llmchat.ui",
        *FINDERS,
    },
    "llmchat.about": BASE | {"llmchat.chat", "llmchat.engine"},
    "llmchat.cli_options": BASE | {"llmchat.chat"},
    "llmchat.cli": BASE | {"llmchat.chat", "llmchat.cli_options"},
    "llmchat.__main__": {"llmchat.cli"},
}
"""What each part may import of llmchat when it is itself imported; its own modules always."""

PLAIN_USES_OF_THE_WINDOW = {"llmchat.ui.commands", "llmchat.ui.completion", "llmchat.ui.prompt_history"}
"""The window's modules that know no widget."""

ENGINE = "llmchat.engine"
HEAVY = {ENGINE, "torch", "textual", "numpy", "gguf", "tokenizers", "sentencepiece", "safetensors", "jinja2"}
HEAVY |= {"httpx2", "huggingface_hub.hf_api"}

FORBIDDEN: dict[str, set[str]] = {
    "llmchat.chat": HEAVY | {"click", "rich"},
    "llmchat.session": HEAVY,
    "llmchat.plain": HEAVY,
    "llmchat.once": HEAVY,
    "llmchat.worker": HEAVY,
    "llmchat.ui": HEAVY - {"textual"},
    ENGINE: {"textual"},
    "llmchat.sampling": {"textual", "torch"},
    "llmchat.tokenizers": {"textual", "torch"},
    "llmchat.checkpoints": {"textual", "torch"},
}
"""What no part may import at all when it is imported."""


class Import(NamedTuple):
    """A module that another imports as it is itself imported."""

    by: str
    module: str


@functools.cache
def parsed() -> Mapping[Path, ast.Module]:
    """Every module of the package, parsed."""
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def imports() -> Iterator[Import]:
    """Every import that is carried out when a module of the package is imported."""
    for path, tree in parsed().items():
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in at_import(tree.body):
            if isinstance(node, ast.Import):
                yield from (Import(name, alias.name) for alias in node.names)
            else:
                assert node.level == 0, f"{name} imports relatively"
                for alias in node.names:
                    is_module = (PACKAGE.parent / (node.module or "").replace(".", "/") / f"{alias.name}.py").is_file()
                    yield Import(name, f"{node.module}.{alias.name}" if is_module else str(node.module))


def at_import(body: Sequence[ast.stmt | ast.ExceptHandler]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements outside functions and outside TYPE_CHECKING."""
    for statement in body:
        match statement:
            case ast.Import() | ast.ImportFrom():
                yield statement
            case ast.If() if is_typing(statement):
                yield from at_import(statement.orelse)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pass
            case _:
                for field in ("body", "orelse", "finalbody", "handlers"):
                    inner = getattr(statement, field, [])
                    yield from at_import([item for item in inner if isinstance(item, ast.stmt | ast.ExceptHandler)])


def part(module: str) -> str | None:
    """The part that a module belongs to: the longest of the table's names that it begins with."""
    return max((name for name in LAYERS if is_in(module, {name})), key=len, default=None)


def is_in(module: str, parts: set[str]) -> bool:
    """Whether a module is one of these, inside one of them, or split off from one, as `plain_input` from `plain`."""
    return any(module == name or (name != "llmchat" and module.startswith((f"{name}.", f"{name}_"))) for name in parts)


def test_every_module_has_its_layer() -> None:
    """A new part of the package is given its place in the table."""
    assert not {one.by for one in imports() if one.by != "llmchat" and part(one.by) is None}


def test_imports_point_down() -> None:
    """No part imports what lies above or beside it."""
    wrong = []
    for one in imports():
        layer = part(one.by)
        is_own = one.module.partition(".")[0] == "llmchat"
        if layer is not None and is_own and not is_in(one.module, LAYERS[layer] | {layer}):
            wrong.append(one)
    assert wrong == []


def test_nothing_imports_the_command_line() -> None:
    """The command line is the top: only `python -m llmchat` starts it."""
    above = {one.by for one in imports() if is_in(one.module, {"llmchat.cli"})}
    assert above == {"llmchat.__main__", "llmchat.cli"}


def test_the_line_by_line_conversation_uses_no_widget() -> None:
    """Of the window's package it takes only what knows neither textual nor a screen."""
    used = {one.module for one in imports() if one.by.startswith("llmchat.plain") and is_in(one.module, {"llmchat.ui"})}
    assert used <= PLAIN_USES_OF_THE_WINDOW


def test_heavy_libraries_stay_where_they_belong() -> None:
    """Values, session and front ends load no tensor library; everything but the window no textual."""
    wrong = []
    for one in imports():
        for name, forbidden in FORBIDDEN.items():
            if is_in(one.by, {name}) and is_in(one.module, forbidden):
                wrong.append(one)
    assert wrong == []


def test_front_ends_never_touch_the_engine() -> None:
    """Window, conversations and session leave torch and the engine to the worker, inside functions too."""
    wrong = []
    for path, tree in parsed().items():
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(("ui/", "session/", "chat/", "plain", "once", "cli", "commands", "replay")):
            typing_only = {node for block in ast.walk(tree) if is_typing(block) for node in ast.walk(block)}
            for node in ast.walk(tree):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if node not in typing_only and any(is_in(module, {"torch", "llmchat.engine"}) for module in modules):
                    wrong.append((name, modules))
    assert wrong == []


def is_typing(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_one_place_catches_everything() -> None:
    """Unforeseen exceptions are caught by the worker alone, so that no mistake is hidden elsewhere."""
    places = []
    for path, tree in parsed().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and catches_everything(node.type):
                places.append(path.relative_to(PACKAGE).as_posix())
    # The other puts a file back as it was and raises again.
    assert sorted(places) == ["files.py", "worker/failures.py"]


def catches_everything(caught: ast.expr | None) -> bool:
    """Whether an except clause names Exception or BaseException, or nothing."""
    names = [node.id for node in ast.walk(caught) if isinstance(node, ast.Name)] if caught is not None else [""]
    return bool({"", "Exception", "BaseException"} & set(names))


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import llmchat; llmchat.GenerationConfig(temperature=1)", HEAVY | {"click", "llmchat.api"}),
        ("import llmchat.api, llmchat.once, llmchat.replay, llmchat.session", HEAVY),
        ("import llmchat.plain", HEAVY),
        ("import llmchat.ui.app", HEAVY - {"textual"}),
        ("from llmchat import cli; cli.run(['--help'])", HEAVY | {"platformdirs", "tomllib", "llmchat.worker"}),
        ("from llmchat import cli; cli.run(['--version'])", HEAVY),
        ("from llmchat import cli; cli.run(['--version', '--verbose'])", HEAVY - {ENGINE}),
        ("from llmchat import cli; cli.run(['models'])", HEAVY),
        ("from llmchat import cli; cli.run(['--paths'])", HEAVY),
        ("from llmchat import cli; cli.run(['export', 'none.toml'])", HEAVY),
        ("from llmchat import cli; cli.run(['--once', '-p', 'x', '--top-k', '-1'])", HEAVY),
        ("from llmchat import cli; cli.run(['--once', '-p', 'x', '-m', 'none.pt'])", HEAVY - {ENGINE}),
    ],
)
def test_a_fresh_interpreter_loads_nothing_heavy(code: str, forbidden: set[str]) -> None:
    """Help, lists, errors and the window's first paint do not wait for torch, nor do scripts for textual."""
    assert loaded_by(code, forbidden) == set()


@pytest.mark.parametrize(
    "code",
    [
        "from llmchat import cli; cli.run(['--once', '-p', 'x', '-n', '1', '-m', {model!r}])",
        "from llmchat import cli; cli.run(['--plain', '-p', 'x', '-n', '1', '--no-save', '-m', {model!r}])",
        "import llmchat; llmchat.generate_text({model!r}, prompt='x', max_new_tokens=1)",
    ],
    ids=["once", "plain", "api"],
)
@pytest.mark.parametrize("form", ["gguf", "safetensors", "pt"])
def test_the_native_path_loads_no_torch(code: str, form: str, request: pytest.FixtureRequest) -> None:
    """A reply on the native step waits for neither torch nor anything else that it does not need."""
    directory = Path(__file__).parent / "data" / "huggingface" / "qwen2"
    model = {"safetensors": directory, "pt": "tiny"}.get(form) or request.getfixturevalue("default_model_path")
    unneeded = {"torch", "textual", "gguf", "llmchat.checkpoints.timeline", "llmchat.once_trials"}
    unneeded |= {"safetensors"} if form == "pt" else {"llmchat.checkpoints.torch_file", "sentencepiece"}
    assert loaded_by(code.format(model=str(model)), unneeded | {"llmchat.engine.native.model"}) == {
        "llmchat.engine.native.model"
    }


def loaded_by(code: str, modules: set[str]) -> set[str]:
    """Which of some modules a fresh interpreter has loaded when it has carried out the code."""
    check = f"{code}\nimport sys; print('\\nloaded', *sorted({modules!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", check],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    word, *found = done.stdout.splitlines()[-1].split()
    assert word == "loaded", done.stderr
    return set(found)
