"""Fixtures of the tests of names, the hub and other programs' stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import Hub, hub_server, use_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process and its programs use, with an empty cache under tmp_path/huggingface."""
    with hub_server() as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "huggingface")
        monkeypatch.setattr("llmchat.stores.download._FIRST_DELAY_SECONDS", 0.001)
        yield hub
