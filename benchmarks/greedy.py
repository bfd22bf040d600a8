"""Whether a GGUF file says the same on llmchat as on transformers, which dequantises it by code of its own (gguf-py).

    python -m benchmarks.greedy MODEL... [--threads N] [--tokens N]

Both answer five prompts greedily. Where they part, the logits of both tokens must be a tie in transformers' float32
reading: the native step rounds activations, to 16 bits for each group. A line for each prompt; 1 if one of them parts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.fidelity import PROMPTS, first_difference
from benchmarks.peers import OurEngine, Transformers, open_ours
from llmchat.chat.turn import Turn
from llmchat.engine.prompt import build_prompt


def prompt_ids(ours: OurEngine, text: str) -> Sequence[int]:
    """A question as the model is given it: in its template, or as a text that it goes on with."""
    return build_prompt(ours.engine, [Turn("user", text)]).token_ids


def compare(path: str, threads: int, tokens: int) -> bool:
    """Print where each prompt's replies part; whether none does."""
    ours, reference, is_equal = open_ours(path, threads), Transformers(path, threads), True
    for text in PROMPTS[:5]:
        at, apart = first_difference(reference, [ours], prompt_ids(ours, text), tokens)[ours.name]
        is_equal = is_equal and at == tokens
        print(
            f"{path}: {text!r}: {at} of {tokens} equal" + (f", then {apart:.4f} apart" if at < tokens else ""),
            flush=True,
        )
    return is_equal


def main() -> int:
    """Run all files; 0 if all replies are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="GGUF files")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=40)
    arguments = parser.parse_args()
    results = [compare(path, arguments.threads, arguments.tokens) for path in arguments.models]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
