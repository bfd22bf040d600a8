"""Make the reference values of SmolLM2-135M-Instruct with Hugging Face transformers.

    python make_reference.py SmolLM2-135M-Instruct.Q4_1.gguf

Needs `transformers`, `gguf` and `torch`, which llmchat's tests do not. Writes, beside
itself, `reference.json` (prompts, their ids, 100 greedy ids each, and the smallest lead of
a greedy id over the second likeliest) and `logits.npz` (the logits of each prompt's last
position, float32, one array of vocabulary size per prompt). The model is computed in
float32 from the dequantised file; greedy ids go on past an end token.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

GREEDY_TOKENS = 100

CHATS = {
    "chat_sea": [{"role": "user", "content": "Tell me about the sea."}],
    "chat_unicode": [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": "Wie heißt „größer“ auf Englisch? 日本語も少し 🙂"},
        {"role": "assistant", "content": "“Bigger” or “larger”."},
        {"role": "user", "content": "And naïve café, in 3 words?"},
    ],
}
TEXTS = {
    "raw_story": "Once upon a time, in a small village by the river,",
    "raw_code": 'def fibonacci(n: int) -> int:\n    """Return the n-th Fibonacci number, 0-based."""\n',
    "raw_unicode": "Привет, мир! Ελληνικά, 中文 and العربية are languages. The year 2024 had 366 days; ½ of it is",
}


def main(gguf_path: Path) -> None:
    """Read the model once and write both files."""
    torch.set_num_threads(1)
    folder, file = str(gguf_path.parent), gguf_path.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()

    texts = {
        name: tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        for name, turns in CHATS.items()
    }
    prompts, logits = [], {}
    for name, text in (texts | TEXTS).items():
        ids = tokenizer.encode(text, add_special_tokens=False)
        last, greedy, lead = continue_greedily(model, ids)
        logits[name] = last
        prompts.append({"name": name, "text": text, "ids": ids, "greedy_ids": greedy, "smallest_lead": lead})

    made_with = {"transformers": transformers.__version__, "torch": torch.__version__, "model": file}
    here = Path(__file__).parent
    text = json.dumps({"made_with": made_with, "prompts": prompts}, ensure_ascii=False, indent=None)
    (here / "reference.json").write_text(text.replace('{"name"', '\n{"name"') + "\n", encoding="utf-8")
    np.savez_compressed(here / "logits.npz", allow_pickle=False, **logits)


@torch.inference_mode()
def continue_greedily(model: Any, ids: list[int]) -> tuple[np.ndarray, list[int], float]:
    """The last position's logits, the greedy ids, and the smallest lead of one of them in logits."""
    out = model(torch.tensor([ids]), use_cache=True)
    first = out.logits[0, -1].float()
    scores, greedy, leads = first, [], []
    while True:
        top = scores.topk(2)
        greedy.append(int(top.indices[0]))
        leads.append(float(top.values[0] - top.values[1]))
        if len(greedy) == GREEDY_TOKENS:
            return first.numpy(), greedy, min(leads)
        out = model(torch.tensor([greedy[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        scores = out.logits[0, -1].float()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
