"""Decode, prefill and lanes of one GGUF file: llmchat's native step against llama.cpp and transformers, by turns.

    python -m benchmarks.decode [MODEL] [--threads 1 2] [--peers llama.cpp transformers] [--rounds N]
        [--contexts 64 512 2048] [--prefills 512 2048 8000] [--lanes 8 16 32] [--best] [--cpu-time]

Every figure is a rate in tokens per second. Decoding and lanes are the upper quartile of single steps,
which a busy moment does not touch. With --best llama.cpp takes part with and without flash attention and repacking,
and counts with whichever is fastest in each round; --cpu-time counts the processor's time in place of the clock's,
for machines that have something else to do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.peers import LANES, PEERS, Peer, model_path, open_every_llama_cpp, open_ours, open_peers, random_ids
from benchmarks.rounds import Goal, Rounds

CONTEXTS, PREFILLS = (64, 512, 1500), (512,)
STEPS = 24
BEST = "llama.cpp at its best"


def rate(act: Callable[[], None], tokens: int, clock: Callable[[], float]) -> float:
    """Tokens per second of one run."""
    began = clock()
    act()
    return tokens / (clock() - began)


@dataclass(frozen=True, slots=True)
class Work:
    """What every contender does in each round."""

    contexts: Sequence[int]
    prefills: Sequence[int]
    lanes: Sequence[int]
    clock: Callable[[], float]

    def longest(self) -> int:
        """The most positions that a KV cache must hold."""
        return max(*self.contexts, *self.prefills, LANES * max(CONTEXTS[0], STEPS)) + STEPS

    def figures(self) -> dict[str, Callable[[Peer], float]]:
        """What measures each figure."""
        return {
            **{f"decode at {context}": partial(self._decode_rate, context=context) for context in self.contexts},
            **{f"prefill of {tokens}": partial(self._prefill_rate, tokens=tokens) for tokens in self.prefills},
            **{f"{lanes} lanes": partial(self._lanes_rate, lanes=lanes) for lanes in self.lanes},
        }

    def _decode_rate(self, peer: Peer, context: int) -> float:
        peer.read(random_ids(context))
        return self._upper_quartile(lambda: peer.decode(100), 1)

    def _prefill_rate(self, peer: Peer, tokens: int) -> float:
        ids = random_ids(tokens)
        return rate(lambda: peer.read(ids), tokens, self.clock)

    def _lanes_rate(self, peer: Peer, lanes: int) -> float:
        peer.read(random_ids(CONTEXTS[0]))
        peer.fork(lanes)
        ids = random_ids(lanes)
        return self._upper_quartile(lambda: peer.decode_lanes(ids), lanes)

    def _upper_quartile(self, step: Callable[[], None], tokens: int) -> float:
        step()
        return sorted(rate(step, tokens, self.clock) for _ in range(STEPS))[STEPS * 3 // 4]


def compare(ours: Sequence[Peer], peers: Sequence[Peer], work: Work, threads: int, rounds: int, *, best: bool) -> bool:
    """Measure and print; returns whether every goal was reached."""
    table, goals = Rounds("tok/s"), {}
    for name, measure in work.figures().items():
        figure = f"{name}, {threads} thread{'s' * (threads > 1)}"
        for other in (BEST, "llama.cpp"):
            goals[figure, other] = Goal(1.5 if name.startswith("prefill") else 2.0)
        for _ in range(rounds):
            for peer in ours:
                table.add(figure, peer.name, measure(peer))
            rates = {peer.name: measure(peer) for peer in peers}
            for peer_name, reached in ({BEST: max(rates.values())} if best and rates else rates).items():
                table.add(figure, peer_name, reached)
    return table.print(goals)


def main() -> int:
    """Run the rounds; 0 if every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=["llama.cpp"])
    parser.add_argument("--best", action="store_true", help="llama.cpp alone, with every setting")
    parser.add_argument("--torch", action="store_true", help="llmchat's torch reference takes part too")
    parser.add_argument("--contexts", type=int, nargs="*", default=CONTEXTS)
    parser.add_argument("--prefills", type=int, nargs="*", default=PREFILLS)
    parser.add_argument("--lanes", type=int, nargs="*", default=())
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    path, reached = model_path(options.model), True
    clock = time.process_time if options.cpu_time else time.perf_counter
    work = Work(options.contexts, options.prefills, options.lanes, clock)
    for threads in options.threads:
        ours: list[Peer] = [open_ours(path, threads)]
        if options.torch:
            ours.append(open_ours(path, threads, "float32"))
        every = open_every_llama_cpp(path, threads, work.longest()) if options.best else []
        peers = every or open_peers(path, threads, options.peers)
        reached = compare(ours, peers, work, threads, options.rounds, best=options.best) and reached
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
