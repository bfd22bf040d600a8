"""Engines shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmchat.chat.model import ModelSpec
from llmchat.engine.engine import Engine
from llmchat.engine.opening import open_engine


@pytest.fixture
def tiny_engine(tiny_dir: Path) -> Engine:
    """The model that llmbuilder trained, freshly opened: nothing is in its KV cache."""
    spec = ModelSpec(str(tiny_dir / "model" / "model.pt"), str(tiny_dir / "tokenizer"), threads=1)
    return open_engine(spec, lambda stage, fraction: None)
