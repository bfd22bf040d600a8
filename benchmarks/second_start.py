"""From nothing to the first token of a large model, once its weights are kept repacked, against llama.cpp with mmap.

Each start is a process of its own: import, open, read a prompt of some words, one token. By turns: llmchat from the
second start on, llmchat without kept weights, and llama.cpp with weight repacking and flash attention both ways. Told
are wall and CPU seconds from the first import on, and the private memory in the end (what was written to, not what is
mapped). CPU seconds say more on a busy machine; llama.cpp's threads spin, so compare those on one thread.

Run with: python -m benchmarks.second_start MODEL [--rounds N] [--threads N]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.rounds import Goal, Rounds

PROMPT = "Hello there, how are you?"
PEERS = {
    f"llama.cpp, {'' if repack else 'no '}repacking, {'' if flash else 'no '}flash attention": (repack, flash)
    for repack, flash in product((False, True), repeat=2)
}
FIGURES = {"wall": "to the first token, wall s", "cpu": "the same, CPU s", "private": "private memory, MB"}


def main() -> int:
    """Measure, print, and return 0 if a second start is as quick and as small as it is to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    table, goals = Rounds("see the row"), {}
    with tempfile.TemporaryDirectory() as kept, tempfile.NamedTemporaryFile() as nowhere:
        start("llmchat", options, kept, wait=True)
        for number in range(options.rounds + 1):
            for name in ("llmchat", "llmchat, first start", *PEERS):
                told = start(name, options, nowhere.name if "first" in name else kept)
                for figure, words in FIGURES.items():
                    if number and told:  # The first round warms the file pages.
                        table.add(words, name, told[figure])
    for name, figure in product(PEERS, ("wall", "cpu")):
        goals[FIGURES[figure], name] = Goal(1.0, at_most=True)
    return 0 if table.print(goals) else 1


def start(name: str, options: argparse.Namespace, cache: str, *, wait: bool = False) -> dict[str, float]:
    """What a process of its own tells; nothing where the peer is not installed."""
    command = [sys.executable, "-c", "from benchmarks.second_start import child; child()"]
    command += [name, options.model, str(options.threads), str(int(wait))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": cache})
    if done.returncode:
        print(f"{name} is passed over: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return {}
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def child() -> None:
    """Start one contender, print its figures, and stay until its weights are kept if that is waited for."""
    name, model, threads, wait = sys.argv[1:]
    wall, cpu = time.perf_counter(), time.process_time()
    opened = _start_peer(model, int(threads), *PEERS[name]) if name in PEERS else _start_ours(model, int(threads))
    figures = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "private": _private_megabytes()}
    if wait == "1" and (keeper := opened.model._keeper) is not None:
        keeper.join()
    print(json.dumps(figures), flush=True)
    os._exit(0)


def _start_ours(model: str, threads: int) -> Any:
    from llmchat.chat.model import ModelSpec
    from llmchat.engine.native_engine import NativeEngine
    from llmchat.engine.opening import open_engine

    engine = open_engine(ModelSpec(model, threads=threads), lambda stage, fraction: None)
    logits = engine.prefill(engine.tokenizer.encode(PROMPT), lambda: False).logits
    assert logits is not None and isinstance(engine, NativeEngine)
    logits.argmax()
    return engine


def _start_peer(model: str, threads: int, repack: bool, flash: bool) -> Any:
    llama_cpp: Any = importlib.import_module("llama_cpp")
    defaults = llama_cpp.llama_cpp.llama_model_default_params

    def chosen() -> Any:
        parameters = defaults()
        parameters.use_extra_bufts = repack
        return parameters

    llama_cpp.llama_cpp.llama_model_default_params = chosen
    peer = llama_cpp.Llama(
        model, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False, use_mmap=True, flash_attn=flash
    )
    peer.eval(peer.tokenize(PROMPT.encode()))
    peer.sample(temp=0)
    return peer


def _private_megabytes() -> float:
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Private_Dirty:"))


if __name__ == "__main__":
    raise SystemExit(main())
