"""The models that were opened by path, newest first; kept as JSON lines among what may be thrown away."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints import catalog
from llmchat.errors import ModelLoadError, UsageError
from llmchat.files import write_text
from llmchat.paths import ensure, recent_models_path
from llmchat.ui.model_files import is_name

MOST = 12
"""How many are kept."""


def named(model: str) -> catalog.ModelEntry | None:
    """The model with a name that this is, by its name or by the path of its file; None if it is none."""
    path = _absolute(model) if model else None
    return catalog.find_model(model) or next((entry for entry in catalog.models() if str(entry.path) == path), None)


def recent_models() -> list[ModelSpec]:
    """The models with their tokenizers, as they were asked for; none from a file that cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        lines = recent_models_path().read_text(encoding="utf-8").splitlines()
        return list(_parsed(lines[:MOST]))
    return []


def remember(spec: ModelSpec) -> None:
    """Put a model first, unless it goes by a name; where that cannot be written, it is forgotten."""
    if named(spec.model) is not None:
        return
    model = whole(spec)
    wanted = [model, *(other for other in recent_models() if other.model != model.model)][:MOST]
    lines = (json.dumps({"model": it.model, "tokenizer": it.tokenizer, "heads": it.heads}) + "\n" for it in wanted)
    with contextlib.suppress(OSError, UsageError):
        ensure(recent_models_path().parent)
        write_text(recent_models_path(), "".join(lines), durable=False)


def whole(spec: ModelSpec) -> ModelSpec:
    """What names the model, from whichever directory it is asked for next."""
    model = spec.model if _is_name(spec.model) else _absolute(spec.model)
    return ModelSpec(model, tokenizer=spec.tokenizer and _absolute(spec.tokenizer), heads=spec.heads)


def _is_name(model: str) -> bool:
    with contextlib.suppress(ModelLoadError):
        return is_name(model)
    return True


def _absolute(path: str) -> str:
    # "~nobody" is a name like any other where there is no such user.
    return os.path.abspath(os.path.expanduser(path))


def _parsed(lines: list[str]) -> Iterator[ModelSpec]:
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            match value:
                case {"model": str(model), "tokenizer": str() | None as tokenizer, "heads": int() | None as heads}:
                    yield replace(ModelSpec(model), tokenizer=tokenizer, heads=heads)
