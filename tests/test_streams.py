"""The standard streams of the program: our own words come through, those of libraries go to the log."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat import paths, streams
from tests.patience import PATIENCE_SECONDS
from tests.program import open_terminal, read_terminal

SCRIPT = """
import logging, os, sys, warnings
from llmchat.streams import libraries_in_log, prepare_streams
prepare_streams()
with libraries_in_log():
    os.write(1, b"native out\\n"); os.write(2, b"native err\\n")
    warnings.warn("a warning"); logging.getLogger("llmchat").error("an error")
    print("ours", flush=True); print("told", file=sys.stderr)
    os.system("echo child")
print("after")
"""


def test_what_libraries_print_goes_to_the_log(sandbox: Path) -> None:
    """Neither native code nor warnings nor child processes can spoil the reply; the log has them all."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ours\nafter\n", "told\n")
    path = paths.log_path()
    log = path.read_text()
    assert not [words for words in ("native out", "native err", "a warning", "an error", "child") if words not in log]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_that_others_could_read_is_closed_to_them(sandbox: Path) -> None:
    """What libraries say may hold what a person wrote; a log of an older version or a restored one is open wide."""
    path = paths.ensure(paths.state_dir()) / "llmchat.log"
    path.touch()
    path.chmod(0o644)
    subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True, timeout=60)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_does_not_grow_for_ever(sandbox: Path) -> None:
    """A log beyond its limit begins anew."""
    path = paths.ensure(paths.state_dir()) / "llmchat.log"
    path.write_text("x" * 1_000_001)
    subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    assert path.stat().st_size < 1000


def test_streams_that_a_program_has_replaced_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside another program nothing is moved."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    before = sys.stdout, sys.stderr
    with streams.libraries_in_log():
        assert (sys.stdout, sys.stderr) == before
    assert not paths.log_path().exists()


PRINTING = r"""
import sys
from llmchat.streams import libraries_in_log, prepare_streams, print_json, steer
prepare_streams()
bad = "\x1b]0;title\x07\x9b2J\u202e\x7f"
print(bad, file=sys.stderr)
with libraries_in_log():
    print(bad, "tab\t, 👩", end="")
    print("\u200d👧")
    print_json('"' + bad[5:] + '"')
    print("wiped", end=""), steer(sys.stdout, "\r"), print("shown")
raise SystemExit(bad)
"""


def test_no_text_acts_on_a_terminal() -> None:
    """Whoever prints it, on whichever stream: it is made visible, and JSON stays JSON."""
    far, near = open_terminal()
    process = subprocess.Popen([sys.executable, "-c", PRINTING], stdin=near, stdout=near, stderr=near)
    near.close()
    text = read_terminal(far)
    assert process.wait(timeout=PATIENCE_SECONDS) == 1
    shown = "␛]0;title␇�2J⇄␡"
    assert text.split("\r\n") == [
        shown,
        f"{shown} tab\t, 👩\u200d👧",
        r'"itle' + "\\u0007\\u009b2J\\u202e\\u007f" + '"',
        "wiped\rshown",
        shown,
        "",
    ]


def test_a_file_gets_every_byte_as_it_is(tmp_path: Path) -> None:
    """What is for a program is not changed."""
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(
            [sys.executable, "-c", PRINTING], stdout=out, stderr=subprocess.DEVNULL, timeout=PATIENCE_SECONDS
        )
    assert (tmp_path / "out").read_bytes().startswith("\x1b]0;title\x07\x9b2J\u202e\x7f tab\t,".encode())
