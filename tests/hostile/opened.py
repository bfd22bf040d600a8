"""What llmchat does with a model or a tokenizer that has opened: texts become ids, ids a reply."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from random import Random

from llmchat.api import load
from llmchat.chat.turn import Turn
from llmchat.errors import LlmchatError
from llmchat.tokenizers.tokenizer import Tokenizer

DATA = Path(__file__).parents[1] / "data"
TEXTS = (
    "Alice was beginning to get very tired.",
    "  two  blanks\tand\na line ",
    "naïve café 你好 😀",
    "<s>no</s> <unk>",
    "",
)
_ON_TORCH = float(os.environ.get("HOSTILE_ON_TORCH", "0.05"))
"""The share of the models that torch runs, which takes longer."""


def converse(model_path: Path, *, tokenizer: Path | None = None) -> None:
    """Open a model, give it a conversation, and let it answer with two tokens.

    Raises:
        LlmchatError: As it is right for a model that cannot be used.
    """
    size = sum(file.stat().st_size for file in (model_path.rglob("*") if model_path.is_dir() else [model_path]))
    dtype = "float32" if Random(size).random() < _ON_TORCH else "auto"
    model = load(model_path, tokenizer, device="cpu", dtype=dtype, threads=1)
    use(model._engine.tokenizer)
    turns = (
        Turn("system", "Be brief."),
        Turn("user", "Hello there"),
        Turn("assistant", "Yes?"),
        Turn("user", "Say more"),
    )
    failed: LlmchatError | None = None
    for prompt, raw in ((turns, False), ("Alice was", True)):
        try:
            model.generate(prompt, raw=raw, max_new_tokens=2, seed=1)
        except LlmchatError as error:
            failed = error
    if failed is not None:
        raise failed


def use(tokenizer: Tokenizer) -> None:
    """Ask a tokenizer for all that llmchat asks one for."""
    for text, parse_special in itertools.product(TEXTS, (False, True)):
        ids = tokenizer.encode(text, parse_special=parse_special)
        tokenizer.decode(ids)
    size = tokenizer.vocab_size
    special = [one for one in (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) if one is not None]
    for token_id in (0, 1, 2, 3, 40, 260, size // 2, size - 1, size, size + 1000, *special):
        tokenizer.token_bytes(token_id)
        tokenizer.token_text(token_id)
        tokenizer.is_control(token_id)
    tokenizer.decode([0, size - 1, size])
    tokenizer.find("<|im_end|>")
