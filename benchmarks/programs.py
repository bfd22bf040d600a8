"""Other programs, run as a person runs them. Imports nothing heavy: a child's peak memory begins with its parent's."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from llmchat.checkpoints import catalog

BINARIES = "LLAMA_CPP_BIN"
"""Environment variable with the directory of llama.cpp's programs; they are looked for in PATH without it."""


def llama_program(name: str) -> str | None:
    """The path of one of llama.cpp's programs; None, with a word on how to get it, if it is not here."""
    found = shutil.which(name, path=os.environ.get(BINARIES))
    if found is None:
        print(
            f"{name} does not take part: build it from the sources that llama-cpp-python comes with "
            f"(cmake -B build -DGGML_NATIVE=ON; cmake --build build --target {name}), "
            f"and set {BINARIES} to its directory",
            file=sys.stderr,
        )
    return found


def model_file(name: str) -> str:
    """The file of a model by its name or path; the default model's for ""."""
    entry = catalog.find_model(name)
    path = Path(name) if entry is None else entry.path
    if not path.is_file():
        sys.exit(f"There is no {path}. Fetch the default model with: llmchat pull")
    return str(path)


def own_program() -> list[str]:
    """The command that starts llmchat."""
    script = Path(sys.executable).with_name("llmchat")
    return [str(script)] if script.exists() else [sys.executable, "-m", "llmchat"]


def own_environment() -> dict[str, str]:
    """This process's, with compiled modules kept, as an installation has them."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
