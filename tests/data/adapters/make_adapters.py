"""Make small random LoRA adapters of the models in ../architectures with PEFT, and the logits that PEFT computes.

    python make_adapters.py

Needs `peft`, `transformers` and `torch`. Writes a directory for each beside itself, as PEFT saves it, its numbers in
bfloat16, with `reference.npz`: `ids`, `positions`, and `logits` (float32, a row for each position: those behind the
ids up to it, read at once with the whole adapter added). `llama.gguf` is what llama.cpp's convert_lora_to_gguf.py
makes of the first, with --outtype bf16.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
POSITIONS = (0, 7, 23)
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"r": 2, "lora_alpha": 4, "target_modules": [*ALL, "lm_head"]}),
    "qwen2": (
        "qwen2",
        {
            "r": 3,
            "lora_alpha": 6,
            "use_rslora": True,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "rank_pattern": {"v_proj": 2},
            "alpha_pattern": {"down_proj": 3, "layers.1.self_attn.q_proj": 12},
        },
    ),
    "gpt2": ("gpt2", {"r": 2, "lora_alpha": 4, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "gemma": ("gemma", {"r": 2, "lora_alpha": 3, "target_modules": [*ALL]}),
    "phi3": ("phi3", {"r": 2, "lora_alpha": 4, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]}),
    "falcon": ("falcon", {"r": 2, "lora_alpha": 4, "target_modules": ["query_key_value", "dense_h_to_4h"]}),
}


def make(name: str, base: str, settings: dict[str, Any]) -> None:
    """One adapter and its reference."""
    torch.manual_seed(len(name))
    model = AutoModelForCausalLM.from_pretrained(HERE.parent / "architectures" / base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)).eval()
    for parameter_name, parameter in adapted.named_parameters():
        if "lora_" in parameter_name:
            values = torch.randn_like(parameter) * 0.15
            parameter.data = values.bfloat16().float()
    adapted.peft_config["default"].base_model_name_or_path = base
    place = HERE / name
    shutil.rmtree(place, ignore_errors=True)
    adapted.save_pretrained(place, save_embedding_layers=False)
    weights = place / "adapter_model.safetensors"
    save_file({key: value.bfloat16() for key, value in load_file(weights).items()}, weights)
    weights.chmod(0o644)
    (place / "README.md").unlink(missing_ok=True)
    ids = torch.randint(4, model.config.vocab_size, (POSITIONS[-1] + 1,))
    with torch.no_grad():
        rows = [adapted(ids[None, : position + 1]).logits[0, -1].numpy() for position in POSITIONS]
        with adapted.disable_adapter():
            moved = np.abs(adapted(ids[None]).logits[0, -1].numpy() - rows[-1]).max()
    print(f"{name}: the adapter moves logits by up to {moved:.2f}")
    np.savez_compressed(place / "reference.npz", ids=ids.numpy(), positions=POSITIONS, logits=np.stack(rows))


if __name__ == "__main__":
    for own_name, (base_name, given) in ADAPTERS.items():
        make(own_name, base_name, given)
