"""How long a conversation that is opened again takes to its first token, with what was read of it kept and without.

A long conversation is begun by one process and gone on with by others, with and without its KV cache, by turns. What is
told is the time from the request to the first token; the model is open by then.

Run with: python -m benchmarks.resume [MODEL] [--rounds N] [--tokens N] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.rounds import Goal, Rounds

_WORDS_OF_A_TOKEN = 0.72
_SENTENCE = "On day {day} the ship lay {depth} fathoms deep off the cape and the crew counted {birds} birds. "


def main() -> int:
    """Measure, print, and return 0 if a kept conversation is as quick as it is to be."""
    parser = argparse.ArgumentParser(description="A conversation that is opened again, to its first token.")
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    rounds = Rounds("s")
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "log.toml"
        words = ["--threads", str(arguments.threads), "--save", str(path)]
        words += ["--model", arguments.model] if arguments.model else []
        count = int(arguments.tokens * _WORDS_OF_A_TOKEN) // len(_SENTENCE.split())
        text = "".join(_SENTENCE.format(day=day, depth=day * 7 % 90, birds=day * 31 % 400) for day in range(count))
        first = reply(home, [*words, "--prompt-file", "-"], f"{text}\nHow deep was it on day 20?")
        print(f"{first['model']}: a prompt of {first['usage']['prompt_tokens']} tokens")
        for _ in range(arguments.rounds):
            for name, flags in (("llmchat", []), ("without", ["--no-kv-cache"])):
                told = reply(home, [*words, *flags, "--prompt", "And on day 21?"], "")
                rounds.add("first token", name, told["timings"]["time_to_first_token_seconds"])
                print(f"{name}: {told['usage']['cached_tokens']} of {told['usage']['prompt_tokens']} known", flush=True)
    return 0 if rounds.print({("first token", "without"): Goal(0.1, at_most=True)}) else 1


def reply(home: str, words: list[str], said: str) -> dict[str, Any]:
    """What a process of its own tells of a short reply."""
    command = [sys.executable, "-m", "llmchat", "--once", "--json", "-n", "8", "--seed", "1", *words]
    # Models are found where they are; everything else is kept apart.
    env = {**os.environ, "XDG_CACHE_HOME": f"{home}/cache", "XDG_STATE_HOME": f"{home}/state"}
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=True, env=env)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


if __name__ == "__main__":
    raise SystemExit(main())
