"""One short reply from the shell: time to the first token, and peak memory, against llama.cpp's own programs.

    python -m benchmarks.short_job [MODEL] [--threads N] [--rounds N]

Each round starts `llmchat --once`, `llama-cli` and, to have it beside them, `llama-completion` in turn, with
the file in the system's cache, and reads what they print. The first token is there when the first character
of the reply is. Memory is the most that was resident at once, mapped files included.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass

from benchmarks.programs import llama_program, model_file, own_environment, own_program
from benchmarks.rounds import Goal, Rounds

PROMPT = "Name three seas."
TOKENS = 32


@dataclass(frozen=True, slots=True)
class Job:
    """A command that writes a reply."""

    name: str
    command: list[str]
    beginning: str
    """Matches the output up to the first character of the reply."""


def jobs(model: str, threads: int) -> list[Job]:
    """The same work for each program that is here."""
    ours = [*own_program(), "--once", "--no-save", "--greedy", "-m", model, "-p", PROMPT, "-n", str(TOKENS)]
    found = [Job("llmchat", [*ours, "--threads", str(threads)], r"\S")]
    theirs = ["-m", model, "-p", PROMPT, "-n", str(TOKENS), "-t", str(threads), "-c", "2048"]
    theirs += ["--temp", "0", "-st", "--simple-io"]
    for name, own, beginning in (
        ("llama-cli", [], rf"> {re.escape(PROMPT)}\s+\S"),
        ("llama-completion", ["--no-display-prompt"], r"\S"),
    ):
        if (program := llama_program(name)) is not None:
            found.append(Job(name, [program, *theirs, *own], beginning))
    return found


def run(job: Job) -> tuple[float, int]:
    """Seconds to the first token, and the most bytes that were resident."""
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=own_environment()
        )
        assert process.stdout is not None
        out, seconds = "", 0.0
        while piece := os.read(process.stdout.fileno(), 65536):
            out += piece.decode(errors="replace")
            if not seconds and re.search(job.beginning, out):
                seconds = time.perf_counter() - began
        _, status, usage = os.wait4(process.pid, 0)
        process.stdout.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not seconds:
            errors.seek(0)
            raise SystemExit(f"{job.name} failed: {out[-300:]} {errors.read().decode(errors='replace')[-1000:]}")
    return seconds, usage.ru_maxrss * 1024


def main() -> int:
    """Run the rounds; 0 if every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    contenders = jobs(model_file(options.model), options.threads)
    first, memory = "shell to first token", "peak memory"
    times, sizes = Rounds("s"), Rounds("MB")
    for job in contenders:
        run(job)
    for _ in range(options.rounds):
        for job in contenders:
            seconds, resident = run(job)
            times.add(first, job.name, seconds)
            sizes.add(memory, job.name, resident / 1e6)
    fast = times.print({(first, "llama-cli"): Goal(1.0, at_most=True)})
    small = sizes.print({(memory, "llama-cli"): Goal(1.5, at_most=True)})
    return 0 if fast and small else 1


if __name__ == "__main__":
    raise SystemExit(main())
