"""Two layers of the shape of gpt-oss-20b, 1 GB in MXFP4: how fast they load and decode, and what a token reads.

    python -m benchmarks.mixture [--threads N] [--layers N] [--steps N] [--keep PATH]

The file is of random bits. What a token touches of memory is counted by the kernel, which forgets before it which
pages were used (Linux alone); it is to be near what the experts that a token uses take, and far from all of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from benchmarks.rounds import print_table
from llmchat.chat.model import ModelSpec
from llmchat.engine.native_engine import NativeEngine
from llmchat.engine.opening import open_engine

DIM, EXPERTS, USED, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 2880, 32, 4, 64, 8, 64, 16_000
ARCHITECTURE = "gpt-oss"


def main() -> int:
    """Write the file, run it, and return 0 if a token touches no more than a third of the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--keep", type=Path, help="where the file is to stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = options.keep or Path(scratch, "mixture.gguf")
        if not path.exists():
            # Apart, so that it leaves no memory behind.
            writing = multiprocessing.get_context("spawn").Process(target=write_mixture, args=(path, options.layers))
            writing.start()
            writing.join()
        return measure(path, options.threads, options.steps)


def measure(path: Path, threads: int, steps: int) -> int:
    """Load and decode."""
    began = time.perf_counter()
    engine = open_engine(ModelSpec(str(path), threads=threads), lambda stage, fraction: None)
    load = time.perf_counter() - began
    if not isinstance(engine, NativeEngine):
        print("This machine has no native step.", file=sys.stderr)
        return 1
    engine.prefill(range(1, 17), lambda: False)
    touched, times = [], []
    for token in range(steps):
        _forget_touched()
        began = time.perf_counter()
        engine.decode(token)
        times.append(time.perf_counter() - began)
        touched.append(_touched())
    size, weights, median = path.stat().st_size, engine.model.weight_bytes, statistics.median(times)
    token_touches = statistics.median(touched)
    figures = {
        "file": f"{size / 1e6:.0f} MB",
        "load": f"{load:.2f} s",
        "most memory": f"{_peak() / 1e6:.0f} MB",
        "decode": f"{1 / median:.1f} tok/s ({weights / median / 1e9:.1f} GB/s)",
        "weights that a token reads": f"{weights / 1e6:.0f} MB",
        "memory that a token touches": f"{token_touches / 1e6:.0f} MB, in whole pages",
    }
    print_table(["figure", "value"], [list(row) for row in figures.items()])
    return 0 if token_touches < size / 3 else 1


def write_mixture(path: Path, layers: int) -> None:
    """A GGUF file of gpt-oss's kind with random weights."""
    rng = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, ARCHITECTURE, use_temp_file=False)
    for key, value in _facts(layers).items():
        if isinstance(value, float):
            writer.add_float32(f"{ARCHITECTURE}.{key}", value)
        else:
            writer.add_uint32(f"{ARCHITECTURE}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"<{i}>" for i in range(VOCABULARY)])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges([])
    writer.add_eos_token_id(0)
    for name, shape, kind in _tensors(layers):
        data = _random(kind, shape, rng)
        writer.add_tensor(name, data, raw_dtype=None if kind == "F32" else gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _facts(layers: int) -> dict[str, int | float]:
    return {
        "block_count": layers,
        "context_length": 4096,
        "embedding_length": DIM,
        "feed_forward_length": DIM,
        "expert_feed_forward_length": DIM,
        "expert_count": EXPERTS,
        "expert_used_count": USED,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD_DIM,
        "attention.value_length": HEAD_DIM,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.sliding_window": 128,
        "rope.freq_base": 150000.0,
    }


def _tensors(layers: int) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """The name, shape and format of each."""
    query, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    yield "token_embd.weight", (VOCABULARY, DIM), "Q8_0"
    yield "output.weight", (VOCABULARY, DIM), "Q8_0"
    yield "output_norm.weight", (DIM,), "F32"
    for index in range(layers):
        block = f"blk.{index}."
        for norm in ("attn_norm", "post_attention_norm"):
            yield f"{block}{norm}.weight", (DIM,), "F32"
        for part, rows, cols in (("q", query, DIM), ("k", kv, DIM), ("v", kv, DIM), ("output", DIM, query)):
            yield f"{block}attn_{part}.weight", (rows, cols), "Q8_0"
            yield f"{block}attn_{part}.bias", (rows,), "F32"
        yield f"{block}attn_sinks.weight", (HEADS,), "F32"
        yield f"{block}ffn_gate_inp.weight", (EXPERTS, DIM), "F32"
        yield f"{block}ffn_gate_inp.bias", (EXPERTS,), "F32"
        for part in ("gate", "up", "down"):
            yield f"{block}ffn_{part}_exps.weight", (EXPERTS, DIM, DIM), "MXFP4"
            yield f"{block}ffn_{part}_exps.bias", (EXPERTS, DIM), "F32"


def _random(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Numbers of about 1/30; norms and biases around 1 and 0 matter to no figure."""
    if kind == "F32":
        return (rng.standard_normal(shape) / 30).astype(np.float32)
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // values, size), dtype=np.uint8)
    if kind == "MXFP4":
        blocks[..., 0] = 120
    else:
        blocks[..., :2] = np.frombuffer(np.float16(1 / 2200).tobytes(), np.uint8)
    return blocks.reshape(*shape[:-1], -1)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_touched() -> None:
    Path("/proc/self/clear_refs").write_text("1")


def _touched() -> int:
    """Bytes of pages that were used since, of this process's own memory."""
    text = Path(f"/proc/{os.getpid()}/smaps").read_text()
    return 1024 * sum(map(int, re.findall(r"^Referenced:\s+(\d+) kB", text, re.MULTILINE)))


if __name__ == "__main__":
    raise SystemExit(main())
