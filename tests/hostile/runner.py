"""Runs the cases of a format in worker processes, and collects what it finds."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, Any

ROOT = Path(__file__).parents[2]
WALL_SECONDS = 60.0
"""How long a case may take that does nothing; a busy machine may be slow."""
_FRAME = re.compile(r'File "[^"]*?((?:[^/"]+/)?[^/"]+/[^/"]+)", line (\d+) in (\S+)')


@dataclass(frozen=True, slots=True)
class Finding:
    """A case that did not end as it should."""

    format: str
    case: int
    kind: str
    """signal, hang, slow, memory, panic, raises, message or untrue."""
    words: str
    where: str

    def __str__(self) -> str:
        return f"{self.format} {self.case}: {self.kind}: {self.words} [{self.where}]"

    @property
    def cause(self) -> tuple[str, str, str]:
        """What findings of one fault share."""
        return self.kind, self.words.partition(":")[0], self.where


@dataclass(slots=True)
class Outcome:
    """What became of the cases of a format."""

    tried: int = 0
    opened: int = 0
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, 0)
    """CPU seconds and number of the case that took longest."""
    largest: tuple[int, int] = (0, 0)
    """MiB and number of the case that took most memory."""
    findings: list[Finding] = field(default_factory=list)


def run(
    name: str,
    cases: int,
    *,
    first: int = 0,
    seconds: float = float("inf"),
    told: Callable[[Finding], None] = lambda finding: None,
) -> Outcome:
    """Try cases of a format.

    Args:
        name: The format.
        cases: How many.
        first: The number of the first.
        seconds: After this time no further case is begun.
        told: Is given each finding at once.
    """
    outcome, began = Outcome(), monotonic()
    while outcome.tried < cases and monotonic() - began < seconds:
        _run_worker(name, first + outcome.tried, first + cases, outcome, began + seconds, told)
    outcome.seconds = monotonic() - began
    return outcome


def _run_worker(
    name: str, first: int, end: int, outcome: Outcome, deadline: float, told: Callable[[Finding], None]
) -> None:
    """Try cases until all are tried or one of them ends the worker."""
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.worker", name, str(first), str(end), ""],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        with worker:
            try:
                current, hung = _follow(name, worker, outcome, deadline, told)
            finally:
                if worker.poll() is None:
                    worker.kill()
        if worker.returncode > 0:
            raise AssertionError(f"{name}: the worker itself failed:\n{_tail(log)}")
        if current is None:
            return
        finding = Finding(name, current, *_death(worker.returncode, hung=hung), _stack(log))
        outcome.findings.append(finding)
        outcome.tried += 1
        told(finding)


def _follow(
    name: str, worker: subprocess.Popen[bytes], outcome: Outcome, deadline: float, told: Callable[[Finding], None]
) -> tuple[int | None, bool]:
    """Read a worker's reports; returns the case that it died of, None if it ended in order, and whether it hung."""
    assert worker.stdout is not None
    current: int | None = None
    rest = b""
    while monotonic() < deadline or current is not None:
        if not select.select([worker.stdout], [], [], WALL_SECONDS if current is not None else 600)[0]:
            worker.send_signal(signal.SIGABRT)
            worker.wait()
            return current, True
        data = os.read(worker.stdout.fileno(), 1 << 16)
        if not data:
            worker.wait()
            return current, False
        *lines, rest = (rest + data).split(b"\n")
        for report in map(json.loads, lines):
            if "begins" in report:
                current = int(report["begins"])
                continue
            current = None
            _take(name, report, outcome, told)
    return None, False


def _take(name: str, report: dict[str, Any], outcome: Outcome, told: Callable[[Finding], None]) -> None:
    case = int(report["ends"])
    outcome.tried += 1
    outcome.opened += bool(report["opened"])
    outcome.slowest = max(outcome.slowest, (float(report["seconds"]), case))
    outcome.largest = max(outcome.largest, (int(report["grown"]), case))
    if report["kind"]:
        finding = Finding(name, case, report["kind"], report["words"], report["where"])
        outcome.findings.append(finding)
        told(finding)


def _death(code: int, *, hung: bool) -> tuple[str, str]:
    """The kind of a finding that ended the worker, and a line about it."""
    if hung:
        return "hang", f"nothing for {WALL_SECONDS:.0f} s"
    if code == -signal.SIGXCPU:
        return "hang", "no end within 10 s of computing"
    return "signal", signal.Signals(-code).name


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-4000:].decode(errors="replace")


def _stack(log: IO[bytes]) -> str:
    """The innermost place in llmchat of the stack that the worker left, or else of anything."""
    dump = _tail(log).rpartition("most recent call first")[2]
    frames = [f"{place}:{line} in {function}" for place, line, function in _FRAME.findall(dump)]
    ours = [frame for frame in frames if "llmchat/" in frame or "tests/" not in frame]
    return (ours or frames or ["no stack"])[0]


def causes(findings: list[Finding]) -> list[tuple[Finding, int]]:
    """The first finding of each fault, and how many there are of it; the most frequent first."""
    counts = Counter(finding.cause for finding in findings)
    first: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        first.setdefault(finding.cause, finding)
    return [(first[cause], count) for cause, count in counts.most_common()]
