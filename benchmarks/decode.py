"""Decode and prefill of one GGUF file: llmchat's native step against llama.cpp and transformers, by turns.

    python -m benchmarks.decode [MODEL] [--threads 1 2] [--peers llama.cpp transformers] [--rounds N]

Every figure is a rate in tokens per second. Decoding is the upper quartile of single steps,
which a busy moment does not touch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

from benchmarks.peers import PEERS, Peer, model_path, open_ours, open_peers, random_ids
from benchmarks.rounds import Goal, Rounds

CONTEXTS = (64, 512, 1500)
PREFILL = 512
STEPS = 24


def rate(act: Callable[[], None], tokens: int) -> float:
    """Tokens per second of one run."""
    began = time.perf_counter()
    act()
    return tokens / (time.perf_counter() - began)


def decode_rate(peer: Peer, ids: Sequence[int]) -> float:
    """Decode speed behind a context: the upper quartile of single steps."""
    peer.read(ids)
    rates = sorted(rate(lambda: peer.decode(100), 1) for _ in range(STEPS))
    return rates[STEPS * 3 // 4]


def compare(contenders: Sequence[Peer], threads: int, rounds: int) -> bool:
    """Measure and print; returns whether every goal was reached."""
    ids, table = random_ids(max(*CONTEXTS, PREFILL)), Rounds("tok/s")
    threads_text = f"{threads} thread{'s' * (threads > 1)}"
    prefill = f"prefill of {PREFILL}, {threads_text}"
    goals = {(prefill, "llama.cpp"): Goal(1.5)}
    for _ in range(rounds):
        for context in CONTEXTS:
            figure = f"decode at {context}, {threads_text}"
            goals[figure, "llama.cpp"] = Goal(2.0)
            for peer in contenders:
                table.add(figure, peer.name, decode_rate(peer, ids[:context]))
        for peer in contenders:
            table.add(prefill, peer.name, rate(lambda one=peer: one.read(ids[:PREFILL]), PREFILL))  # type: ignore[misc]
    return table.print(goals)


def main() -> int:
    """Run the rounds; 0 if every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=["llama.cpp"])
    parser.add_argument("--torch", action="store_true", help="llmchat's torch reference takes part too")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    path, reached = model_path(options.model), True
    for threads in options.threads:
        contenders: list[Peer] = [open_ours(path, threads)]
        if options.torch:
            contenders.append(open_ours(path, threads, "float32"))
        contenders += open_peers(path, threads, options.peers)
        reached = compare(contenders, threads, options.rounds) and reached
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
