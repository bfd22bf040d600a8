"""Many prompts in one go, against one after the other: 32 of them, by turns, in wall-clock and in processor time.

Both give the same replies, or the run fails. The prompts differ, but for what the chat template puts before them.

Run with: python -m benchmarks.many_prompts [MODEL] [--rounds N] [--tokens N] [--threads N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.rounds import Goal, Rounds
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.job import Job
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Reply, Turn
from llmchat.engine.engine import Engine
from llmchat.engine.generation import ReplyStream
from llmchat.engine.many import ManyReplies, prompt_of
from llmchat.engine.opening import open_engine

WORDS = ("sea", "moon", "river", "bread", "stone", "horse", "winter", "clock", "bridge", "garden", "storm", "lamp")
GOAL = Goal(4.0)
ALONE = "one after the other"


def main() -> int:
    """Measure, print, and return 0 if it is as many times as quick as it is to be."""
    parser = argparse.ArgumentParser(description="Many prompts in one go.")
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    engine = open_engine(ModelSpec(arguments.model, threads=arguments.threads), lambda stage, fraction: None)
    config = GenerationConfig(max_new_tokens=arguments.tokens)
    texts = [f"Write about the {WORDS[place % 12]} and the {WORDS[(place // 12 + 3) % 12]}." for place in range(32)]
    jobs = [Job((Turn("user", text),), config, place) for place, text in enumerate(texts)]
    rounds = Rounds("tokens a second")
    for _ in range(arguments.rounds):
        replies = []
        for name, answer in (("llmchat", together), (ALONE, one_by_one)):
            replies.append(measure(rounds, name, answer, engine, jobs))
        assert replies[0] == replies[1], "the replies are not the same"
    return 0 if rounds.print({("wall clock", ALONE): GOAL, ("processor", ALONE): GOAL}) else 1


def measure(
    rounds: Rounds, name: str, answer: Callable[[Engine, Sequence[Job]], list[Reply]], engine: Engine, jobs: list[Job]
) -> list[tuple[int, ...]]:
    """Note both times of answering the jobs; the ids of the replies."""
    wall, processor = time.perf_counter(), time.process_time()
    ids = [reply.token_ids for reply in answer(engine, jobs)]
    tokens = sum(map(len, ids))
    rounds.add("wall clock", name, tokens / (time.perf_counter() - wall))
    rounds.add("processor", name, tokens / (time.process_time() - processor))
    return ids


def together(engine: Engine, jobs: Sequence[Job]) -> list[Reply]:
    """All in lanes."""
    outcomes = dict(ManyReplies(engine, jobs))
    replies = [outcome for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Reply)]
    assert len(replies) == len(jobs)
    return replies


def one_by_one(engine: Engine, jobs: Sequence[Job]) -> list[Reply]:
    """Each alone."""
    replies = []
    for job in jobs:
        stream = ReplyStream(engine, prompt_of(engine, job), partial(_config_of, job), job.seed)
        stream.prefill()
        for _ in stream:
            pass
        replies.append(stream.reply())
    return replies


def _config_of(job: Job, index: int) -> GenerationConfig:
    return job.config


if __name__ == "__main__":
    raise SystemExit(main())
