"""What a comparison of three settings costs, against one reply of the same length.

One reply and the comparison take turns in each round, so that a busy machine slows
both. Both include the reading of the prompt, which is in the KV cache after the
first time; loading is not timed. No reply may end early, so that the lengths are
equal. The settings part within a few tokens, after which every token is computed
for three.

Run with: python -m benchmarks.compare_cost [MODEL] [--rounds N] [--tokens N] [--threads N] [--dtype auto|float32]
"""

from __future__ import annotations

import argparse
import statistics
import time

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Turn
from llmchat.engine.batch import BatchStream, Lane
from llmchat.engine.engine import Engine
from llmchat.engine.generation import ReplyStream
from llmchat.engine.opening import open_engine
from llmchat.engine.prompt import Prompt, build_prompt

TEMPERATURES = (0.8, 0.3, 1.2)
"""The first is that of the single reply."""
REQUIRED = 2.0


def main() -> int:
    """Measure, print, and return 0 if the median ratio stays below what is required."""
    parser = argparse.ArgumentParser(description="The cost of comparing three settings, against one reply.")
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    spec = ModelSpec(arguments.model, dtype=arguments.dtype, threads=arguments.threads)
    engine = open_engine(spec, lambda stage, fraction: None)
    prompt = build_prompt(engine, [Turn("user", "Tell me about the sea.")], raw=False)
    length = {"min_new_tokens": arguments.tokens, "max_new_tokens": arguments.tokens}
    configs = [GenerationConfig(temperature=heat, **length) for heat in TEMPERATURES]
    one_reply(engine, prompt, configs[0], 0)
    rounds = [
        (one_reply(engine, prompt, configs[0], seed), comparison(engine, prompt, configs, seed))
        for seed in range(arguments.rounds)
    ]
    return report(engine, rounds, arguments.tokens)


def one_reply(engine: Engine, prompt: Prompt, config: GenerationConfig, seed: int) -> float:
    """Seconds for one reply."""
    began = time.perf_counter()
    stream = ReplyStream(engine, prompt, lambda index: config, seed)
    stream.prefill()
    for _ in stream:
        pass
    seconds = time.perf_counter() - began
    assert len(stream.reply().token_ids) == config.max_new_tokens
    return seconds


def comparison(engine: Engine, prompt: Prompt, configs: list[GenerationConfig], seed: int) -> float:
    """Seconds for replies under all settings."""
    began = time.perf_counter()
    stream = BatchStream(engine, prompt, [Lane(config, seed) for config in configs])
    stream.prefill()
    for _ in stream:
        pass
    seconds = time.perf_counter() - began
    texts = {reply.token_ids for reply in stream.replies()}
    assert len(texts) == len(configs), "the settings did not part; the comparison is void"
    return seconds


def report(engine: Engine, rounds: list[tuple[float, float]], tokens: int) -> int:
    """Print what was measured."""
    ratios = sorted(three / one for one, three in rounds)
    middle = statistics.median(ratios)
    info = engine.info
    print(f"{info.name}, {info.weight_format}, {info.dtype}, {info.threads} threads, {tokens} tokens a reply")
    print(f"one reply:        {statistics.median(one for one, _ in rounds) / tokens * 1e3:7.1f} ms for each token")
    print(f"three compared:   {statistics.median(three for _, three in rounds) / tokens * 1e3:7.1f} ms for each step")
    print(
        f"ratio:            {middle:7.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds; "
        f"required: below {REQUIRED:g})"
    )
    return 0 if middle < REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
