"""How late the window's event loop comes to its work, at rest and while a model decodes at full speed.

    python -m benchmarks.ui_stall [--model NAME|PATH] [--seconds N] [--rounds N] [--threads N]

Runs the real program in a pseudo-terminal that is read all the time. Inside it a timer asks to be called
every 2 ms; how much later it is called is how long the loop was at other work, or the processor at another
program's. The figures are for any moment of the time, as for a key that is pressed then.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.rounds import Goal, print_table, spread
from benchmarks.terminal import Program, program

PROMPT = "Tell me a very long story about the sea, the wind and an old lighthouse."
GOAL = Goal(15.0, at_most=True)
STEP_MILLISECONDS = 2.0

WATCHED = """
import asyncio, json, sys, time
from pathlib import Path
from llmchat.ui.app import LlmchatApp

STEP, place, late = float(sys.argv.pop(1)), Path(sys.argv.pop(1)), []

def watch(due):
    now = time.perf_counter()
    late.append((now, now - due))
    asyncio.get_running_loop().call_later(STEP, watch, time.perf_counter() + STEP)

def on_ready(self):
    watch(time.perf_counter())

def on_unmount(self, usual=LlmchatApp.on_unmount):
    place.write_text(json.dumps(late))
    usual(self)

LlmchatApp.on_ready, LlmchatApp.on_unmount = on_ready, on_unmount
from llmchat.cli import main
main()
"""
"""Starts llmchat; when the window closes, it writes when each call of the timer came, and how late."""


def measure(model: str, seconds: float, threads: int, *, decoding: bool) -> list[float]:
    """Milliseconds by which a call at any moment of some seconds would have been late, sorted."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "late.json"
        reply = ["-p", PROMPT, "-n", "8000", "--min-new-tokens", "8000", "--seed", "1"] if decoding else []
        with program(
            model, "--threads", str(threads), *reply, program=("-c", WATCHED, str(STEP_MILLISECONDS / 1e3), str(place))
        ) as running:
            running.wait_for(r"tok/s" if decoding else r"ready")
            began = perf_counter()
            _read_for(running, seconds)
        calls = [delay * 1e3 for now, delay in json.loads(place.read_text()) if began <= now <= began + seconds]
    # While one call was late, those that were due meanwhile would have been late by what was left.
    return sorted(late for delay in calls for late in _every_step(delay))


def _every_step(delay: float) -> Iterator[float]:
    while delay > 0:
        yield delay
        delay -= STEP_MILLISECONDS


def _read_for(running: Program, seconds: float) -> None:
    """Take what is drawn, as a terminal does."""
    end = perf_counter() + seconds
    while (left := end - perf_counter()) > 0:
        running.read(left)


def main() -> int:
    """Measure and print; 0 if the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows, percentiles = [], []
    for decoding in (False, True):
        runs = [
            measure(options.model, options.seconds, options.threads, decoding=decoding) for _ in range(options.rounds)
        ]
        percentiles = [run[int(len(run) * 0.99)] for run in runs]
        what = f"while decoding on {options.threads} thread{'s' * (options.threads > 1)}" if decoding else "at rest"
        middles = [statistics.median(run) for run in runs]
        rows.append([what, spread(middles, 2), spread(percentiles, 1), spread([run[-1] for run in runs], 1)])
    is_reached = GOAL.is_reached(statistics.median(percentiles))
    rows[-1].append(f"99 %: {GOAL}{'' if is_reached else ': MISSED'}")
    rows[0].append("")
    print_table([f"loop is late, ms in {options.seconds:g} s", "median", "99 % within", "longest", "to reach"], rows)
    return 0 if is_reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
