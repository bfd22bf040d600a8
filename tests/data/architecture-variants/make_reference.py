"""Make small random models of what files of one architecture differ in, and transformers' logits of them.

    python make_reference.py [NAME ...]

Needs `transformers` and `torch`. Writes one directory for each beside itself, weights in bfloat16, with
`reference.npz`: `ids` (200 of them, more than any window here or than the original length of what is stretched),
`positions`, and `logits` (float32, a row for each position: those behind the ids up to it, read at once, computed
in float32 with eager attention).
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

LENGTH, POSITIONS, VOCABULARY = 200, (6, 40, 130, 199), 128
USUAL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 3,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
WINDOW = {"sliding_window": 24}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
HALF = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 128,
    "short_factor": [1.0, 1.1, 1.2, 1.5],
    "long_factor": [1.0, 2.0, 3.0, 6.0],
}
MINISTRAL = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1, "type": "yarn"}
GRANITE = {
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "logits_scaling": 2.5,
}
GEMMA4: dict[str, Any] = {
    **WINDOW,
    "num_hidden_layers": 6,
    "head_dim": 16,
    "global_head_dim": 32,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
    },
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama_yarn": ("Llama", {"rope_parameters": YARN}),
    "llama_yarn_told": (
        "Llama",
        {"rope_parameters": {**YARN, "attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0}},
    ),
    "llama_head_dim": ("Llama", {"head_dim": 16, "attention_bias": True, "mlp_bias": True}),
    "arcee": ("Arcee", {"mlp_bias": True, "attention_bias": True}),
    "mistral_window": ("Mistral", WINDOW),
    "mixtral_window": ("Mixtral", {**WINDOW, **EXPERTS}),
    "ministral3": ("Ministral3", {**WINDOW, "rope_parameters": MINISTRAL, "head_dim": 8}),
    "qwen2_window": ("Qwen2", {**WINDOW, "use_sliding_window": True, "max_window_layers": 1}),
    "qwen3_window": ("Qwen3", {**WINDOW, "use_sliding_window": True, "max_window_layers": 2, "head_dim": 16}),
    "qwen2_moe_sparse": (
        "Qwen2Moe",
        {
            "num_hidden_layers": 5,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            "norm_topk_prob": True,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
        },
    ),
    "qwen3_moe_sparse": (
        "Qwen3Moe",
        {
            "num_hidden_layers": 4,
            "mlp_only_layers": [1],
            "norm_topk_prob": False,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "head_dim": 16,
        },
    ),
    "gemma2": ("Gemma2", {**WINDOW, "num_hidden_layers": 4, "head_dim": 16, "query_pre_attn_scalar": 20}),
    "gemma3": (
        "Gemma3Text",
        {
            **WINDOW,
            "num_hidden_layers": 7,
            "head_dim": 16,
            "query_pre_attn_scalar": 20,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
            },
        },
    ),
    "gemma4_sharing": (
        "Gemma4Text",
        {
            **GEMMA4,
            "num_kv_shared_layers": 3,
            "use_double_wide_mlp": True,
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "final_logit_softcapping": 6.0,
        },
    ),
    "gemma4_keys": (
        "Gemma4Text",
        {
            **GEMMA4,
            "num_hidden_layers": 3,
            "layer_types": GEMMA4["layer_types"][:3],
            "hidden_size_per_layer_input": 0,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
        },
    ),
    "gemma4_mixture": (
        "Gemma4Text",
        {
            **GEMMA4,
            "num_hidden_layers": 3,
            "layer_types": GEMMA4["layer_types"][:3],
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
    ),
    "olmo_clipped": ("Olmo", {"clip_qkv": 0.8}),
    "olmo3": ("Olmo3", {**WINDOW, "num_hidden_layers": 6, "rope_parameters": YARN}),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 6, "no_rope_layers": [1, 0, 1, 1, 0, 1]}),
    "gpt_oss": ("GptOss", {**WINDOW, **EXPERTS, "num_hidden_layers": 4, "head_dim": 8}),
    "cohere_norms": ("Cohere", {"use_qk_norm": True, "logit_scale": 0.3}),
    "cohere2": ("Cohere2", {**WINDOW, "num_hidden_layers": 6, "logit_scale": 0.3}),
    "exaone4": ("Exaone4", {**WINDOW, "num_hidden_layers": 6, "sliding_window_pattern": 4}),
    "exaone4_full": ("Exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 3}),
    "phi_norms": ("Phi", {"qk_layernorm": True, "partial_rotary_factor": 0.5, "num_key_value_heads": 4}),
    "phi3_longrope": (
        "Phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 128, "sliding_window": 100},
    ),
    "phi3_partial": (
        "Phi3",
        {"rope_parameters": HALF},
    ),
    "granite": ("Granite", {**GRANITE, "attention_bias": True}),
    "granitemoe": ("GraniteMoe", {**GRANITE, **EXPERTS}),
    "stablelm_parallel": (
        "StableLm",
        {"use_parallel_residual": True, "qk_layernorm": True, "partial_rotary_factor": 0.25, "head_dim": 8},
    ),
    "stablelm_biases": ("StableLm", {"use_qkv_bias": True, "partial_rotary_factor": 0.5}),
    "starcoder2_plain": ("Starcoder2", {**WINDOW, "use_bias": False}),
    "gpt_neox_serial": (
        "GPTNeoX",
        {
            "use_parallel_residual": False,
            "hidden_act": "gelu_new",
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        },
    ),
    "gpt2_inner": (
        "GPT2",
        GPT2 | {"n_inner": 40, "activation_function": "gelu"},
    ),
    "falcon_two_norms": ("Falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_one_norm": (
        "Falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1, "bias": True},
    ),
    "falcon_all_heads": ("Falcon", {"multi_query": False, "bias": True}),
    "falcon_serial": ("Falcon", {"parallel_attn": False, "multi_query": True}),
    "glm4": ("Glm4", {"head_dim": 16, "attention_bias": True, "num_hidden_layers": 2}),
    "seed_oss": ("SeedOss", {"head_dim": 16, "attention_bias": True, "attention_out_bias": True}),
    "ernie_biases": ("Ernie4_5", {"use_bias": True, "head_dim": 16}),
    "hunyuan": ("HunYuanDenseV1", {"head_dim": 16}),
}


def main() -> None:
    """Make those that are named, or all."""
    for name in sys.argv[1:] or VARIANTS:
        make(name)


def make(name: str) -> None:
    """Write one model and its logits."""
    kind, changes = VARIANTS[name]
    config = getattr(transformers, f"{kind}Config")(**USUAL | changes)
    config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    is_offset = kind in ("Gemma2", "Gemma3Text")
    with torch.no_grad():
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("layer_scalar"):
                buffer.fill_(0.75)
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1 and "norm" in parameter_name and "bias" not in parameter_name:
                noise = noise * 0.2 + (0.0 if is_offset else 1.0)
            elif "norm" in parameter_name or "ln_" in parameter_name or "layernorm" in parameter_name:
                noise = noise * 0.2 + (1.0 if parameter_name.endswith("weight") else 0.0)
            elif parameter.dim() > 1:
                noise *= 1.2 / math.sqrt(parameter.shape[-1])
            else:
                noise *= 0.3
            if kind == "Gemma4Text" and parameter_name.endswith("q_norm.weight"):
                noise *= 0.3  # Its scores are not scaled: else rounding grows too much.
            parameter.copy_(noise.bfloat16().float())
    ids = torch.randint(4, VOCABULARY, (LENGTH,), generator=generator)
    with torch.inference_mode():
        rows = [model(ids[None, : position + 1], use_cache=False).logits[0, -1] for position in POSITIONS]
    directory = Path(__file__).parent / name
    shutil.rmtree(directory, ignore_errors=True)
    model.bfloat16().save_pretrained(directory)
    described = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(described, indent=1) + "\n")
    (directory / "generation_config.json").unlink(missing_ok=True)
    np.savez(
        directory / "reference.npz",
        ids=ids.numpy().astype(np.int16),
        positions=POSITIONS,
        logits=torch.stack(rows).numpy(),
    )


if __name__ == "__main__":
    main()
