"""What goes into the wheel: every package, the themes, the style sheets and the data."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llmchat.engine.native.sources import sources_hash

ROOT = Path(__file__).parents[1]


def test_the_list_of_packages_is_complete() -> None:
    """A package that is not listed would be missing from the wheel."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "llmchat").rglob("__init__.py")}
    assert listed == present | {"llmchat.themes_data"}


def test_every_library_that_is_imported_is_declared() -> None:
    """What comes along with another library today may be gone with its next version; nothing else is required."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=]", name)[0] for name in project["dependencies"]}
    imported = set()
    for path in (ROOT / "llmchat").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            imported |= {name.partition(".")[0] for name in names}
    libraries = imported - set(sys.stdlib_module_names) - {"llmchat", "_typeshed"}
    distributions = {"markdown_it": "markdown-it-py", "tomli_w": "tomli-w"}
    needed = {distributions.get(name, name) for name in libraries}
    # The engines and gguf are used where they are installed; pip is run as a program.
    assert needed - {"gguf", "transformers", "llama_cpp"} == declared - {"pip"}


def test_the_list_of_native_files_is_complete() -> None:
    """A source that is not listed would be missing from the library, a header from the source package."""
    (module,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    native = ROOT / "llmchat" / "engine" / "native"
    for listed, endings in ((module["sources"], (".cpp",)), (module["depends"], (".h", ".inc"))):
        present = [path.relative_to(ROOT).as_posix() for path in native.iterdir() if path.suffix in endings]
        assert sorted(listed) == sorted(present)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what builds the native step, with sources that take no time."""
    if int(pytest.importorskip("setuptools").__version__.partition(".")[0]) < 77:
        pytest.skip("this setuptools does not read the project file")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "themes", tmp_path / "themes")
    shutil.copytree(ROOT / "llmchat", tmp_path / "llmchat", ignore=shutil.ignore_patterns("*.so", "data"))
    for path in (tmp_path / NATIVE).glob("*.cpp"):
        path.write_text(f"int {path.stem}() {{ return 1; }}\n")
    path = tmp_path / NATIVE / "library.cpp"
    path.write_text("#define Q(x) #x\n#define T(x) Q(x)\nextern const char s[] = T(LLMCHAT_SOURCES);\n")
    return tmp_path


NATIVE = "llmchat/engine/native"


def build(project: Path, **env: str) -> tuple[int, str, list[Path]]:
    """Build the native step in place: exit code, output, libraries."""
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, env={**os.environ, **env})
    return done.returncode, done.stdout + done.stderr, list((project / NATIVE).glob("_decode*.so"))


needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")


@needs_compiler
def test_the_library_carries_the_hash_of_its_sources(project: Path) -> None:
    """It is built anew when they change, also where their times are older than its own."""
    for content in ("", "// changed\n"):
        header = project / NATIVE / "decode.h"
        header.write_text(content)
        os.utime(header, (1, 1))
        code, output, (built,) = build(project)
        assert code == 0, output
        assert sources_hash(project / NATIVE).encode() in built.read_bytes()


@needs_compiler
def test_a_native_step_that_does_not_compile_fails_the_installation(project: Path) -> None:
    """Where there is a compiler, nobody ends up with the slow path or an old library without a word."""
    (project / NATIVE / "repack.cpp").write_text("this is no C++")
    code, output, _ = build(project)
    assert code != 0 and "repack.cpp" in output


def test_without_a_compiler_the_installation_goes_on(project: Path) -> None:
    """Torch serves then."""
    code, output, built = build(project, CC="/no/such/compiler", CXX="/no/such/compiler")
    assert (code, built) == (0, []), output


def test_everything_but_code_is_built_in_too(tmp_path: Path) -> None:
    """Themes, style sheets and data are found beside the code in an installed wheel."""
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip("this setuptools does not read the project file")
    command = f"from setuptools import setup; setup(script_args=['build_py', '--build-lib', {str(tmp_path)!r}])"
    subprocess.run([sys.executable, "-W", "ignore", "-c", command], cwd=ROOT, check=True, capture_output=True)
    built = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    inside = [path for path in (ROOT / "llmchat").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    wanted = {path.relative_to(ROOT).as_posix() for path in inside if path.suffix == ".tcss" or "data" in path.parts}
    wanted |= {f"llmchat/themes_data/{path.name}" for path in (ROOT / "themes").glob("*.toml")}
    assert wanted - built == set()
    assert "llmchat/py.typed" in built
    assert not [name for name in built if not name.startswith("llmchat/")]
