"""Writing that never costs what was there before."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from llmchat.files import append_text, describe, lock, replace_file, write_text
from tests.faults import file_size_limit, open_directory, read_only


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_write_replaces_whole_and_private(tmp_path: Path) -> None:
    """New content is exact, line ends too, and for its owner alone; nothing is left beside it."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    for durable in (True, False):
        write_text(path, "new\r\nline ü 🙂\n", durable=durable)
        assert path.read_bytes() == "new\r\nline ü 🙂\n".encode()
    assert mode(path) == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_lone_surrogates_do_not_stop_a_write(tmp_path: Path) -> None:
    """Text that UTF-8 cannot hold is written with a stand-in."""
    write_text(tmp_path / "file", "a\ud800b")
    assert (tmp_path / "file").read_text() == "a?b"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that fails half way changes nothing and leaves nothing behind."""
    path = tmp_path / "file"
    write_text(path, "old")
    with file_size_limit(100), pytest.raises(OSError, match="large") as caught:
        write_text(path, "x" * 1000)
    assert describe(caught.value) == "the file would be larger than allowed"
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_append_that_fails_leaves_no_part(tmp_path: Path) -> None:
    """Half an append is taken back, so that what is kept stays sound."""
    path = tmp_path / "file"
    append_text(path, "first\n")
    with file_size_limit(100), pytest.raises(OSError, match="large"):
        append_text(path, "y" * 1000)
    assert path.read_text() == "first\n"
    append_text(path, "second\n")
    assert path.read_text() == "first\nsecond\n"
    assert mode(path) == 0o600


def test_a_directory_that_may_not_be_written_is_named() -> None:
    """The message names the directory, not a temporary file that nobody knows."""
    with open_directory() as directory, read_only(directory):
        with pytest.raises(OSError, match="denied") as caught:
            write_text(directory / "file", "text")
        assert describe(caught.value) == f"no permission for {directory}"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    """A settings file that is a link to one kept elsewhere stays a link."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    """The temporary name stays within what a file system allows."""
    write_text(tmp_path / ("n" * 255), "text")
    assert (tmp_path / ("n" * 255)).read_text() == "text"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_locked_file_cannot_be_locked_again(tmp_path: Path) -> None:
    """A claim holds until the descriptor is closed, and moves along when a file is replaced."""
    first = replace_file(tmp_path / "file", b"text", prepare=lock)
    second = os.open(tmp_path / "file", os.O_RDWR)
    assert not lock(second)
    os.close(first)
    assert lock(second)
    os.close(second)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "the disk is read-only"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "your disk quota is used up"),
        (OSError(errno.EACCES, "Permission denied", "/a/b"), "no permission for /a/b"),
        (OSError(errno.EPERM, "Operation not permitted"), "permission is missing"),
        (OSError(errno.ENOENT, "No such file", "/a/b"), "there is no /a/b"),
        (OSError(errno.EISDIR, "Is a directory", "/a"), "/a is a directory"),
        (OSError(errno.ENOTDIR, "Not a directory", "/a/b"), "a part of /a/b is a file, not a directory"),
        (OSError(errno.EEXIST, "File exists", "/a"), "/a exists already"),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), "connection timed out"),
        (OSError("odd"), "odd"),
    ],
)
def test_causes_are_said_in_plain_words(error: OSError, words: str) -> None:
    """A person reads what happened, not a number and a constant."""
    assert describe(error) == words
