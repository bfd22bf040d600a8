"""Decoding with the KV cache against llmbuilder's own generation, on one model, side by side.

llmbuilder runs the whole context through the model for every token; llmchat only
the new one. Both decode greedily from the same prompt of CONTEXT tokens, taking
turns in each round, so that a busy machine slows both. Loading is not timed;
llmbuilder's prompt is part of its every step and has no cost of its own.

The peer is installed beside torch, without what it needs for training:

    python -m pip install --no-deps llmbuilder==2.0.0

Run with: python -m benchmarks.llmbuilder_decode [--rounds N] [--threads N]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.llmbuilder import load_llmbuilder
from llmchat.engine.architectures.gpt import GPT

TINY = Path(__file__).resolve().parent.parent / "tests/data/llmbuilder-2.0.0-tiny"
CONTEXT = 120
NEW_TOKENS = 8
"""CONTEXT and these fill the model's 128 positions, so its window never slides."""
REPEATS = 10
REQUIRED = 5.0


def main() -> int:
    """Measure, print, and return 0 if the median ratio reaches what is required."""
    parser = argparse.ArgumentParser(description="Decode speed against llmbuilder's own generation.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peer = open_peer()
    if peer is None:
        print("llmbuilder is missing: python -m pip install --no-deps llmbuilder==2.0.0", file=sys.stderr)
        return 2
    model = open_own()
    prompt = torch.tensor([[(37 * place + 11) % 996 + 4 for place in range(CONTEXT)]])
    with torch.inference_mode():
        if decode_own(model, prompt)[0] != decode_peer(peer, prompt)[0]:
            print("The two do not generate the same tokens; the comparison is void.", file=sys.stderr)
            return 1
        own, theirs = measure(model, peer, prompt, arguments.rounds)
    report(own, theirs, arguments.threads)
    return 0 if statistics.median(ratios(own, theirs)) >= REQUIRED else 1


def open_own() -> GPT:
    """Our model."""
    spec = ModelSpec(model=str(TINY / "model/model.pt"), tokenizer=str(TINY / "tokenizer"))
    return GPT.from_checkpoint(load_llmbuilder(spec, lambda stage, fraction: None))


def open_peer() -> Any:
    """The generator of llmbuilder on the same file; None if it is not installed."""
    logging.disable(logging.INFO)
    here = Path.cwd()
    # Importing llmbuilder makes a directory where it is run.
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        try:
            peer = importlib.import_module("llmbuilder.inference.generate")
        except ImportError:
            return None
        finally:
            os.chdir(here)
    with contextlib.redirect_stdout(sys.stderr):
        return peer.TextGenerator(TINY / "model/model.pt", TINY / "tokenizer", device="cpu")


def decode_own(model: GPT, prompt: torch.Tensor) -> tuple[list[int], float]:
    """The new ids, and the seconds that they took after the prompt."""
    cache = model.make_cache(CONTEXT + NEW_TOKENS)
    logits = model(prompt, cache)
    ids: list[int] = []
    start = time.perf_counter()
    while len(ids) < NEW_TOKENS:
        token = logits.argmax(dim=-1, keepdim=True)
        ids.append(int(token))
        logits = model(token, cache)
    return ids, time.perf_counter() - start


def decode_peer(peer: Any, prompt: torch.Tensor) -> tuple[list[int], float]:
    """The same by llmbuilder's own loop."""
    config = importlib.import_module("llmbuilder.inference.generate").GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, temperature=1.0, early_stopping=False
    )
    start = time.perf_counter()
    generated = peer._generate_tokens(prompt, config)
    seconds = time.perf_counter() - start
    ids: list[int] = generated[0, CONTEXT:].tolist()
    return ids, seconds


def measure(model: GPT, peer: Any, prompt: torch.Tensor, rounds: int) -> tuple[list[float], list[float]]:
    """Tokens per second of each round: ours and theirs."""
    own: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        own_seconds = their_seconds = 0.0
        for _ in range(REPEATS):
            own_seconds += decode_own(model, prompt)[1]
            their_seconds += decode_peer(peer, prompt)[1]
        own.append(REPEATS * NEW_TOKENS / own_seconds)
        theirs.append(REPEATS * NEW_TOKENS / their_seconds)
    return own, theirs


def ratios(own: list[float], theirs: list[float]) -> list[float]:
    """How many times as fast we were, round by round."""
    return [ours / other for ours, other in zip(own, theirs, strict=True)]


def report(own: list[float], theirs: list[float], threads: int) -> None:
    """Print speeds and ratio with their spread."""
    print(f"tiny model, context {CONTEXT}, {threads} thread(s), {len(own)} rounds of {REPEATS * NEW_TOKENS} tokens")
    rows = (("llmchat, tokens/s", own), ("llmbuilder 2.0.0, tokens/s", theirs), ("ratio", ratios(own, theirs)))
    for label, values in rows:
        print(f"{label:28} median {statistics.median(values):8.1f}   min {min(values):8.1f}   max {max(values):8.1f}")


if __name__ == "__main__":
    sys.exit(main())
