"""Fixtures shared by every test."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def sandbox(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test out of the person's own settings, transcripts and themes."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LLMCHAT_HOME", str(home))
    for name in [name for name in os.environ if name in ("NO_COLOR", "TEXTUAL_THEME", "TMUX")]:
        monkeypatch.delenv(name)
    return home


@pytest.fixture(autouse=True)
def no_stray_threads() -> Iterator[None]:
    """Fail a test that leaves an inference worker running."""
    yield
    stray = [thread for thread in threading.enumerate() if thread.name.startswith("llmchat-")]
    for thread in stray:
        thread.join(timeout=10)
    assert not [thread for thread in stray if thread.is_alive()]


@pytest.fixture(scope="session")
def tiny_dir() -> Path:
    """The model that llmbuilder 2.0.0 trained, with its tokenizer and reference outputs."""
    return DATA / "llmbuilder-2.0.0-tiny"
