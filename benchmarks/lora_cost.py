"""What a LoRA adapter of rank 16 on every matrix costs a token, against the model alone.

Three take turns in each round, so that a busy machine slows all: the model without an adapter, with one, and with
one whose scale is 0. The adapter is made for the measurement, of random numbers in the format that is asked for.

Run with: python -m benchmarks.lora_cost [MODEL] [--rank N] [--kind F32|F16] [--rounds N] [--tokens N] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from llmchat.chat.model import ModelSpec
from llmchat.engine.engine import Engine
from llmchat.engine.opening import open_engine
from llmchat.models.plan import Dense, ModelPlan

_TYPES = {"F32": "<f4", "F16": "<f2"}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The cost of a LoRA adapter for each token.")
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--kind", choices=_TYPES, default="F32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    alone = opened(arguments.model, "", arguments.threads)
    with tempfile.TemporaryDirectory() as place:
        write_adapter(Path(place), alone.model.plan, arguments.rank, arguments.kind)  # type: ignore[attr-defined]
        adapted = opened(arguments.model, place, arguments.threads)
    ways = ((alone, 1.0), (adapted, 1.0), (adapted, 0.0))
    for engine, scale in ways:
        seconds_of(engine, scale, arguments.tokens)
    rounds = [[seconds_of(*way, arguments.tokens) for way in ways] for _ in range(arguments.rounds)]
    info = alone.info
    adapter = f"rank {arguments.rank}, {arguments.kind}"
    print(f"{info.name}, {info.weight_format}, {info.dtype}, {info.threads} threads; {adapter}")
    for column, words in enumerate(("the model alone", "with an adapter", "with one at a scale of 0")):
        speed = arguments.tokens / statistics.median(times[column] for times in rounds)
        ratios = sorted(times[0] / times[column] for times in rounds)
        spread = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}-{ratios[-1]:.2f}]"
        print(f"{words:26} {speed:7.1f} tok/s, {spread} of its speed alone")
    return 0


def opened(model: str, lora: str, threads: int) -> Engine:
    """An engine."""
    return open_engine(ModelSpec(model, threads=threads, lora=lora), lambda stage, fraction: None)


def seconds_of(engine: Engine, scale: float, tokens: int) -> float:
    """How long some tokens take behind a short text."""
    engine.lora_scale = scale
    engine.prefill(list(range(10, 74)), lambda: False)
    began = time.perf_counter()
    for token in range(tokens):
        engine.decode(100 + token)
    return time.perf_counter() - began


def write_adapter(place: Path, plan: ModelPlan, rank: int, kind: str) -> None:
    """A PEFT directory for every matrix of a Llama's layers."""
    dice = np.random.default_rng(1)
    heads: dict[str, Any] = {}
    parts: list[bytes] = []
    end = 0
    for index, layer in enumerate(plan.layers):
        attention, ffn = layer.attention, layer.ffn
        assert isinstance(ffn, Dense)
        shapes = {
            "self_attn.q_proj": (attention.q_dim, plan.dim),
            "self_attn.k_proj": (attention.kv_dim, plan.dim),
            "self_attn.v_proj": (attention.kv_dim, plan.dim),
            "self_attn.o_proj": (plan.dim, attention.q_dim),
            "mlp.gate_proj": (ffn.dim, plan.dim),
            "mlp.up_proj": (ffn.dim, plan.dim),
            "mlp.down_proj": (plan.dim, ffn.dim),
        }
        for module, (rows, cols) in shapes.items():
            for half, shape in (("A", (rank, cols)), ("B", (rows, rank))):
                raw = dice.normal(0, 0.02, shape).astype(_TYPES[kind]).tobytes()
                name = f"base_model.model.model.layers.{index}.{module}.lora_{half}.weight"
                heads[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + len(raw)]}
                end += len(raw)
                parts.append(raw)
    head = json.dumps(heads).encode()
    head += b" " * (-len(head) % 8)
    (place / "adapter_model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"".join(parts))
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank}
    (place / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    raise SystemExit(main())
