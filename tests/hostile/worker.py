"""Tries cases one after the other in a process of its own, which a case may bring down.

Standard output carries a line of JSON before each case and one after it. What the program under test
writes, and the stack if it is ended, goes to standard error.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

from llmchat.errors import LlmchatError
from tests.hostile.formats import Format, Untrue, load

CPU_SECONDS = 10
MOST_BYTES = 2 * 2**30
LONGEST_MESSAGE = 1100


def main() -> None:
    """Try the cases that the command line names: format, first number, end, directory to keep or ""."""
    name, first, end, kept = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    faulthandler.enable()
    faulthandler.register(signal.SIGXCPU, chain=True)
    tried = load(name)
    with tempfile.TemporaryDirectory() as home:
        os.environ["LLMCHAT_HOME"] = home
        place = Path(kept) if kept else Path(home) / "case"
        if not kept:
            _renew(place)
            tried.sound(place)
            tried.attempt(place)
        _limit_memory()
        for case in range(first, end):
            print(json.dumps({"begins": case}), file=report)
            print(json.dumps(_try(tried, name, case, place)), file=report)


def _renew(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def _try(tried: Format, name: str, case: int, place: Path) -> dict[str, object]:
    """What became of a case."""
    _renew(place)
    tried.write(Random(f"{name}:{case}"), place)
    _reset_peak()
    before, started = _resident(), _cpu_seconds()
    _limit_cpu()
    kind = words = where = ""
    try:
        tried.attempt(place)
    except BaseException as error:
        kind, words = _judged(error)
        where = _where(error) if kind else ""
        opened = False
        del error
    else:
        opened = True
    seconds, grown = _cpu_seconds() - started, max(0, _peak() - before)
    if not kind and seconds > CPU_SECONDS:
        kind, words = "slow", f"{seconds:.0f} s"
    if not kind and grown > MOST_BYTES:
        kind, words = "memory", f"{grown >> 20} MiB"
    return {
        "ends": case, "kind": kind, "words": words, "where": where,
        "opened": opened, "seconds": round(seconds, 2), "grown": grown >> 20,
    }  # fmt: skip


def _judged(error: BaseException) -> tuple[str, str]:
    """The kind of a finding and a line about it; "" for what is as it should be."""
    words = f"{type(error).__name__}: {str(error)[:150]}"
    if any(isinstance(one, MemoryError) for one in _chain(error)):
        return "memory", words
    if isinstance(error, LlmchatError):
        if len(error.message) > LONGEST_MESSAGE or "\n" in error.message:
            return "message", words
        return "", ""
    if isinstance(error, Untrue):
        return "untrue", words
    return ("raises" if isinstance(error, Exception) else "panic"), words


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < 20:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _where(error: BaseException) -> str:
    """The place in llmchat from which a library, or llmchat itself, raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "llmchat" in Path(frame.filename).parts]
    if not ours:
        return "".join(traceback.format_tb(error.__traceback__)[-1:]).strip().splitlines()[0]
    frame = ours[-1]
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} in {frame.name}"


def _limit_memory() -> None:
    """Let nothing take more than the limit beyond what the program takes for itself."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_BYTES + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_cpu() -> None:
    # Another second because the system counts in whole ones. Going over it raises SIGXCPU.
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(spent.ru_utime + spent.ru_stime) + CPU_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    return _status("VmHWM")


def _resident() -> int:
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
