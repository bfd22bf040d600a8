"""Kinds of networks that transformers knows and no stored model stands for: made at random here, and read in every way.

Run by hand, as `test_extras.py` is.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import DATA
from tests.engine.test_extras import behind, opened, text

pytestmark = [
    pytest.mark.extras,
    pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed"),
]

SIZES = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "intermediate_size": 96, "num_key_value_heads": 2}


def described(name: str) -> dict[str, Any]:
    """The config.json of a stored model."""
    (path,) = DATA.glob(f"architectures*/{name}/config.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def made(kind: str) -> Any:
    """A network with random weights."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    match kind:
        case "reads pictures, recurrent":
            sight = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
            config = hf.Qwen3_5Config(text_config=described("qwen3_5"), vision_config=sight)
            return hf.Qwen3_5ForConditionalGeneration(config)
        case "reads pictures, windows":
            config = hf.Gemma4Config(text_config=described("gemma4_text"), vision_config=None, audio_config=None)
            return hf.Gemma4ForConditionalGeneration(config)
        case "takes what follows token by token":
            layers = {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}
            return hf.JambaForCausalLM(hf.JambaConfig(**SIZES, **HEADS, **layers))
        case _:
            return hf.RwkvForCausalLM(hf.RwkvConfig(**SIZES))


@pytest.mark.parametrize(
    ("kind", "reading"),
    [
        ("reads pictures, recurrent", "pieces"),
        ("reads pictures, windows", "pieces"),
        ("takes what follows token by token", "tokens"),
        ("has no cache that others can keep", "anew"),
    ],
)
def test_every_way_of_reading_says_what_the_whole_text_says(kind: str, reading: str, tmp_path: Path) -> None:
    """What is read anew, on behind a part, after going back, and by lanes has the logits of transformers' one pass."""
    import torch

    network = made(kind).eval()
    network.save_pretrained(tmp_path)
    engine: Any = opened(tmp_path)
    assert engine.model.reading == reading

    def expected(ids: list[int]) -> Any:
        with torch.inference_mode():
            return network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].numpy()

    first, known = text(1, 60), slice(0, engine.tokenizer.vocab_size)
    for ids in (first, [*first, *text(2, 9)], first[:50], [*first[:55], *text(3, 9)]):
        assert np.abs(behind(engine, ids) - expected(ids))[known].max() < 1e-4
    lanes = engine.fork(2)
    for token, row in zip((7, 8), lanes.decode([7, 8]), strict=True):
        assert np.abs(row - expected([*ids, token]))[known].max() < 1e-4
