"""Make tiny random models of every type that llmchat opens, and their logits, with Hugging Face transformers.

    python make_reference.py

Needs `transformers`, `tokenizers` and `torch`. Writes one directory per model beside itself,
as `save_pretrained` does, each with `logits.npy`: float32, shape (ids, vocab_size), of `IDS`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

IDS = [3, 17, 42, 5, 63, 0, 29, 29, 11, 50, 1, 8, 33, 60, 22, 7]
VOCAB_SIZE = 64
SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": None,
    # Large enough that attention and the layers matter for the logits.
    "initializer_range": 0.4,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def main() -> None:
    """Write every model."""
    lm = transformers
    make("llama", lm.LlamaConfig(**SIZES, head_dim=8, rope_parameters=LLAMA3), "12KB")
    make("mistral", lm.MistralConfig(**SIZES, sliding_window=None), dtype=torch.bfloat16)
    make("qwen2", lm.Qwen2Config(**SIZES, tie_word_embeddings=True))
    make("qwen3", lm.Qwen3Config(**SIZES, head_dim=12))


def make(name: str, config: object, shards: str = "1GB", dtype: torch.dtype = torch.float32) -> None:
    """Write one model, its tokenizer and its logits."""
    directory = Path(__file__).parent / name
    shutil.rmtree(directory, ignore_errors=True)
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for key, parameter in model.named_parameters():
        # Fresh biases are 0 and fresh norms 1, which would hide mistakes.
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=float("norm" in key), std=0.3)
    model.to(dtype).save_pretrained(directory, max_shard_size=shards)
    # Read anew, because a model that was made float32 again keeps rounded rotary frequencies.
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([IDS])).logits[0]
    np.save(directory / "logits.npy", logits.numpy())
    write_tokenizer(directory)


def write_tokenizer(directory: Path) -> None:
    """A tokenizer of single letters, with a chat template."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    vocabulary = {piece: index for index, piece in enumerate([*special, *letters][:VOCAB_SIZE])}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    backend.add_special_tokens(special)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", chat_template=TEMPLATE
    )
    fast.save_pretrained(directory)


if __name__ == "__main__":
    main()
