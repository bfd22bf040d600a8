"""Descriptions of Gemma 4 that lie: of layers that share keys, of heads by layer, of layers' own embeddings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.huggingface import load_huggingface
from llmchat.errors import ModelLoadError
from tests.engine.test_architectures import TOKENIZER, VARIANTS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_kv_shared_layers": 6}, "no layer has the keys that others read"),
        ({"num_kv_shared_layers": 7}, "which layers share keys is wrong"),
        ({"num_kv_shared_layers": "three"}, "num_kv_shared_layers should be a whole number"),
        ({"num_kv_shared_layers": 0}, "'model.layers.3.self_attn.k_proj.weight' is missing"),
        ({"layer_types": ["sliding_attention"] * 6}, "no layer has the keys that others read"),
        ({"layer_types": ["spiral"] * 6}, "layers of the kind 'spiral'"),
        ({"per_layer_config": {"2": {"head_dim": 32}, "5": {"head_dim": 16}}}, "which layers share keys is wrong"),
        ({"per_layer_config": {"2": {"head_dim": 2**30}}}, "turns 0.25 of 1073741824 channels"),
        ({"per_layer_config": {"2": {"head_dim": -1}, "5": {"head_dim": -1}}}, "head_dim, rope scaling is wrong"),
        ({"per_layer_config": {"2": 7, "5": 7}}, "has shape"),
        ({"per_layer_config": [1]}, "per_layer_config should be a table"),
        ({"num_key_value_heads": 3}, "n_kv_heads is wrong"),
        ({"hidden_size_per_layer_input": -8}, "the width of the layers' own embeddings is wrong"),
        ({"hidden_size_per_layer_input": 0}, "no place for"),
        ({"hidden_size_per_layer_input": 2**30}, "has shape"),
        ({"enable_moe_block": True, "num_experts": 4, "top_k_experts": 9, "moe_intermediate_size": 8}, "expert_count"),
        ({"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2}, "does not say its moe_intermediate_size"),
    ],
)
def test_descriptions_that_cannot_be_run(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Each is refused in one line, before memory is taken for it."""
    copy = Path(shutil.copytree(VARIANTS / "gemma4_sharing", tmp_path / "model"))
    described = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(described | changes))
    with pytest.raises(ModelLoadError) as refused:
        load_huggingface(ModelSpec(str(copy), TOKENIZER), lambda stage, fraction: None)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
