"""Fixtures of the window's tests."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from time import monotonic, thread_time

import pytest

from tests.patience import PATIENCE_SECONDS

REDRAW_SECONDS = 0.004
LOOK_SECONDS = 0.006
IDLE_SHARE = 0.1


@pytest.fixture(scope="package", autouse=True)
def few_collections() -> Iterator[None]:
    """Collect garbage rarely: every window makes tens of thousands of objects, and torch's lie among them."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    yield
    gc.set_threshold(*usual)


@pytest.fixture(scope="package", autouse=True)
def short_waits() -> Iterator[None]:
    """Let Pilot wait for the window's own thread alone: the model's is often busy, and no key waits for it.

    What has changed is laid out and drawn within one look.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textual.screen.UPDATE_PERIOD", REDRAW_SECONDS)
        for module in ("textual.app", "textual.pilot"):
            patch.setattr(f"{module}.wait_for_idle", wait_for_idle)
        yield


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a person must do in time be done on a machine that is busy: a second ^C, the next digit."""
    monkeypatch.setattr("llmchat.ui.screens.chat.QUIT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr("llmchat.ui.widgets.value_row.PAUSE_SECONDS", PATIENCE_SECONDS)


async def wait_for_idle(min_sleep: float = LOOK_SECONDS, max_sleep: float = 1) -> None:
    """Wait until this thread has nothing to do, for `min_sleep` to `max_sleep` seconds."""
    began = monotonic()
    while True:
        worked = thread_time()
        await asyncio.sleep(LOOK_SECONDS)
        waited, worked = monotonic() - began, thread_time() - worked
        if waited >= max_sleep or (waited >= min_sleep and worked < IDLE_SHARE * LOOK_SECONDS):
            return
