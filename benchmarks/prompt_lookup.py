"""What prompt lookup gains where a reply says again what stands in the prompt, and costs where it does not.

The same reply is made without drafts and with them, by turns, each after the prompt has been read. What counts is the
processor's time, so that other programs do not. It is the same reply, or the run fails.

Run with: python -m benchmarks.prompt_lookup MODEL [--rounds N] [--tokens N] [--threads N]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import llmchat.sampling.draw
from benchmarks.rounds import Goal, Rounds
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Reply, Turn
from llmchat.engine.engine import Engine
from llmchat.engine.generation import ReplyStream
from llmchat.engine.opening import open_engine
from llmchat.engine.prompt import build_prompt

_CODE = "\n".join(Path(llmchat.sampling.draw.__file__).read_text(encoding="utf-8").splitlines()[:60])

TASKS = {
    "editing 60 lines of code": f"Here is a Python module:\n\n```python\n{_CODE}\n```\n\nRename the parameter "
    "`seed` to `dice` everywhere, and print the whole module.",
    "new code": "Write a Python class for an LRU cache, with tests.",
    "prose": "Write a long essay about the history of the sea, in paragraphs.",
    "a story": "Tell me a story about a lighthouse keeper and a storm.",
}
GOALS = {"editing 60 lines of code": 2.5, "prose": 0.98, "a story": 0.98}
WITHOUT = "without drafts"


def main() -> int:
    """Measure, print, and return 0 if every ratio is what it is to be."""
    parser = argparse.ArgumentParser(description="The gain of prompt lookup.")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    engine = open_engine(ModelSpec(arguments.model, threads=arguments.threads), lambda stage, fraction: None)
    rounds = Rounds("tokens a CPU second")
    for task, text in TASKS.items():
        config = GenerationConfig(max_new_tokens=arguments.tokens)
        if "code" in task:
            # A penalty for what was said already is none for code.
            config = config.changed(temperature=0.2, repetition_penalty=1.0)
        for seed in range(arguments.rounds):
            replies = {}
            for name, lookup in (("llmchat", True), (WITHOUT, False)):
                reply, seconds = measured(engine, text, config.changed(prompt_lookup=lookup), seed)
                rounds.add(task, name, len(reply.token_ids) / seconds)
                replies[name] = reply
            drafted = replies["llmchat"]
            assert drafted.token_ids == replies[WITHOUT].token_ids, "drafts changed the reply"
            print(f"{task}: {len(drafted.token_ids)} tokens, {drafted.drafted_tokens} drafted, ", end="")
            print(f"{drafted.accepted_tokens} right", flush=True)
    return 0 if rounds.print({(task, WITHOUT): Goal(bound) for task, bound in GOALS.items()}) else 1


def measured(engine: Engine, text: str, config: GenerationConfig, seed: int) -> tuple[Reply, float]:
    """A reply, and the processor's seconds that it took behind its prompt."""
    stream = ReplyStream(engine, build_prompt(engine, [Turn("user", text)]), lambda index: config, seed)
    stream.prefill()
    began = time.process_time()
    for _ in stream:
        pass
    return stream.reply(), time.process_time() - began


if __name__ == "__main__":
    raise SystemExit(main())
