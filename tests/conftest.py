"""Fixtures shared by every test."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hub_server import NOWHERE, use_hub
from tests.patience import PATIENCE_SECONDS
from tests.program import Here

DATA = Path(__file__).parent / "data"

# The tests run side by side on all cores. Threads of torch and numpy that wait for a core would spin and cost it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def sandbox(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test out of the person's own settings, transcripts, themes and models, and off the network."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LLMCHAT_HOME", str(home))
    monkeypatch.setenv("COLORTERM", "truecolor")
    use_hub(monkeypatch, NOWHERE, home / "huggingface")
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "ollama"))
    monkeypatch.setattr("llmchat.stores.lm_studio.PLACES", (str(home / "lm-studio"),))
    for name in [name for name in os.environ if name in ("NO_COLOR", "TEXTUAL_THEME", "TMUX")]:
        monkeypatch.delenv(name)
    return home


@pytest.fixture(scope="session", autouse=True)
def little_to_collect() -> Iterator[None]:
    """Let no collection of garbage look at what pytest and the imported modules are made of: it is ten times a program.

    The worker freezes and thaws what there is as models come and go; here what is frozen stays so.
    """
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "freeze", lambda: None)
        patch.setattr(gc, "unfreeze", lambda: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def usual_signals() -> None:
    """Let programs under test get the signals that a run in the background ignores."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def same_dice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test roll the same seeds on every run: a test of what differs must not meet dice that hide it."""
    dice = random.Random(request.node.nodeid)
    monkeypatch.setattr("llmchat.chat.setting_values.os", SimpleNamespace(urandom=dice.randbytes))


@pytest.fixture(autouse=True)
def without_extras(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests see the same engines on every machine: those to install only where a test is about them."""
    if request.node.get_closest_marker("extras") is None:
        monkeypatch.setattr("llmchat.engine.opening.is_installed", lambda engine: False)


@pytest.fixture(autouse=True)
def no_stray_threads() -> Iterator[None]:
    """Fail a test that leaves an inference worker running, and only that test."""
    before = threading.enumerate()
    yield
    stray = [thread for thread in threading.enumerate() if thread.name.startswith("llmchat-") and thread not in before]
    for thread in stray:
        thread.join(PATIENCE_SECONDS)
    assert not [thread for thread in stray if thread.is_alive()]


@pytest.fixture(scope="session")
def tiny_dir() -> Path:
    """The model that llmbuilder 2.0.0 trained, with its tokenizer and reference outputs."""
    return DATA / "llmbuilder-2.0.0-tiny"


@pytest.fixture(scope="session")
def default_model_path() -> Path:
    """The real default model: LLMCHAT_TEST_MODEL, or the person's own copy, fetched once if need be.

    Where it cannot be fetched, tests that need it are skipped; on CI they fail.
    """
    if given := os.environ.get("LLMCHAT_TEST_MODEL"):
        return Path(given)
    from llmchat.checkpoints.catalog import default_model
    from llmchat.checkpoints.fetch import fetch
    from llmchat.errors import ModelLoadError

    with pytest.MonkeyPatch.context() as patch:
        # The sandbox of single tests must not hide the real directory.
        patch.delenv("LLMCHAT_HOME", raising=False)
        try:
            return fetch(default_model(), lambda stage, fraction: None, threading.Event())
        except ModelLoadError as error:
            if os.environ.get("CI"):
                pytest.fail(error.message)
            pytest.skip(error.message)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs command lines of llmchat in this process."""
    return Here(capsys)
