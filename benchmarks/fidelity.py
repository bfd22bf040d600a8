"""How near the native step stays to the float32 torch reference, and llama.cpp beside it.

    python -m benchmarks.fidelity [MODEL] [--threads N] [--positions N] [--tokens N]

Two measures, both behind the same tokens for everyone. Divergence: the mean over the positions of a real
text (this project's README) of KL(reference || contender), in nats. Greedy tokens: the reference answers
ten prompts greedily; a contender that would have taken another token says so, unless the two
are tied in the reference, their logits less than 0.001 apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers import OurEngine, Peer, model_path, open_ours, open_peers
from benchmarks.rounds import Goal, print_table
from llmchat.chat.turn import Turn
from llmchat.engine.engine import Logits
from llmchat.engine.prompt import build_prompt

TEXT = Path(__file__).resolve().parent.parent / "README.md"
PROMPTS = (
    "Tell me about the sea, as if it were a person.",
    "Name three seas.",
    "Write a short poem about winter.",
    "What is photosynthesis?",
    "How do I bake bread?",
    "Explain recursion to a child.",
    "Write a Python function that adds two numbers.",
    "Who was Ada Lovelace?",
    "Give me five tips for better sleep.",
    "Translate 'good morning' into French.",
)
TIE = 1e-3
MOST_KL = Goal(1e-5, at_most=True)


def log_probabilities(logits: Logits) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of the whole vocabulary, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    normalised: np.ndarray[tuple[int], np.dtype[np.float64]] = wide - np.log(np.exp(wide).sum())
    return normalised


def divergence(reference: Logits, other: Logits) -> float:
    """KL(reference || other) in nats, over the tokens that the reference gives any probability."""
    ours, theirs = log_probabilities(reference), log_probabilities(other)
    known = np.isfinite(ours)
    return float(np.sum(np.exp(ours[known]) * (ours[known] - theirs[: len(ours)][known])))


def divergences(reference: Peer, contenders: Sequence[Peer], ids: Sequence[int]) -> dict[str, list[float]]:
    """KL at every position of a text."""
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for one in (reference, *contenders):
        one.read(ids[:1])
    for token in ids[1:]:
        for contender in contenders:
            found[contender.name].append(divergence(reference.logits(), contender.logits()))
        for one in (reference, *contenders):
            one.decode(token)
    return found


def first_difference(
    reference: Peer, contenders: Sequence[Peer], prompt: Sequence[int], tokens: int
) -> dict[str, tuple[int, float]]:
    """The index of the first greedy token that is another, and how far apart the two are in the reference's logits.

    Ties aside; (tokens, 0) where there is none.
    """
    found = {contender.name: (tokens, 0.0) for contender in contenders}
    for one in (reference, *contenders):
        one.read(prompt)
    for index in range(tokens):
        logits = reference.logits()
        token = int(logits.argmax())
        for contender in contenders:
            gap = float(logits[token] - logits[int(contender.logits().argmax())])
            if gap > TIE and index < found[contender.name][0]:
                found[contender.name] = index, gap
        for one in (reference, *contenders):
            one.decode(token)
    return found


def main() -> int:
    """Measure and print; 0 if llmchat is as near as it is to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=100)
    options = parser.parse_args()
    path = model_path(options.model)
    reference, ours = open_ours(path, options.threads, "float32"), open_ours(path, options.threads)
    contenders: list[Peer] = [ours, *open_peers(path, options.threads, ["llama.cpp"])]
    text = ours.engine.tokenizer.encode(TEXT.read_text(encoding="utf-8"))[: options.positions + 1]
    distances = divergences(reference, contenders, text)
    found = [first_difference(reference, contenders, _prompt(ours, prompt), options.tokens) for prompt in PROMPTS]
    rows = []
    for contender in contenders:
        distance, differences = distances[contender.name], [differences[contender.name] for differences in found]
        whole = sum(index == options.tokens for index, _ in differences)
        index, gap = min(differences)
        first = "" if index == options.tokens else f"token {index}, by {gap:.4f}"
        greedy = f"{whole} of {len(PROMPTS)} prompts"
        rows.append([contender.name, f"{np.mean(distance):.1e}", f"{max(distance):.1e}", greedy, first])
    head = ["against torch float32", f"mean KL of {len(text) - 1} positions", "largest", "greedy tokens equal"]
    print_table([*head, "first that is not"], rows)
    mean, all_equal = float(np.mean(distances[ours.name])), all(one[ours.name][0] == options.tokens for one in found)
    return 0 if MOST_KL.is_reached(mean) and all_equal else 1


def _prompt(ours: OurEngine, text: str) -> Sequence[int]:
    return build_prompt(ours.engine, [Turn("user", text)]).token_ids


if __name__ == "__main__":
    raise SystemExit(main())
