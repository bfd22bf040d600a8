"""Places on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llmchat import paths
from llmchat.errors import UsageError

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
