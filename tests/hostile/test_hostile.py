"""A share of the hostile files, in a process of their own with limits; all of them: python -m tests.hostile."""

from __future__ import annotations

import sys

import pytest

from tests.hostile.formats import NAMES
from tests.hostile.runner import causes, run

CASES = 200
FEWER = {"jinja": 40, "transcripts": 100}
"""Where a case takes longer."""
OPEN_FAULTS: dict[str, str] = {}
"""What is known to be found, by format, until it is mended."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory and time are measured as Linux tells them")


def _marked(name: str) -> object:
    reason = OPEN_FAULTS.get(name)
    return pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=reason) if reason else ())


@pytest.mark.parametrize("name", [_marked(name) for name in NAMES])
def test_hostile_files_end_in_success_or_in_an_error_of_llmchat(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No panic, signal, hang, foreign exception, or more than 10 s and 2 GB."""
    # Torch takes seconds to load; it runs a part of the cases of the command line.
    monkeypatch.setenv("HOSTILE_ON_TORCH", "0")
    outcome = run(name, FEWER.get(name, CASES))
    assert [f"{count} × {finding}" for finding, count in causes(outcome.findings)] == []
    assert outcome.opened, "every case was refused: nothing behind the reader was tried"
