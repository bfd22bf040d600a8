"""Decoding with the KV cache against llmbuilder's own generation, on one model, by turns.

llmbuilder runs the whole context through the model for every token; llmchat only
the new one. Both decode greedily from the same prompt and must draw the same tokens.
Loading is not timed, nor is llmchat's reading of the prompt; llmbuilder's prompt is
part of its every step and has no cost of its own.

Two models: the tiny one of the tests behind 120 tokens, and one of random weights of the size that
llmbuilder trains on a desk (16,000 tokens, 8 layers, 384 wide) behind 500.

The peer is installed beside torch, without what it needs for training:

    python -m pip install --no-deps llmbuilder==2.0.0

Run with: python -m benchmarks.llmbuilder_decode [--rounds N] [--threads N]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.rounds import Goal, Rounds
from llmchat.chat.model import ModelSpec
from llmchat.engine.engine import Engine
from llmchat.engine.opening import open_engine

TINY = Path(__file__).resolve().parent.parent / "tests/data/llmbuilder-2.0.0-tiny"
NEW_TOKENS = 8
VOCABULARY = 16_000


@dataclass(frozen=True, slots=True)
class Case:
    """A model that both open, and what is asked of it."""

    name: str
    model: Path
    tokenizer: Path
    context: int
    vocabulary: int
    goal: Goal


def main() -> int:
    """Measure, print, and return 0 if the median ratios reach what is required."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.INFO)
    table, goals = Rounds("tok/s"), {}
    with in_scratch_directory() as scratch:
        try:
            generate: Any = importlib.import_module("llmbuilder.inference.generate")
        except ImportError as error:
            print(f"llmbuilder is missing ({error}): pip install --no-deps llmbuilder==2.0.0", file=sys.stderr)
            return 2
        for case in (tiny_case(), random_case(scratch)):
            goals[case.name, "llmbuilder 2.0.0"] = case.goal
            if not compare(case, generate, options.threads, options.rounds, table):
                print(f"{case.name}: the two do not draw the same tokens; the comparison is void.", file=sys.stderr)
                return 1
    return 0 if table.print(goals) else 1


@contextlib.contextmanager
def in_scratch_directory() -> Iterator[Path]:
    """Importing llmbuilder makes a directory where it is run."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        yield Path(scratch)


def tiny_case() -> Case:
    """The model of the tests, whose context it nearly fills."""
    return Case("tiny model, behind 120", TINY / "model/model.pt", TINY / "tokenizer", 120, 1000, Goal(5))


def random_case(directory: Path) -> Case:
    """A model of random weights, made and written by llmbuilder, and a tokenizer of as many tokens."""
    torch.manual_seed(8417)
    library: Any = importlib.import_module("llmbuilder.model.builder")
    config: Any = importlib.import_module("llmbuilder.config.defaults").ModelConfig(
        vocab_size=VOCABULARY, num_layers=8, embedding_dim=384, num_heads=6, max_seq_length=512
    )
    library.save_model(library.build_model(config), directory / "model.pt")
    (directory / "tokenizer.model").write_bytes(_longer_tokenizer())
    return Case("GPT of 16k, 8, 384, behind 500", directory / "model.pt", directory, 500, VOCABULARY, Goal(20))


def _longer_tokenizer() -> bytes:
    """The tiny model's tokenizer with pieces added that no text has; SentencePiece's file is a protocol buffer."""
    parts = [(TINY / "tokenizer/tokenizer.model").read_bytes()]
    for number in range(VOCABULARY - 1000):
        name = f"<filler {number}>".encode()
        piece = bytes([0x0A, len(name)]) + name + b"\x15" + struct.pack("<f", -1e6)
        parts.append(bytes([0x0A, len(piece)]) + piece)
    return b"".join(parts)


def compare(case: Case, generate: Any, threads: int, rounds: int, table: Rounds) -> bool:
    """Measure one model; False if the two differ in a token."""
    with contextlib.redirect_stdout(sys.stderr):
        peer = generate.TextGenerator(case.model, case.tokenizer, device="cpu")
    spec = ModelSpec(str(case.model), tokenizer=str(case.tokenizer), threads=threads)
    engine = open_engine(spec, lambda stage, fraction: None)
    prompt = [(37 * place + 11) % (case.vocabulary - 4) + 4 for place in range(case.context)]
    config = generate.GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, temperature=1.0, early_stopping=False
    )
    for number in range(rounds + 1):
        ours, our_seconds = decode_own(engine, prompt)
        began = time.perf_counter()
        with torch.inference_mode():
            theirs = peer._generate_tokens(torch.tensor([prompt]), config)[0, case.context :].tolist()
        their_seconds = time.perf_counter() - began
        if ours != theirs:
            return False
        if number:  # The first warms up.
            table.add(case.name, "llmchat", NEW_TOKENS / our_seconds)
            table.add(case.name, "llmbuilder 2.0.0", NEW_TOKENS / their_seconds)
    return True


def decode_own(engine: Engine, prompt: list[int]) -> tuple[list[int], float]:
    """The new ids, and the seconds that they took after the prompt."""
    logits = engine.prefill(prompt, lambda: False).logits
    assert logits is not None
    ids: list[int] = []
    began = time.perf_counter()
    while len(ids) < NEW_TOKENS:
        ids.append(int(logits.argmax()))
        logits = engine.decode(ids[-1])
    return ids, time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
