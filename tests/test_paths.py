"""Places on disk."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat import paths
from llmchat.errors import UsageError
from llmchat.files import expanded
from tests.patience import PATIENCE_SECONDS
from tests.program import Here
from tests.terminals import terminal

PLACES = (
    paths.config_dir, paths.data_dir, paths.state_dir, paths.models_dir, paths.transcripts_dir,
    paths.themes_dir, paths.settings_path, paths.log_path, paths.history_path,
    paths.recent_models_path,
)  # fmt: skip


def test_everything_lies_under_the_home_variable(sandbox: Path) -> None:
    """One variable moves all of llmchat's files; asking where they are creates none."""
    for place in PLACES:
        assert place().is_relative_to(sandbox)
        assert not place().exists()
    assert len({place() for place in PLACES}) == len(PLACES)


def test_without_it_the_systems_own_places_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux the XDG variables are followed; everything has llmchat's name in it."""
    monkeypatch.delenv(paths.HOME_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert all("llmchat" in place().parts for place in PLACES if place not in (paths.log_path,))
    if os.name == "posix" and Path("/proc").exists():
        assert paths.settings_path() == tmp_path / "c" / "llmchat" / "settings.toml"


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of directory does not move the files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(paths.HOME_VARIABLE, "here")
    assert paths.data_dir() == tmp_path / "here" / "data"


def test_ensure_makes_private_directories(sandbox: Path) -> None:
    """Conversations are for their owner alone, from the first directory that is made."""
    sandbox.chmod(0o755)
    made = paths.ensure(paths.transcripts_dir())
    assert made == paths.transcripts_dir() == paths.ensure(made)
    for directory in (made, made.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(sandbox.stat().st_mode) == 0o755


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    """A file where a directory must be is one clear line, at the last place and above it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="there is a file of that name"):
        paths.ensure(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be created"):
        paths.ensure(tmp_path / "file" / "below")


HOMELESS = """
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from llmchat.cli import main
main()
"""
"""Starts llmchat for a user of whom the system knows nothing, as containers have them."""


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable names a home directory."""
    for name in (paths.HOME_VARIABLE, "HOME", *(f"XDG_{kind}_HOME" for kind in ("CONFIG", "DATA", "STATE"))):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "arguments",
    ["--paths", "models", "pull smollm2", "--once -m tiny -p hi", "--once -p hi -c", "--plain -m tiny", "replay FILE",
     "export ~/x.toml", "--once -m ~/x.gguf -p hi --config ~/y.toml"],
)  # fmt: skip
@pytest.mark.usefixtures("homeless")
def test_without_a_home_there_is_a_sentence(arguments: str) -> None:
    """And no traceback, whatever is asked for."""
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS, *arguments.split()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode in (1, 2, 4)
    assert done.stderr.startswith("llmchat: error: ") and len(done.stderr.splitlines()) == 1
    if "~" not in arguments:
        assert (
            f"There is no home directory to keep things in. Name a directory with {paths.HOME_VARIABLE}." in done.stderr
        )


@pytest.mark.usefixtures("homeless")
def test_without_a_home_the_window_says_so() -> None:
    """It is not opened."""
    with terminal(program=("-c", HOMELESS)) as it:
        assert it.wait_for_end() == 2
        assert "There is no home directory" in it.text and "Traceback" not in it.text


@pytest.mark.usefixtures("homeless")
def test_without_a_home_a_directory_of_its_own_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sentence advises works."""
    monkeypatch.setenv(paths.HOME_VARIABLE, str(tmp_path))
    words = [sys.executable, "-c", HOMELESS, "--once", "-m", "tiny", "-p", "hi", "-n", "3"]
    assert (
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS).returncode == 0
    )


def test_the_home_of_nobody_is_a_name_like_any_other(here: Here) -> None:
    """A tilde before what is no user stays, as in a shell: in flags, in settings and in commands."""
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    for flags in (
        ("-m", "~nobody-of-this-name/x.gguf"),
        ("--prompt-file", "~nobody-of-this-name"),
        ("--resume", "~nobody-of-this-name.toml"),
        ("-m", "tiny", "--chat-template", "~nobody-of-this-name"),
    ):
        prompt = () if "--prompt-file" in flags else ("-p", "x")
        done = here("--once", *flags, *prompt)
        assert done.code in (1, 2, 4) and "~nobody-of-this-name" in done.err
