"""Real, small GGUF models that say what a test wants: each token of their reply is followed by the next.

Attention and feed-forward are zero, the embedding is the identity, and the output layer has a large
weight where one token is to follow another; so greedy decoding spells the reply and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

END = "<|im_end|>"
CONTROL, USER_DEFINED, NORMAL, UNUSED = 3, 4, 1, 5

QWEN = (
    "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' }}"
    "{% if m.role == 'assistant' and loop.last and m.reasoning_content %}"
    "{{ '<think>\n' ~ m.reasoning_content ~ '\n</think>\n\n' }}{% endif %}"
    "{{ m.content ~ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
"""In the manner of Qwen 3: the model opens its thought itself, unless thinking is switched off."""

OPENING = QWEN.replace("{% endif %}{% endif %}", "{% else %}{{ '<think>\n' }}{% endif %}{% endif %}")
"""In the manner of Qwen 3.5 and DeepSeek R1: the template opens the thought."""

HARMONY = (
    "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
    "{{ '<|start|>system<|message|>Reasoning: ' ~ reasoning_effort ~ '<|end|>' }}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' ~ m.content ~ '<|end|>' }}"
    "{% else %}{{ '<|start|>' ~ m.role ~ '<|message|>' ~ m.content ~ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
"""In the manner of gpt-oss."""

THOUGHT = ("<think>", "\n\t", "Let me", " see.", "\n- a", " list", "</think>", "\n\n", "It is", " blue", ".")
"""A reply with a thought that has a list in it."""


def spell(path: Path, reply: Sequence[str], template: str, *, controls: Sequence[str] = (), context: int = 512) -> None:
    """Write a model.

    Args:
        path: The new file.
        reply: Its pieces, each once; END follows, and the first piece follows whatever is none of them.
        template: The chat template.
        controls: The control tokens beside those of ChatML.
        context: How many tokens fit.
    """
    alphabet = sorted(ByteLevel.alphabet())
    special = ["<|im_start|>", END, *controls]
    marks = [piece for piece in reply if piece.startswith("<") and piece not in special]
    words = [piece for piece in reply if piece not in special and piece not in marks and len(piece.encode()) > 1]
    spelled = [_spelled(word) for word in words]
    pieces = [*special, *marks, *alphabet, *spelled]
    types = [CONTROL] * len(special) + [USER_DEFINED] * len(marks) + [NORMAL] * (len(alphabet) + len(words))
    width = -(-len(pieces) // 32) * 32
    types += [UNUSED] * (width - len(pieces))
    pieces += [f"<unused{number}>" for number in range(width - len(pieces))]
    names = {
        **{piece: at for at, piece in enumerate(pieces)},
        **{word: pieces.index(form) for word, form in zip(words, spelled, strict=True)},
        **{piece: pieces.index(_spelled(piece)) for piece in reply if len(piece) == 1},
    }
    order = [names[piece] for piece in (*reply, END)]
    output = np.zeros((width, width), np.float32)
    output[order[0], :] = 20.0
    for here, after in pairwise(order):
        output[:, here] = 0.0
        output[after, here] = 20.0
    _write(path, pieces, types, output, template, names, context)


def _spelled(word: str) -> str:
    """A word in the letters that byte-level vocabularies have for bytes."""
    return ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)[0][0]


def _write(
    path: Path,
    pieces: list[str],
    types: list[int],
    output: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    template: str,
    names: dict[str, int],
    context: int,
) -> None:
    width, hidden = len(pieces), 32
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in (
        ("block_count", 1), ("context_length", context), ("embedding_length", width), ("feed_forward_length", hidden),
        ("attention.head_count", 1), ("attention.head_count_kv", 1), ("rope.dimension_count", width),
    ):  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(pieces)
    writer.add_token_types(types)
    writer.add_token_merges([])
    writer.add_eos_token_id(names[END])
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    shapes = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width)}
    shapes |= {"attn_output": (width, width), "ffn_gate": (hidden, width), "ffn_up": (hidden, width)}
    shapes["ffn_down"] = (width, hidden)
    writer.add_tensor("token_embd.weight", np.eye(width, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("output.weight", output)
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(width, np.float32))
    for name, shape in shapes.items():
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
