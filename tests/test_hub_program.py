"""The hub as a person meets it: the program, its exit codes, what it prints and what it asks the server."""

from __future__ import annotations

import io
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.conftest import DATA
from tests.hub_server import NOWHERE, Hub, Repo, hub_server, use_hub
from tests.patience import PATIENCE_SECONDS, until
from tests.program import Here, command, open_terminal, read_terminal, run_program

QWEN = DATA / "huggingface" / "qwen2"
ONCE = ("--once", "-p", "hello", "-n", "3", "--greedy")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one small real model."""
    with hub_server() as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "huggingface")
        hub.repos["maker/small"] = Repo.of(QWEN)
        yield hub


def test_a_reply_by_a_model_of_the_hub(hub: Hub, here: Here) -> None:
    """The first start fetches it, the second asks for nothing; both say the same as the directory itself does."""
    first = run_program("-m", "maker/small", *ONCE)
    assert (first.code, first.err) == (0, "")
    assert hub.requests
    hub.requests.clear()
    second = run_program("-m", "hf:maker/small", *ONCE)
    assert (second.code, second.err, second.out) == (0, "", first.out)
    assert hub.requests == []
    assert here("-m", QWEN, *ONCE).out == first.out


def test_pull_tells_what_it_fetches_and_prints_the_path(hub: Hub, here: Here) -> None:
    """Size and memory on standard error before, the path alone on standard output; again, nothing is fetched."""
    done = here("pull", f"{hub.endpoint}/maker/small/tree/main")
    assert done.code == 0
    assert "maker/small (safetensors) is not on this machine: " in done.err and "kB are to be fetched" in done.err
    assert "It will need about 0.1 GB of memory." in done.err
    assert (Path(done.out.strip()) / "model.safetensors").read_bytes() == (QWEN / "model.safetensors").read_bytes()
    sent = hub.sent
    again = here("pull", "maker/small")
    assert (again.code, again.err, again.out, hub.sent) == (0, "", done.out, sent)


def test_a_terminal_sees_how_far_it_is(hub: Hub) -> None:
    """Bytes of all, on one line that is wiped."""
    far, near = open_terminal()
    hub.hold = threading.Event()
    with near, subprocess.Popen(command("pull", "maker/small"), stdout=subprocess.PIPE, stderr=near) as process:
        until(lambda: hub.sent)
        hub.hold.set()
        process.wait(PATIENCE_SECONDS)
        near.close()
    seen = read_terminal(far)
    assert "fetching small: " in seen and " of 26." in seen
    assert process.returncode == 0


def test_an_interrupted_fetch_goes_on(hub: Hub, here: Here, tmp_path: Path) -> None:
    """^C ends it at once, also while the hub is silent; the next start asks only for the rest."""
    hub.hold = threading.Event()
    with subprocess.Popen(command("-m", "maker/small", *ONCE), stdout=subprocess.PIPE) as process:
        until(lambda: any(path.stat().st_size for path in tmp_path.rglob("*.incomplete")))
        process.send_signal(signal.SIGINT)
        began = monotonic()
        assert process.wait(PATIENCE_SECONDS) == 130
        assert monotonic() - began < 4
    hub.hold.set()
    hub.hold = None
    kept = sum(path.stat().st_size for path in tmp_path.rglob("*.incomplete"))
    assert kept
    assert here("-m", "maker/small", *ONCE).code == 0
    assert kept in hub.begun


def test_mistakes_end_with_one_line(hub: Hub, here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit code 4, nothing on standard output, and a sentence with a way out."""
    done = here("-m", "maker/smal", *ONCE)
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert "no file or directory maker/smal. There is no model maker/smal on the hub either." in done.err
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        done = here("-m", "maker/small", *ONCE)
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "HF_HUB_OFFLINE forbids to fetch it" in done.err
    use_hub(monkeypatch, NOWHERE, tmp_path)
    done = here("-m", "maker/small", *ONCE)
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "cannot be reached" in done.err


def test_once_and_plain_tell_before_much_is_fetched(hub: Hub, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot be asked is told, also where no terminal is; the reply is as ever."""
    monkeypatch.setattr("llmchat.session.talk.ASK_ABOVE", 1000)
    done = here("-m", "maker/small", *ONCE)
    assert done.code == 0 and done.out
    assert "llmchat: maker/small (safetensors) is not on this machine: " in done.err
    hub.repos["maker/other"] = Repo.of(QWEN)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = here("-m", "maker/other", "--plain", "--no-save", "-p", "hello", "-n", "3", "--greedy")
    assert done.code == 0
    assert "maker/other (safetensors) is not on this machine: " in done.out and "small" not in done.out


def test_what_is_here_is_listed_and_opens_by_name(hub: Hub, here: Here) -> None:
    """What was fetched stands in `llmchat models`, for people and for programs."""
    assert here("pull", "maker/small").code == 0
    shown = here("models").out
    assert "On this machine, from Hugging Face's cache:\n" in shown and "maker/small\n" in shown
