"""What this installation is, and which path a model takes here: `llmchat --version --verbose`."""

from __future__ import annotations

import platform
from importlib import metadata

from llmchat import __version__
from llmchat.chat.model import ModelSpec
from llmchat.engine.native.library import kernels_name
from llmchat.engine.opening import default_threads, path_reason, why_torch


def about() -> list[str]:
    """Lines for a person or a bug report; torch is imported only to ask it for a GPU that there seems to be."""
    spec = ModelSpec()
    is_native, reason = not why_torch(spec), path_reason(spec)
    path = f"native {kernels_name()}" if is_native else "torch"
    path += f", because {reason}" if reason else ""
    threads = default_threads(natively=is_native)
    return [
        f"llmchat {__version__}",
        f"models run on: {path} · {threads} thread{'s' if threads != 1 else ''}",
        f"python {platform.python_version()} · {platform.system()} {platform.machine()}",
        " · ".join(f"{name} {_version(name)}" for name in ("torch", "textual", "tokenizers", "numpy")),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is not installed"
