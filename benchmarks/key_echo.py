"""How long a key press takes to its echo, while a model streams a reply; and how soon the window is there.

    python -m benchmarks.key_echo [--model NAME|PATH] [--keys N] [--starts N]

Runs the real program in a pseudo-terminal of 110 × 30. An echo is the first output that
draws the pressed character in the prompt. The load of other programs counts in.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from time import perf_counter

from benchmarks.terminal import Program, program

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WATCHED = """
import sys
from textual.drivers.linux_driver import LinuxDriver
def write(self, data, usual=LinuxDriver.write):
    loaded = "torch" in sys.modules
    usual(self, data)
    if "rite a message" in data:
        usual(self, f"<torch {loaded}>")
LinuxDriver.write = write
from llmchat.cli import main
main()
"""
"""Starts llmchat; it tells with each paint of the empty prompt whether torch is loaded."""

PROMPT = "Tell me a very long story about the sea, the wind and an old lighthouse."


def echo_seconds(running: Program, letter: str) -> float:
    """Press a letter and wait until it is drawn after the one before it, at the prompt's cursor."""
    began = perf_counter()
    running.press(letter)
    drawn = ""
    # The cursor stands on a blank in reverse right behind the new letter.
    while not re.search(rf"{letter}(\x1b\[[0-9;]*m)+ ", drawn):
        if perf_counter() - began > 5:
            sys.exit(f"no echo of {letter!r} in {drawn[-500:]!r}")
        drawn += running.read(0.5)
    return perf_counter() - began


def measure_echo(model: str, keys: int, *, streaming: bool) -> list[float]:
    """Seconds from each key press to its echo."""
    times = []
    with program(model, "-n", "4000", "--seed", "1", *(["-p", PROMPT] if streaming else [])) as running:
        running.wait_for(r"tok/s" if streaming else r"ready")
        for number in range(keys):
            times.append(echo_seconds(running, LETTERS[number % 26]))
            # Not in step with the stream's own rhythm.
            pause = perf_counter() + 0.02 + 0.037 * (number % 5)
            while perf_counter() < pause:
                running.read(0.005)
    return times


def measure_start(model: str) -> tuple[float, bool, float]:
    """Seconds to the first paint, whether torch was loaded by then, and seconds until the model is ready."""
    with program(model, program=("-c", WATCHED)) as running:
        painted, found = running.wait_for("<torch (True|False)>")
        return painted, "True" in found, running.wait_for("ready")[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--keys", type=int, default=150)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    starts = [measure_start(options.model) for _ in range(options.starts)]
    painted = statistics.median(start[0] for start in starts)
    ready = statistics.median(start[2] for start in starts)
    torch = "before" if not any(start[1] for start in starts) else "after"
    print(f"first paint {painted:.2f} s after the start of the process, {torch} torch is loaded; ready {ready:.2f} s")
    for streaming in (False, True):
        times = sorted(measure_echo(options.model, options.keys, streaming=streaming))
        percentile = times[int(len(times) * 0.95)]
        what = "while a reply streams" if streaming else "at rest"
        print(
            f"key to echo {what}: median {statistics.median(times) * 1000:.1f} ms, "
            f"95 % within {percentile * 1000:.1f} ms, worst {times[-1] * 1000:.1f} ms ({len(times)} keys)"
        )


if __name__ == "__main__":
    main()
