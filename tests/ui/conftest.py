"""Fixtures of the window's tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def few_collections() -> Iterator[None]:
    """Collect garbage rarely: every window makes tens of thousands of objects, and torch's lie among them."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    yield
    gc.set_threshold(*usual)
