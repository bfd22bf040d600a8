"""Time to the first token on turn 5 of a chat of about 1,000 tokens, when the four turns before have been read.

    python -m benchmarks.first_token [MODEL] [--threads N] [--rounds N]

llmchat's worker, llama-server on the loopback interface with its prompt cache, and transformers, which
reads the whole history again, answer the same messages by turns. Each takes the messages and
ends with the first token: chat template, tokenizer and, for the server, HTTP are included.
A round's question differs from the last one's in its first word, so that no one has read it before.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.peers import OurEngine, Peer, model_path, open_ours, open_peers
from benchmarks.programs import llama_program
from benchmarks.rounds import Goal, Rounds
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Turn
from llmchat.engine.opened import PreparedModel
from llmchat.engine.prompt import build_prompt
from llmchat.worker.inference_worker import InferenceWorker
from llmchat.worker.messages import (
    Event,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    LoadRequest,
    PromptProcessed,
    TokensGenerated,
)

REPLY_TOKENS = 215
QUESTIONS = (
    "Tell me about the sea, as if it were a person.",
    "What does she do in winter?",
    "Who lives on her shore?",
    "What do they fear?",
)
LAST = ("Why", "How", "When", "Where", "With whom", "Since when", "For whom", "On what day", "In which town")

Ask = Callable[[Sequence[Turn]], float]
"""Seconds from some turns to the first token of the answer."""


class OurWorker:
    """llmchat's worker thread with a model that is open."""

    def __init__(self, engine: OurEngine) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._worker = InferenceWorker(
            self._events.put, lambda request, progress: PreparedModel("the model", lambda: engine.engine)
        )
        self._worker.start()
        self._worker.submit(LoadRequest(ModelSpec()))
        self.prompt_tokens = self.cached_tokens = 0

    def answer(self, turns: Sequence[Turn], tokens: int) -> tuple[str, float]:
        """The reply's text, and the seconds to its first token."""
        config = GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens)
        began, first = time.perf_counter(), 0.0
        self._worker.submit(GenerationRequest(tuple(turns), lambda index: config, seed=8417))
        while True:
            match event := self._events.get():
                case PromptProcessed():
                    self.prompt_tokens, self.cached_tokens = event.prompt_tokens, event.cached_tokens
                case TokensGenerated() if not first:
                    first = time.perf_counter() - began
                case GenerationFinished():
                    return event.reply.text, first
                case GenerationFailed():
                    raise event.error

    def ask(self, turns: Sequence[Turn]) -> float:
        """Seconds to the first token."""
        return self.answer(turns, 1)[1]

    def close(self) -> None:
        """End the thread."""
        self._worker.close()


@contextlib.contextmanager
def llama_server(program: str, path: str, threads: int) -> Iterator[Ask]:
    """llama.cpp's server on a free port, ended in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-m", path, "-t", str(threads), "-tb", str(threads), "-c", "2048", "-np", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--jinja"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not _is_ready(port):
                if process.poll() is not None:
                    sys.exit(f"{program} ended with {process.returncode}.")
                time.sleep(0.05)
            yield lambda turns: _ask_server(port, turns)
        finally:
            process.terminate()


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def _ask_server(port: int, turns: Sequence[Turn]) -> float:
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    body = {"messages": messages, "max_tokens": 1, "temperature": 0, "cache_prompt": True, "stream": True}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        began = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        for line in connection.getresponse():
            if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                return time.perf_counter() - began
    sys.exit("llama-server gave no token.")


def ask_again(ours: OurEngine, peer: Peer) -> Ask:
    """A peer that keeps nothing between turns."""

    def ask(turns: Sequence[Turn]) -> float:
        began = time.perf_counter()
        peer.read(build_prompt(ours.engine, turns).token_ids)
        peer.logits().argmax()
        return time.perf_counter() - began

    return ask


def main() -> int:
    """Run the rounds; 0 if every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    path = model_path(options.model)
    ours = open_ours(path, options.threads)
    worker = OurWorker(ours)
    with contextlib.ExitStack() as stack:
        stack.callback(worker.close)
        contenders: dict[str, Ask] = {"llmchat": worker.ask}
        if (program := llama_program("llama-server")) is not None:
            contenders["llama-server"] = stack.enter_context(llama_server(program, path, options.threads))
        for peer in open_peers(path, options.threads, ["transformers"]):
            contenders[peer.name] = ask_again(ours, peer)
        return 0 if compare(worker, contenders, options.rounds) else 1


def compare(worker: OurWorker, contenders: dict[str, Ask], rounds: int) -> bool:
    """Hold four turns, then ask the fifth again and again; returns whether every goal was reached."""
    turns: list[Turn] = []
    for question in QUESTIONS:
        turns.append(Turn("user", question))
        turns.append(Turn("assistant", worker.answer(turns, REPLY_TOKENS)[0]))
    for ask in contenders.values():
        ask([*turns, Turn("user", "And then?")])
    table, figure = Rounds("s"), "first token of turn 5"
    for number in range(rounds):
        last = Turn("user", f"{LAST[number % len(LAST)]} does it end? Tell me in one short sentence.")
        for name, ask in contenders.items():
            table.add(figure, name, ask([*turns, last]))
    print(
        f"The prompt has {worker.prompt_tokens} tokens, of which llmchat had {worker.cached_tokens} in its KV cache.\n"
    )
    goals = {(figure, "llama-server"): Goal(1.0, at_most=True), (figure, "transformers"): Goal(0.1, at_most=True)}
    return table.print(goals)


if __name__ == "__main__":
    raise SystemExit(main())
