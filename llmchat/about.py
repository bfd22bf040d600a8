"""What this installation is, and which path a model takes here: `llmchat --version --verbose`."""

from __future__ import annotations

import platform
from importlib import metadata

from llmchat import __version__
from llmchat.chat.model import ModelSpec
from llmchat.engine.native.library import kernels_name
from llmchat.engine.opening import default_threads, why_torch


def about() -> list[str]:
    """Lines for a person or a bug report; torch is not imported for them."""
    reason = why_torch(ModelSpec())
    path = f"torch, because {reason}" if reason else f"native {kernels_name()}"
    threads = default_threads(natively=not reason)
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
