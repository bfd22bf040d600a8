"""Engines shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmchat.chat.model import ModelSpec
from llmchat.engine.engine import Engine
from llmchat.engine.opening import open_engine


@pytest.fixture(params=["native", "torch"])
def tiny_engine(tiny_dir: Path, request: pytest.FixtureRequest) -> Engine:
    """The model that llmbuilder trained, freshly opened on either engine: nothing is in its KV cache."""
    dtype = "auto" if request.param == "native" else "float32"
    spec = ModelSpec(str(tiny_dir / "model" / "model.pt"), str(tiny_dir / "tokenizer"), dtype=dtype, threads=1)
    engine = open_engine(spec, lambda stage, fraction: None)
    assert request.param in engine.info.dtype or dtype == "float32"
    return engine
