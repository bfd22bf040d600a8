"""Decode while another program keeps a core busy: llmchat against llama.cpp with the same threads.

    python -m benchmarks.busy_core [MODEL] [--threads N ...] [--context N] [--rounds N]

In each round llmchat decodes on one thread with nothing else to do, then, beside a process
that only counts, llmchat and llama.cpp on the same number of threads. A figure is the speed
over some seconds: a core that is taken away now and then is what is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.peers import Peer, model_path, open_ours, open_peers, random_ids
from benchmarks.rounds import Goal, Rounds

SECONDS = 3.0
"""How long one measurement decodes."""

_COUNT = """
import os
while os.getppid() == {parent}:
    for _ in range(1_000_000):
        pass
"""
"""Ends by itself should the benchmark be killed."""


@contextmanager
def busy_core() -> Iterator[None]:
    """A process beside this one that keeps one core busy, whichever it is given."""
    with subprocess.Popen([sys.executable, "-c", _COUNT.format(parent=os.getpid())]) as process:
        try:
            yield
        finally:
            process.kill()


def sustained_rate(peer: Peer, ids: Sequence[int]) -> float:
    """Tokens per second over some seconds behind a context."""
    peer.read(ids)
    began, steps = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < SECONDS:
        peer.decode(100)
        steps += 1
    return steps / seconds


def compare(path: str, threads: int, context: int, rounds: int) -> bool:
    """The rounds with so many threads; whether every goal was reached."""
    ids, table = random_ids(context), Rounds("tok/s")
    alone, ours = open_ours(path, 1), open_ours(path, threads)
    peers = open_peers(path, threads, ["llama.cpp"])
    figure, idle = f"decode with a busy core, {threads} thread{'s' * (threads > 1)}", "llmchat idle, 1 thread"
    for _ in range(rounds):
        idle_rate = sustained_rate(alone, ids)
        with busy_core():
            for peer in (ours, *peers):
                table.add(figure, peer.name, sustained_rate(peer, ids))
        table.add(figure, idle, idle_rate)
    return table.print({(figure, "llama.cpp"): Goal(3.0), (figure, idle): Goal(0.5)})


def main() -> int:
    """Run the rounds; 0 if every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, len(os.sched_getaffinity(0))}))
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    path = model_path(options.model)
    reached = [compare(path, threads, options.context, options.rounds) for threads in options.threads]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    raise SystemExit(main())
